//! What the broker carries: the figures of docs/performance.md.
//!
//! `cargo bench -p bus` prints; nothing is asserted, because the numbers are the machine's.
//! `cargo bench -p bus -- singles memory` runs parts: `idle`, `singles`, `latency`, `batches`,
//! `backlog`, each for the ways to keep messages that are named: `durable`, `no-fsync`, `memory`.
//! `latency` takes 70 % of 25,000 messages a second, or of what is reached if that is less, unless
//! `rate=10000` says otherwise. `rabbitmq=127.0.0.1:5672` runs the single messages alone, on a
//! RabbitMQ 3 with its AMQP 1.0 plugin, for comparison.
//!
//! The broker is a process of its own (this executable again), the load another, both on the same
//! machine over TCP, with peek-lock and every settlement answered. Beside the rate stands what a
//! message costs in processor time, which is comparable between machines that are busy otherwise.

mod client;
mod process;
mod wire;

use std::error::Error;
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use process::{Broker, Door, Elsewhere, Folder, Mode, Process};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As in `stack`, which is what serves elsewhere.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Messages in a run of single sends.
const SINGLE: usize = 100_000;

/// Messages in a run of batches, and in one batch: below the 256 KiB of a message.
const BATCHED: usize = 200_000;
const PER_BATCH: usize = 200;

/// Messages of the backlog, and how many of them are received.
const BACKLOG: usize = 1_000_000;
const DRAINED: usize = 100_000;

/// How long the load of the latency run lasts.
const LATENCY_FOR: Duration = Duration::from_secs(8);

/// The load that latency is measured at: this part of what was reached, or of what is aimed at if
/// that is less.
const LATENCY_SHARE: f64 = 0.7;
const AIM: f64 = 25_000.0;

const PARTS: [&str; 5] = ["idle", "singles", "latency", "batches", "backlog"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return process::serve(&arguments[1..]);
    }
    let known = |name: &str| PARTS.contains(&name) || Mode::ALL.iter().any(|m| m.name() == name);
    let mut rate = None;
    for argument in &arguments {
        if let Some(address) = argument.strip_prefix("rabbitmq=") {
            println!("RabbitMQ, transient messages");
            let door = Door::rabbitmq(address.parse()?);
            return singles(&Elsewhere { door, process_name: "beam.smp" }).map(drop);
        }
        match argument.strip_prefix("rate=") {
            Some(text) => rate = Some(text.parse::<f64>()?),
            None if known(argument) => {}
            None => return Err(format!("{argument} is no part of this").into()),
        }
    }
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let any_part = PARTS.iter().any(|part| named(part));
    let any_mode = Mode::ALL.iter().any(|mode| named(mode.name()));
    let part = |name: &str| !any_part || named(name);
    let mode = |mode: Mode| !any_mode || named(mode.name());

    let folder = Folder::new();
    if part("idle") {
        let idle = Process::start(Mode::Durable, &folder)?;
        println!("idle: {:.1} MB", idle.resident_mb()?);
    }
    for each in Mode::ALL.into_iter().filter(|each| mode(*each)) {
        if part("singles") || part("latency") || part("batches") {
            println!("\n{each}");
        }
        let mut load = rate;
        if part("singles") {
            let reached = singles(&Process::start(each, &folder)?)?;
            load = load.or(Some(reached.min(AIM) * LATENCY_SHARE));
        }
        if part("latency") {
            latency(each, load, &folder)?;
        }
        if part("batches") {
            let process = Process::start(each, &folder)?;
            let load = client::batches(&process, "batched", BATCHED, PER_BATCH)?;
            println!("batches of {PER_BATCH} x 1 KiB               {load}");
        }
    }
    if part("backlog") && mode(Mode::Durable) {
        println!("\n{}", Mode::Durable);
        backlog(&folder)?;
    }
    Ok(())
}

/// The best rate of one pair with a kilobyte.
fn singles(broker: &impl Broker) -> Result<f64> {
    let mut best = 0.0;
    for (pairs, body) in [(1, 1_024), (2, 1_024), (1, 12)] {
        for _ in 0..2 {
            let load = client::pairs(broker, pairs, SINGLE, body)?;
            println!("single, {pairs} pair(s), {body:>5} B, window 200 {load}");
            if (pairs, body) == (1, 1_024) {
                best = load.rate.max(best);
            }
        }
    }
    Ok(best)
}

fn latency(mode: Mode, rate: Option<f64>, folder: &Folder) -> Result<()> {
    let process = Process::start(mode, folder)?;
    let warm = client::pairs(&process, 1, SINGLE / 2, 1_024)?;
    let rate = rate.unwrap_or(warm.rate.min(AIM) * LATENCY_SHARE);
    let before = process.writes()?;
    let latency = client::latency(&process, rate, LATENCY_FOR)?;
    println!("at {rate:>6.0} msg/s, send to receipt      {latency}");
    if mode != Mode::Memory {
        println!("  what the disk took                  {}", process.writes()?.since(&before));
    }
    Ok(())
}

fn backlog(folder: &Folder) -> Result<()> {
    let process = Process::start(Mode::Durable, folder)?;
    let load = client::batches(&process, "backlog", BACKLOG, PER_BATCH)?;
    println!("backlog of {BACKLOG} x 1 KiB, sent      {load}");
    println!("  resident                              {:>8.1} MB", process.resident_mb()?);
    let begun = Instant::now();
    let process = process.restart()?;
    let seconds = begun.elapsed().as_secs_f64();
    let spent = process.seconds()?;
    println!("  ready again after SIGKILL             {seconds:>8.1} s   processor {spent:.1} s");
    println!("  resident                              {:>8.1} MB", process.resident_mb()?);
    let load = client::drain(&process, "backlog", DRAINED)?;
    println!("  received from it and completed        {load}");
    Ok(())
}
