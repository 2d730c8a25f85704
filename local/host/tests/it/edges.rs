//! What Azure does without a word is said here: once for each cause, with what to do about it, and
//! counted.

use host::Level;
use serde_json::{Value, json};

use crate::app::{App, Log, Running};
use crate::service_bus::{Broker, Publisher, queue_trigger};
use crate::wire::{Wire, call};

/// A broker that nobody asks for anything.
const EMULATOR: &str = "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=k;\
                        UseDevelopmentEmulator=true;";

/// An app whose HTTP functions get the JSON envelope.
fn envelope() -> App {
    App::new(|host| host["customHandler"]["enableProxyingHttpRequest"] = json!(false))
}

/// Stops the host; `what` must have been explained once with a fix, and `cause` counted as `times`.
async fn explained(host: Running, edges: &[(&str, &str, usize)]) {
    let warnings = host.stop().await.at(Level::Warning);
    for (what, cause, times) in edges {
        let about: Vec<&String> = warnings.iter().filter(|line| line.contains(what)).collect();
        assert_eq!(about.len(), 1, "{what}: {warnings:#?}");
        assert!(about[0].contains("Fix: ") && about[0].contains("said once"), "{about:?}");
        let total = format!("{cause}: {times} times in all.");
        assert!(warnings.contains(&total), "{total} {warnings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharp_edges_are_explained_once_and_counted() {
    let app = App::new(|host| host["customHandler"]["enableProxyingHttpRequest"] = json!(false));
    let host = app.http("Work", "work").start().await;
    let answer = json!({ "answer": { "Outputs": { "res": { "status": 201, "body": "b" } } } });
    for _ in 0..12 {
        let answer = call(host.address, "POST /api/work", &answer.to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "b"), "'status' has no effect");
    }
    let warnings = host.stop().await.at(Level::Warning);
    let about = |text: &str| warnings.iter().filter(|line| line.contains(text)).count();
    assert_eq!(about("Fix: call it 'statusCode'"), 1, "{warnings:#?}");
    assert_eq!(about("answered with 'status': 10 times by now."), 1, "{warnings:#?}");
    assert_eq!(about("answered with 'status': 12 times in all."), 1, "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_message_and_burnt_deliveries() {
    let broker = Broker::anywhere().await;
    let app = App::new(|_| {}).function("Work", &queue_trigger());
    let host = app.setting("OrdersBus", broker.connection_string()).start().await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    publisher.send("m-1", &json!({ "MessageId": "forged", "do": "fail" })).await;
    broker.counts_become(true, (0, 1), &host).await;
    let forged = "Metadata.MessageId of function 'Work' came from a body";
    let burnt = "A message of function 'Work' was abandoned";
    let edges =
        [("Anybody who can send can forge it", forged, 3), ("is abandoned at once", burnt, 3)];
    explained(host, &edges).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_rejected_outputs_that_nobody_asked_for_and_bodies_in_chunks() {
    let host = envelope().http("Work", "work").start().await;
    let stray = json!({ "answer": { "Outputs": { "ress": { "statusCode": 201 } } } });
    for _ in 0..2 {
        // The work is done and the status is 200, but it is text/plain.
        assert_eq!(call(host.address, "POST /api/work", r#"{"do":"plain"}"#).await.status, 500);
        assert_eq!(call(host.address, "POST /api/work", &stray.to_string()).await.status, 200);
        let mut wire = Wire::connect(host.address).await;
        let chunks = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        wire.send(format!("POST /api/work HTTP/1.1\r\nhost: h\r\n{chunks}")).await;
        assert_eq!(wire.answer().await.status, 204);
    }
    let seen = host.log.said("INVOKED", 6).await;
    assert_eq!(seen[2]["envelope"]["Data"]["req"].get("Body"), None);
    let edges = [
        (
            "has failed all the same",
            "An answer of function 'Work' was rejected despite its status",
            2,
        ),
        ("has no output binding", "Function 'Work' answered with an unknown output 'ress'", 2),
        ("goes out without it", "A body in chunks did not reach function 'Work'", 2),
    ];
    explained(host, &edges).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_by_forwarding() {
    let app = App::new(|host| {
        host["customHandler"]["enableProxyingHttpRequest"] = json!(false);
        host["customHandler"]["enableForwardingHttpRequest"] = json!(true);
    });
    let host = app.http("Echo", "echo").start().await;
    for _ in 0..2 {
        let head = "PUT /api/echo?a=1&a=2\r\ncontent-encoding: gzip";
        assert_eq!(call(host.address, head, "x").await.status, 200);
    }
    let cause = "A call of function 'Echo' was forwarded with losses";
    let what = "the header content-encoding, all but one of the query parameters";
    explained(host, &[(what, cause, 2)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_cut_off_by_a_stop() {
    let app = App::new(|_| {}).http("Never", "never");
    let mut host = app.start_with(|options| options.drain = std::time::Duration::ZERO).await;
    host.pid().await;
    let mut wire = Wire::connect(host.address).await;
    wire.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
    host.log.wait_for("WAITING", 1).await;
    let log = host.stop().await;
    assert_eq!(log.lines("Fix: do no work that cannot be cut off").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn what_can_be_seen_in_the_files_is_said_at_the_start() {
    let bus = |more: Value| {
        let mut bindings = queue_trigger();
        bindings[0].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bindings
    };
    let app = App::new(|_| {})
        .setting("OrdersBus", EMULATOR)
        .function(
            "Wide",
            &json!([
                { "type": "httpTrigger", "direction": "in", "name": "req" },
                { "type": "http", "direction": "out", "name": "res" },
                { "type": "serviceBus", "direction": "out", "name": "out", "queueName": "q",
                  "connection": "OrdersBus" }
            ]),
        )
        .function("Manual", &bus(json!({ "autoCompleteMessages": false })))
        .function("Batch", &bus(json!({ "cardinality": "many" })))
        .http("Script", "script");
    std::fs::write(app.root.join("Script/index.js"), "").unwrap();
    let log = Log::default();
    app.bind(&log).await.unwrap();
    let warnings = log.at(Level::Warning);
    for (file, what) in [
        ("Wide/function.json", "calls come in the JSON envelope, whatever host.json says"),
        ("Manual/function.json", "every message comes back when its lock ends"),
        ("Batch/function.json", "fails all of them before the handler is called"),
        ("Script/function.json", "index.js lies beside it"),
    ] {
        let about = warnings.iter().filter(|line| line.starts_with(file) && line.contains(what));
        let about: Vec<&String> = about.collect();
        assert!(about.len() == 1 && about[0].contains("Fix: "), "{file}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
}
