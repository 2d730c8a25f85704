//! The benchmark: what accepting an order costs, how long it takes to finish, how much memory the
//! processes hold. Prints figures and asserts none: machines differ, and a timed assertion tells
//! more about the machine than about the code.
//!
//! Run it with `cargo bench --package e2e`; it builds handler and stack in release first. With
//! `--bench orders telemetry` it measures only what telemetry costs.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark")]
#![allow(dead_code, unreachable_pub, reason = "uses a part of the harness of the tests")]

#[path = "../harness.rs"]
mod harness;

mod client;
mod flow;
mod resources;
mod telemetry;

use std::process::Command;
use std::time::{Duration, Instant};

use client::{Connection, Direct, drain, load, print_latencies};
use harness::{AS_PEOPLE_RUN_IT, TestStack};
use resources::{children, cores, peak_mb};

/// Requests before counting begins: connections, caches and page tables settle.
const WARM_UP_REQUESTS: usize = 200;

/// Orders of the latency measurement, one after another.
const SERIAL_REQUESTS: usize = 2_000;

/// Connections of the throughput measurement.
pub const CONNECTIONS: usize = 32;

/// Length of the throughput measurement.
pub const LOADED_FOR: Duration = Duration::from_secs(8);

/// Orders of the end-to-end measurement, one after another.
const FOLLOWED_ORDERS: usize = 50;

/// Starts of the handler that are measured.
const STARTS: usize = 10;

fn main() {
    // `cargo bench` builds this file and not the executables that it measures.
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--workspace",
            "--release",
            "--locked",
            "--bin",
            "handler",
            "--bin",
            "stack",
        ])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the executables do not build");
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        if !std::env::args().any(|argument| argument == "telemetry") {
            bench().await;
        }
        telemetry::telemetry().await;
    });
}

async fn bench() {
    // The load comes from one customer.
    let unlimited = [AS_PEOPLE_RUN_IT, "--set", "CUSTOMER_ORDERS_PER_SECOND=0"];
    let stack = TestStack::start_with(&unlimited).await;
    let http = stack.endpoints.http.strip_prefix("http://").unwrap().to_owned();
    println!("one machine, {} cores, load generator included\n", cores());

    println!("start of the order-api handler, {STARTS} times");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (took, handler) = Direct::start(&stack).await;
        starts.push(took);
        drop(handler);
    }
    print_latencies("  process start to first 202", &mut starts);

    let (_, direct) = Direct::start(&stack).await;
    println!("\nacceptance, one connection, {SERIAL_REQUESTS} orders after {WARM_UP_REQUESTS}");
    for (name, address) in [("direct to the handler", &direct.address), ("through the host", &http)]
    {
        let mut connection = Connection::open(address).await;
        for _ in 0..WARM_UP_REQUESTS {
            connection.submit().await;
        }
        let mut latencies = Vec::with_capacity(SERIAL_REQUESTS);
        for _ in 0..SERIAL_REQUESTS {
            let begun = Instant::now();
            connection.submit().await;
            latencies.push(begun.elapsed());
        }
        print_latencies(&format!("  {name}"), &mut latencies);
    }
    drain(&stack).await;

    println!("\nend to end, {FOLLOWED_ORDERS} orders one after another, 202 to all three done");
    let mut connection = Connection::open(&http).await;
    let mut finished = Vec::new();
    for _ in 0..FOLLOWED_ORDERS {
        let location = connection.submit().await;
        let begun = Instant::now();
        while connection.get(&location).await["overall"] != "completed" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        finished.push(begun.elapsed());
    }
    print_latencies("  accepted to completed", &mut finished);

    println!("\nacceptance, {CONNECTIONS} connections for {} s", LOADED_FOR.as_secs());
    for (name, address) in [("direct to the handler", &direct.address), ("through the host", &http)]
    {
        let (accepted, mut latencies) = load(address).await;
        let rate = accepted as f64 / LOADED_FOR.as_secs_f64();
        print_latencies(&format!("  {name}: {rate:.0} accepted/s"), &mut latencies);
        let drained = drain(&stack).await;
        println!("    backlog drained {:.1} s later", drained.as_secs_f64());
    }

    flow::bulkhead(&stack, &http).await;
    flow::steady(&stack, &http).await;
    flow::backlog(&stack, &http).await;
    flow::costs().await;

    println!("\npeak resident memory after all of this");
    println!("  {:<28} {:>7.1} MB", "handler order-api (direct)", peak_mb(direct.process.id()));
    for process in &stack.endpoints.processes {
        println!("  {:<28} {:>7.1} MB", process.name, peak_mb(process.pid));
        for child in children(process.pid) {
            // The host's watchdog is a shell of under 2 MB.
            let command = std::fs::read_to_string(format!("/proc/{child}/comm"));
            if command.is_ok_and(|name| name.trim() != "handler") {
                continue;
            }
            let name = process.name.replace("host", "handler");
            println!("  {name:<28} {:>7.1} MB", peak_mb(child));
        }
    }
}
