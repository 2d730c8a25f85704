//! What the broker carries: the figures of docs/performance.md.
//!
//! `cargo bench -p bus` prints; nothing is asserted, because the numbers are the machine's. The
//! broker is a process of its own (this executable again), the client (`fe2o3-amqp`) another, both
//! on the same machine over TCP, with peek-lock and every settlement answered.

mod client;
mod process;

use std::error::Error;
use std::time::{Duration, Instant};

use process::{Mode, Process};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Messages in a run of single sends.
const SINGLE: usize = 60_000;

/// Messages in a run of batches, and in one batch: below the 256 KiB of a message.
const BATCHED: usize = 200_000;
const PER_BATCH: usize = 200;

/// Messages of the backlog.
const BACKLOG: usize = 1_000_000;

/// How long the load of the latency run lasts.
const LATENCY_FOR: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == "serve") {
        return process::serve(&arguments[2..]);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let idle = Process::start(Mode::Durable).await?;
    println!("idle                                        {:>8.1} MB", idle.resident_mb()?);
    drop(idle);
    for mode in [Mode::Durable, Mode::NoFsync, Mode::Memory] {
        println!("\n{mode}");
        throughput(mode).await?;
    }
    println!("\n{}", Mode::Durable);
    backlog().await
}

async fn throughput(mode: Mode) -> Result<()> {
    let process = Process::start(mode).await?;
    for (pairs, body) in [(1, 1_024), (2, 1_024), (1, 12)] {
        let mut rates = Vec::new();
        for _ in 0..2 {
            rates.push(client::pairs(process.address(), pairs, SINGLE, body).await?);
        }
        let rate = rates.into_iter().fold(0.0, f64::max);
        println!("single, {pairs} pair(s), {body:>5} B, window 200     {rate:>8.0} msg/s");
        if (pairs, body) == (1, 1_024) {
            let load = rate * 0.7;
            let latency = client::latency(process.address(), load, LATENCY_FOR).await?;
            println!("at {load:>6.0} msg/s, send to receipt          {latency}");
        }
    }
    let rate = client::batches(process.address(), "batched", BATCHED, PER_BATCH).await?;
    println!("batches of {PER_BATCH} x 1 KiB                       {rate:>8.0} msg/s");
    Ok(())
}

async fn backlog() -> Result<()> {
    let process = Process::start(Mode::Durable).await?;
    let rate = client::batches(process.address(), "backlog", BACKLOG, PER_BATCH).await?;
    println!("backlog of {BACKLOG} x 1 KiB, sent            {rate:>8.0} msg/s");
    println!("  resident                                  {:>8.1} MB", process.resident_mb()?);
    let begun = Instant::now();
    let process = process.restart().await?;
    println!(
        "  ready again after SIGKILL                 {:>8.1} s",
        begun.elapsed().as_secs_f64()
    );
    println!("  resident                                  {:>8.1} MB", process.resident_mb()?);
    let rate = client::drain(process.address(), "backlog", SINGLE).await?;
    println!("  received from it                          {rate:>8.0} msg/s");
    Ok(())
}
