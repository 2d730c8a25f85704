//! A proxied call against the same call direct to the handler.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Result;
use crate::app::{self, App};
use crate::process::{Process, processor_time};

/// Connections of the load that is not one call after the other.
const CONNECTIONS: usize = 16;

/// An answer is far smaller.
const ANSWER_MAX_BYTES: usize = 4_096;

/// Prints latency with one connection, and processor time per request with one and with many.
pub(crate) fn measure(requests: usize) -> Result<()> {
    let app = App::new(0, &[("Hop", app::http("hop"))])?;
    let mut host = Process::start(app.root(), &[])?;
    host.wait_until_ready()?;
    println!("HTTP hop, {requests} requests");
    for address in [host.handler, host.address] {
        calls(address, requests / 10)?;
    }
    let mut p50 = Vec::new();
    for (name, address) in [("direct", host.handler), ("host", host.address)] {
        let before = processor_time(host.pid())?;
        let mut times = calls(address, requests)?;
        let used = processor_time(host.pid())? - before;
        times.sort_unstable();
        let at = |per_mille: usize| micros(times[(times.len() - 1) * per_mille / 1_000]);
        println!(
            "  {name:<7} 1 connection     p50 {:>7.1} µs  p99 {:>7.1} µs   host process {:>6.1} µs each",
            at(500),
            at(990),
            micros(used) / number(requests)
        );
        p50.push(at(500));
    }
    println!("  added by the hop           p50 {:>7.1} µs", p50[1] - p50[0]);
    let before = processor_time(host.pid())?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let address = host.address;
        let load = || scope.spawn(move || calls(address, requests / CONNECTIONS));
        let running: Vec<_> = (0..CONNECTIONS).map(|_| load()).collect();
        for one in running {
            one.join().map_err(|_| "a connection panicked")??;
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let (elapsed, used) = (begun.elapsed(), processor_time(host.pid())? - before);
    let count = number(requests / CONNECTIONS * CONNECTIONS);
    println!(
        "  host    {CONNECTIONS} connections   {:>8.0} requests/s            host process {:>6.1} µs each",
        count / elapsed.as_secs_f64(),
        micros(used) / count
    );
    Ok(())
}

/// Calls one after the other over one connection; how long each took.
fn calls(address: SocketAddr, count: usize) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = "GET /api/hop HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (mut answer, mut times) = ([0; ANSWER_MAX_BYTES], Vec::with_capacity(count));
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(request.as_bytes())?;
        let mut read = 0;
        // The body is `{}`, and no header ends like that.
        while !answer[..read].ends_with(b"\r\n\r\n{}") {
            let more = stream.read(&mut answer[read..])?;
            if more == 0 {
                return Err("the connection was closed, or the answer is too long".into());
            }
            read += more;
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a count, for people")]
fn number(count: usize) -> f64 {
    count as f64
}
