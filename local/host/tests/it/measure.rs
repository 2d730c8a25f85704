//! What the host costs: the same call direct to the handler and through the host. Prints, and
//! asserts nothing; run with `cargo test -p host --release --test it -- --ignored --nocapture
//! measure`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::App;
use crate::service_bus::{self, Broker, Publisher, queue_trigger};
use crate::wire::Wire;

const SEQUENTIAL_CALLS: usize = 3_000;
const CONNECTIONS: usize = 32;
const CALLS_PER_CONNECTION: usize = 1_000;
const MESSAGES: usize = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn proxying_overhead() {
    let mut host = App::new(|_| {}).http("Teapot", "teapot").start().await;
    host.pid().await;
    let port = host.log.said("ENV", 1).await[0]["port"].as_str().unwrap().parse().unwrap();
    let direct = SocketAddr::from(([127, 0, 0, 1], port));
    for (name, address) in [("direct", direct), ("host", host.address)] {
        let mut times = calls(address, SEQUENTIAL_CALLS).await;
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100];
        let mut load = JoinSet::new();
        let started = Instant::now();
        for _ in 0..CONNECTIONS {
            load.spawn(calls(address, CALLS_PER_CONNECTION));
        }
        load.join_all().await;
        let rate = (CONNECTIONS * CALLS_PER_CONNECTION) as f64 / started.elapsed().as_secs_f64();
        println!("{name}: p50 {:?} p99 {:?}, {rate:.0} calls/s", at(50), at(99));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn service_bus_throughput() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for number in 0..MESSAGES {
        publisher.send(&format!("m-{number}"), &serde_json::json!({ "n": number })).await;
    }
    let started = Instant::now();
    let host = service_bus::start(broker.connection_string(), "Work", queue_trigger()).await;
    broker.counts_become(true, (0, 0), &host).await;
    let rate = MESSAGES as f64 / started.elapsed().as_secs_f64();
    println!("serviceBusTrigger: {rate:.0} messages/s, including the start of the handler");
    host.stop().await;
    broker.stop().await;
}

async fn calls(address: SocketAddr, count: usize) -> Vec<Duration> {
    let mut wire = Wire::connect(address).await;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        wire.send("GET /api/teapot HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 418);
        times.push(started.elapsed());
    }
    times
}
