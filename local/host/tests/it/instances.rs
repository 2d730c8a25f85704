//! Several hosts of one app, as `--instances N` runs them and as they compete in Azure: messages and
//! leases are shared out, and a timer runs in one of them. Sessions and leases have their own tests.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::app::{App, Running};
use crate::service_bus::{Broker, Publisher, queue_trigger};
use crate::storage::Storage;

/// Hosts that compete.
const INSTANCES: usize = 3;

/// Items, each of which takes so long that nobody gets them all.
const ITEMS: usize = 60;

fn item(number: usize) -> Value {
    json!({ "n": number, "delayMs": 200 })
}

/// What each host was called with; waits for all of it.
async fn shared_out(hosts: &[Running], name: &str) -> Vec<Vec<u64>> {
    let deadline = tokio::time::Instant::now() + crate::app::PATIENCE;
    loop {
        let mut all = Vec::new();
        for host in hosts {
            let mut seen = Vec::new();
            for line in host.log.lines("INVOKED ") {
                let Some(call) = line.text.strip_prefix("INVOKED ") else { continue };
                let call: Value = serde_json::from_str(call).unwrap();
                let text = call["envelope"]["Data"][name].as_str().unwrap();
                let text: String = serde_json::from_str(text).unwrap();
                let item: Value = serde_json::from_str(&text).unwrap();
                seen.push(item["n"].as_u64().unwrap());
            }
            all.push(seen);
        }
        if all.iter().map(Vec::len).sum::<usize>() >= ITEMS {
            return all;
        }
        assert!(tokio::time::Instant::now() < deadline, "{all:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn assert_fair(shares: &[Vec<u64>]) {
    let all: Vec<u64> = shares.iter().flatten().copied().collect();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (ITEMS, ITEMS), "each once: {shares:?}");
    assert!(shares.iter().all(|share| !share.is_empty()), "everybody gets some: {shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_service_bus_are_shared_out() {
    let broker = Broker::anywhere().await;
    let mut hosts = Vec::new();
    for _ in 0..INSTANCES {
        let app = App::new(|host| {
            host["extensions"]["serviceBus"] = json!({ "maxConcurrentCalls": 4 });
        });
        let app =
            app.function("Work", &queue_trigger()).setting("OrdersBus", broker.connection_string());
        hosts.push(app.start().await);
    }
    for host in &mut hosts {
        host.pid().await;
        host.log.wait_for("Receiving from work", 1).await;
    }
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for number in 0..ITEMS {
        publisher.send(&format!("m-{number}"), &item(number)).await;
    }
    assert_fair(&shared_out(&hosts, "job").await);
    for host in hosts {
        host.stop().await;
    }
    assert_eq!(broker.queue("work"), (0, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_messages_are_shared_out() {
    let storage = Storage::with(&["jobs"]).await;
    let trigger = json!([{ "type": "queueTrigger", "name": "job", "direction": "in",
        "queueName": "jobs" }]);
    let mut hosts = Vec::new();
    for _ in 0..INSTANCES {
        let app = App::new(|host| {
            let queues = json!({ "batchSize": 2, "newBatchThreshold": 0 });
            host["extensions"] = json!({ "queues": queues });
        });
        let app = app
            .function("Work", &trigger)
            .setting("AzureWebJobsStorage", storage.connection_string());
        hosts.push(app.start().await);
    }
    for host in &mut hosts {
        host.pid().await;
    }
    for number in 0..ITEMS {
        storage.put("jobs", &item(number)).await;
    }
    assert_fair(&shared_out(&hosts, "job").await);
    storage.count_becomes("jobs", 0, &hosts[0]).await;
    for host in hosts {
        host.stop().await;
    }
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_runs_in_one_and_the_next_takes_over() {
    let state: PathBuf = std::env::temp_dir().join(format!("host-turns-{}", uuid::Uuid::new_v4()));
    let seconds = Arc::new(AtomicI64::new(datetime!(2026-03-01 10:00:30 UTC).unix_timestamp()));
    let timer = json!([{ "type": "timerTrigger", "name": "tick", "direction": "in",
        "schedule": "0 */5 * * * *" }]);
    let mut hosts = Vec::new();
    for _ in 0..INSTANCES {
        let (state, seconds) = (state.clone(), Arc::clone(&seconds));
        let host = App::new(|_| {}).function("Tick", &timer).start_with(move |options| {
            options.state = Some(state);
            options.clock = Arc::new(move || {
                OffsetDateTime::from_unix_timestamp(seconds.load(Ordering::SeqCst)).unwrap()
            });
        });
        hosts.push(host.await);
        // The first one gets the turn.
        hosts[0].log.wait_for("occurrences of the 'Tick' schedule", 1).await;
    }
    for host in &hosts[1..] {
        host.log.wait_for("Function 'Tick' is run by another host for now", 1).await;
    }
    for minute in [5, 10] {
        let due = datetime!(2026-03-01 10:00 UTC) + time::Duration::minutes(minute);
        seconds.store(due.unix_timestamp(), Ordering::SeqCst);
        let runs = usize::try_from(minute / 5).unwrap();
        hosts[0].log.wait_for("Executed 'Functions.Tick' (Succeeded", runs).await;
    }
    assert_eq!(hosts[0].log.said("INVOKED", 2).await.len(), 2);
    for host in &hosts[1..] {
        assert!(host.log.lines("Executing").is_empty(), "{}", host.log.text());
    }
    // The occurrence at 10:15 falls into the change.
    hosts.remove(0).stop().await;
    seconds.store(datetime!(2026-03-01 10:16 UTC).unix_timestamp(), Ordering::SeqCst);
    let deadline = tokio::time::Instant::now() + crate::app::PATIENCE;
    let runs = |hosts: &[Running]| -> usize {
        hosts.iter().map(|host| host.log.lines("Executed 'Functions.Tick' (Succeeded").len()).sum()
    };
    while runs(&hosts) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody took over");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let details: Vec<_> =
        hosts.iter().flat_map(|host| host.log.lines("OriginalSchedule")).collect();
    assert_eq!(details.len(), 1, "{details:?}");
    assert!(details[0].text.contains("2026-03-01T10:15:00"), "{details:?}");
    for host in hosts {
        host.stop().await;
    }
    std::fs::remove_dir_all(state).unwrap();
}
