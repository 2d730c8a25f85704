//! A backlog of messages through one app with the trivial handler.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bus::{Options, Server};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{Data, Message};
use fe2o3_amqp::types::primitives::Binary;
use fe2o3_amqp::{Connection, Sender, Session};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Result;
use crate::app::{self, App};
use crate::process::{Process, processor_time};

/// Sends that have not been answered.
const WINDOW: usize = 200;

/// How often the broker is asked whether all is done.
const LOOK: Duration = Duration::from_millis(5);

/// Prints messages per second and the processor time of each, by process.
pub(crate) async fn measure(messages: usize) -> Result<()> {
    println!("\ndispatch, a backlog of {messages} messages, journal without fsync");
    for (name, batch) in [("one message each", false), ("batches", true)] {
        run(name, batch, messages).await?;
    }
    Ok(())
}

async fn run(name: &str, batch: bool, messages: usize) -> Result<()> {
    let data = std::env::temp_dir().join(format!("host-bench-bus-{}", std::process::id()));
    let server = Server::bind(Options {
        namespace: serde_json::from_str(r#"{"queues": [{"name": "work"}]}"#)?,
        data: Some(data.clone()),
        fsync: false,
        ..Options::default()
    })
    .await?;
    let (broker, handle, stop) = (server.local_addr(), server.handle(), CancellationToken::new());
    let serving = TaskTracker::new().spawn(server.run(stop.clone()));
    publish(broker, messages).await?;

    let mut bindings = app::service_bus("work");
    if batch {
        bindings[0]["cardinality"] = "many".into();
        bindings[0]["dataType"] = "string".into();
    }
    let app = App::new(0, &[("Work", bindings), ("Hop", app::http("hop"))])?;
    let this = std::process::id();
    let mut host = Process::start(app.root(), &[("Bus", app::connection_string(broker))])?;
    host.wait_until_ready()?;
    let left = || {
        let status = handle.status();
        status.queues[0].active + status.queues[0].locked
    };
    let pids = [this, host.pid(), host.handler_pid()];
    let before = pids.map(processor_time);
    let (begun, first) = (Instant::now(), left());
    while left() > 0 {
        tokio::time::sleep(LOOK).await;
    }
    let elapsed = begun.elapsed();
    let mut used = Vec::new();
    for (pid, before) in pids.into_iter().zip(before) {
        used.push((processor_time(pid)? - before?).as_secs_f64() * 1e6 / count(first));
    }
    println!(
        "  {name:<18} {:>7.0} messages/s   each: broker {:>5.1} µs, host {:>5.1} µs, handler {:>5.1} µs",
        count(first) / elapsed.as_secs_f64(),
        used[0],
        used[1],
        used[2]
    );
    drop(host);
    stop.cancel();
    serving.await??;
    std::fs::remove_dir_all(data)?;
    Ok(())
}

async fn publish(broker: SocketAddr, messages: usize) -> Result<()> {
    let stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    let defaults = Options::default();
    let profile = SaslProfile::Plain {
        username: defaults.shared_access_key_name,
        password: defaults.shared_access_key,
    };
    let builder = Connection::builder().container_id("bench").sasl_profile(profile);
    let mut connection = builder.max_frame_size(65_536).open_with_stream(stream).await?;
    let mut session = Session::begin(&mut connection).await?;
    let mut sender = Sender::attach(&mut session, "bench", "work").await?;
    let mut under_way = VecDeque::new();
    for number in 0..messages {
        let body = format!(r#"{{"orderId":"o-{number}","quantity":2,"customer":{{"id":"c-1"}}}}"#);
        let message: Message<Data> =
            Message::builder().data(Binary::from(body.into_bytes())).build();
        under_way.push_back(sender.send_batchable(message).await?);
        if under_way.len() >= WINDOW
            && let Some(outcome) = under_way.pop_front()
        {
            outcome.await?;
        }
    }
    for outcome in under_way {
        outcome.await?;
    }
    sender.close().await?;
    connection.close().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a count, for people")]
fn count(number: usize) -> f64 {
    number as f64
}
