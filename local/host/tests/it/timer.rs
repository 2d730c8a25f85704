//! `timerTrigger` with a clock that the test sets: what is due, what is past due, and what
//! survives a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use host::{Clock, Level};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use crate::app::{App, Running};
use crate::wire::call;

/// A clock that stands still until it is set. In epoch milliseconds.
#[derive(Clone)]
struct Manual(Arc<AtomicI64>);

impl Manual {
    fn at(time: OffsetDateTime) -> Self {
        let clock = Self(Arc::default());
        clock.set(time);
        clock
    }

    fn set(&self, time: OffsetDateTime) {
        let millis = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap();
        self.0.store(millis, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        Arc::new(move || {
            let millis = i128::from(millis.load(Ordering::SeqCst));
            OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).unwrap()
        })
    }
}

/// A directory for the host's state. Removed when dropped.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("host-state-{}", Uuid::new_v4())))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn timer(schedule: &str) -> Value {
    json!({ "bindings": [{
        "type": "timerTrigger", "name": "tick", "direction": "in", "schedule": schedule
    }] })
}

/// `Data.tick` of the invocations so far; waits for `count` of them.
async fn ticks(host: &Running, count: usize) -> Vec<Value> {
    let seen = host.log.said("INVOKED", count).await;
    seen.into_iter().map(|mut call| call["envelope"]["Data"]["tick"].take()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_when_it_is_due() {
    let app = App::new(|_| {})
        .function_json("Tick", &timer("%SCHEDULE%"))
        .setting("SCHEDULE", "*/1 * * * * *");
    let host = app.start().await;
    let seen = host.log.said("INVOKED", 3).await;
    for call in &seen {
        assert_eq!(call["path"], "/Tick");
        let expected = json!({ "Schedule": { "AdjustForDST": true }, "ScheduleStatus": null,
            "IsPastDue": false });
        assert_eq!(call["envelope"]["Data"], json!({ "tick": expected }));
        assert_eq!(call["envelope"]["Metadata"].as_object().unwrap().len(), 1);
    }
    let fired = host.log.wait_for("Executing 'Functions.Tick' (Reason='Timer fired at ", 3).await;
    let seconds: Vec<i64> = fired.iter().map(|line| line.time.unix_timestamp()).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seconds:?}");
    let log = host.stop().await.text();
    assert!(log.contains("\tTick: timerTrigger"), "{log}");
    assert!(log.contains("The next 5 occurrences of the 'Tick' schedule (*/1 * * * * *)"), "{log}");
    assert!(!log.contains("UnscheduledInvocationReason"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_over_a_restart_is_made_up_for_once() {
    let state = State::new();
    let clock = Manual::at(datetime!(2026-03-01 10:00:30 UTC));
    let start = || {
        App::new(|_| {}).function_json("Tick", &timer("0 */5 * * * *")).start_with(|options| {
            options.clock = clock.clock();
            options.state = Some(state.0.clone());
        })
    };
    let host = start().await;
    host.log.wait_for("occurrences of the 'Tick' schedule", 1).await;
    let file = state.0.join("timers/Tick.json");
    let stored =
        || -> Value { serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap() };
    let waiting = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::app::PATIENCE, waiting).await.unwrap();
    assert_eq!(stored()["Next"], "2026-03-01T10:05:00+00:00");
    assert_eq!(stored()["Last"], "0001-01-01T00:00:00");
    let log = host.stop().await.text();
    assert!(!log.contains("Executing"), "{log}");

    clock.set(datetime!(2026-03-01 10:17 UTC));
    let host = start().await;
    let tick = ticks(&host, 1).await.remove(0);
    assert_eq!(tick["IsPastDue"], true);
    assert_eq!(tick["ScheduleStatus"]["Next"], "2026-03-01T10:05:00+00:00");
    host.log.wait_for("Function 'Tick' is past due on startup. Executing now.", 1).await;
    let details = "Trigger Details: UnscheduledInvocationReason: IsPastDue, OriginalSchedule: \
                   2026-03-01T10:05:00.0000000+00:00";
    host.log.wait_for(details, 1).await;
    host.log.wait_for("Executed 'Functions.Tick' (Succeeded", 1).await;
    host.stop().await;
    assert_eq!(stored()["Last"], "2026-03-01T10:17:00+00:00");

    // Nothing is missed: it waits, and is on time.
    clock.set(datetime!(2026-03-01 10:18 UTC));
    let host = start().await;
    host.log.wait_for("occurrences of the 'Tick' schedule", 1).await;
    clock.set(datetime!(2026-03-01 10:20 UTC));
    let tick = ticks(&host, 1).await.remove(0);
    assert_eq!(tick["IsPastDue"], false);
    assert_eq!(
        tick["ScheduleStatus"],
        json!({ "Last": "2026-03-01T10:17:00+00:00", "Next": "2026-03-01T10:20:00+00:00",
            "LastUpdated": "2026-03-01T10:17:00+00:00" })
    );
    assert!(!host.stop().await.text().contains("past due"));

    // A host without a memory begins anew.
    clock.set(datetime!(2026-03-01 11:01 UTC));
    let host = App::new(|_| {})
        .function_json("Tick", &timer("0 */5 * * * *"))
        .start_with(|options| options.clock = clock.clock())
        .await;
    host.log.wait_for("occurrences of the 'Tick' schedule", 1).await;
    clock.set(datetime!(2026-03-01 11:05 UTC));
    let tick = ticks(&host, 1).await.remove(0);
    assert_eq!(
        (&tick["IsPastDue"], &tick["ScheduleStatus"]["Last"]),
        (&json!(false), &json!("0001-01-01T00:00:00"))
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_do_not_overlap_and_what_they_miss_comes_once() {
    let clock = Manual::at(datetime!(2026-03-01 10:00:01 UTC));
    let host = App::new(|_| {})
        .function_json("Slow", &timer("*/10 * * * * *"))
        .start_with(|options| options.clock = clock.clock())
        .await;
    host.log.wait_for("occurrences of the 'Slow' schedule", 1).await;
    clock.set(datetime!(2026-03-01 10:00:10 UTC));
    ticks(&host, 1).await;
    // While it runs, three occurrences pass.
    clock.set(datetime!(2026-03-01 10:00:45 UTC));
    let second = ticks(&host, 2).await.remove(1);
    assert_eq!(second["IsPastDue"], true);
    host.log.wait_for("OriginalSchedule: 2026-03-01T10:00:20.0000000+00:00", 1).await;
    host.log.wait_for("Executed 'Functions.Slow' (Succeeded", 2).await;
    clock.set(datetime!(2026-03-01 10:00:50 UTC));
    let all = ticks(&host, 3).await;
    assert_eq!((all.len(), &all[2]["IsPastDue"]), (3, &json!(false)));
    host.log.wait_for("Executed 'Functions.Slow' (Succeeded", 3).await;
    let log = host.stop().await.text();
    let turns: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            let begun = line.contains("Executing 'Functions.Slow'").then_some("begun");
            begun.or(line.contains("Executed 'Functions.Slow'").then_some("ended"))
        })
        .collect();
    assert_eq!(turns, ["begun", "ended", "begun", "ended", "begun", "ended"], "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_can_run_at_once_out_of_turn_and_with_retries() {
    let yearly = |change: &dyn Fn(&mut Value)| {
        let mut file = timer("0 0 0 1 1 *");
        change(&mut file);
        file
    };
    let startup = yearly(&|file| file["bindings"][0]["runOnStartup"] = json!(true));
    let flaky = yearly(&|file| {
        file["bindings"][0]["runOnStartup"] = json!(true);
        file["retry"] = json!({ "strategy": "fixedDelay", "maxRetryCount": 5,
            "delayInterval": "00:00:00.01" });
    });
    let clock = Manual::at(datetime!(2026-03-01 10:00 UTC));
    let host = App::new(|_| {})
        .function_json("Flaky", &flaky)
        .function_json("Start", &startup)
        .function_json("Span", &timer("12:00:00"))
        .start_with(|options| options.clock = clock.clock())
        .await;
    host.log.wait_for("Trigger Details: UnscheduledInvocationReason: RunOnStartup", 2).await;
    host.log.wait_for("Executed 'Functions.Start' (Succeeded", 1).await;
    host.log.wait_for("Executed 'Functions.Flaky' (Succeeded", 1).await;
    let seen = host.log.said("INVOKED", 4).await;
    let counts: Vec<Value> = seen
        .iter()
        .filter(|call| call["path"] == "/Flaky")
        .map(|call| call["envelope"]["Metadata"]["RetryContext"]["RetryCount"].clone())
        .collect();
    assert_eq!(counts, [0, 1, 2]);

    let path = "POST /admin/functions/Span\r\ncontent-type: application/json";
    assert_eq!(call(host.address, path, r#"{"input":"ignored"}"#).await.status, 202);
    let span = host.log.said("INVOKED", 5).await.remove(4);
    let tick = &span["envelope"]["Data"]["tick"];
    assert_eq!(tick["Schedule"], json!({ "AdjustForDST": false }));
    assert_eq!(tick["ScheduleStatus"]["Next"], "2026-03-01T22:00:00+00:00");
    assert_eq!(tick["IsPastDue"], false);
    host.log
        .wait_for("(Reason='This function was programmatically called via the host APIs.'", 1)
        .await;
    let log = host.stop().await;
    let warnings = log.at(Level::Warning);
    assert!(warnings.iter().any(|text| text.contains("App Service plan only")), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_is_none_is_an_indexing_error() {
    let app = App::new(|_| {})
        .function_json("Good", &timer("0 30 9 * * 1-5"))
        .function_json("Never", &timer("0 0 0 31 Feb *"));
    let host = app.bind(&crate::app::Log::default()).await.unwrap();
    let [good, never] = host.functions() else { panic!("{:?}", host.functions()) };
    assert_eq!((good.entity.as_deref(), good.problems.len()), (Some("0 30 9 * * 1-5"), 0));
    assert!(never.problems[0].to_string().contains("no such day exists"), "{:?}", never.problems);
}
