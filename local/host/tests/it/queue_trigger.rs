//! `queueTrigger` against a real queue service over HTTP: leases, dequeue counts, poison queues,
//! concurrency, and a service that comes and goes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::app::{App, Running};
use crate::storage::{Storage, nobody, reserved};
use crate::wire::call;

/// A function that works on `queue`.
fn app(storage: &Storage, queue: &str, options: &Value) -> App {
    App::new(|host| host["extensions"] = json!({ "queues": options }))
        .function("Work", &trigger())
        .setting("AzureWebJobsStorage", storage.connection_string())
        .setting("QUEUE", queue)
}

fn trigger() -> Value {
    json!([{ "type": "queueTrigger", "name": "job", "direction": "in", "queueName": "%QUEUE%" }])
}

/// Dequeue counts of the invocations so far, in their order.
async fn dequeue_counts(host: &Running, count: usize) -> Vec<String> {
    let seen = host.log.said("INVOKED", count).await;
    seen.iter()
        .map(|seen| seen["envelope"]["Metadata"]["DequeueCount"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_invoked_deleted_and_its_envelope_is_exact() {
    let storage = Storage::with(&["jobs"]).await;
    let host = app(&storage, "jobs", &json!({})).start().await;
    storage.put("jobs", &json!({ "id": "o-7", "n": 2 })).await;
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    storage.count_becomes("jobs", 0, &host).await;
    assert_eq!((&seen["path"], &seen["method"]), (&json!("/Work"), &json!("POST")));
    let mut envelope = seen["envelope"].clone();
    assert_eq!(envelope["Data"], json!({ "job": "\"{\\\"id\\\":\\\"o-7\\\",\\\"n\\\":2}\"" }));
    let metadata = envelope["Metadata"].as_object_mut().unwrap();
    for time in ["InsertionTime", "ExpirationTime", "NextVisibleTime"] {
        let time = metadata.remove(time).unwrap();
        assert!(time.as_str().unwrap().ends_with("+00:00"), "{time}");
    }
    let receipt = metadata.remove("PopReceipt").unwrap();
    assert!(receipt.as_str().unwrap().starts_with("\""), "{receipt}");
    let sys = metadata.remove("sys").unwrap();
    assert_eq!(sys["MethodName"], "Work");
    // The body's id hides that of the message, as in Azure.
    assert_eq!(envelope["Metadata"], json!({ "DequeueCount": "1", "Id": "\"o-7\"", "n": "\"2\"" }));
    let log = host.stop().await.text();
    assert!(log.contains("\tWork: queueTrigger"), "{log}");
    assert!(log.contains("Reason='New queue message detected on 'jobs'.'"), "{log}");
    assert!(log.contains("Trigger Details: MessageId: "), "{log}");
    assert!(log.contains("Executed 'Functions.Work' (Succeeded"), "{log}");
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_keeps_failing_ends_in_the_poison_queue_as_it_was() {
    let storage = Storage::with(&["jobs"]).await;
    let host = app(&storage, "jobs", &json!({ "maxDequeueCount": 3 })).start().await;
    let message = json!({ "do": "fail", "amp": "<&>" });
    storage.put("jobs", &message).await;
    let poison = storage.visible_become("jobs-poison", 1).await;
    assert_eq!(poison, [message.to_string()]);
    storage.count_becomes("jobs", 0, &host).await;
    assert_eq!(dequeue_counts(&host, 3).await, ["1", "2", "3"]);
    let text = "Message has reached MaxDequeueCount of 3. Moving message to queue 'jobs-poison'.";
    host.log.wait_for(text, 1).await;
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_message_is_invisible_for_the_visibility_timeout() {
    let storage = Storage::with(&["jobs"]).await;
    let options = json!({ "visibilityTimeout": "00:00:02", "maxDequeueCount": 2 });
    let host = app(&storage, "jobs", &options).start().await;
    storage.put("jobs", &json!({ "do": "fail" })).await;
    let failed = host.log.wait_for("Executed 'Functions.Work' (Failed", 2).await;
    let apart = failed[1].time - failed[0].time;
    assert!(apart >= time::Duration::milliseconds(1_900), "{apart}");
    storage.visible_become("jobs-poison", 1).await;
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_function_can_read_goes_to_the_poison_queue_at_once() {
    let storage = Storage::with(&["jobs"]).await;
    // Received twice by somebody who never came back.
    storage.put("jobs", &json!({ "n": 1 })).await;
    storage.dequeue("jobs").await;
    storage.dequeue("jobs").await;
    storage.put_as_it_is("jobs", "plain & simple").await;
    let host = app(&storage, "jobs", &json!({ "maxDequeueCount": 2 })).start().await;
    let mut poison = storage.visible_become("jobs-poison", 2).await;
    poison.sort();
    assert_eq!(poison, ["plain & simple", "{\"n\":1}"]);
    storage.count_becomes("jobs", 0, &host).await;
    let log = host.stop().await.text();
    assert!(log.contains("is not base64") && log.contains("messageEncoding"), "{log}");
    assert!(!log.contains("Executing 'Functions.Work'"), "{log}");
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_texts_are_read_when_the_app_says_so() {
    let storage = Storage::with(&["jobs"]).await;
    let host = app(&storage, "jobs", &json!({ "messageEncoding": "none" })).start().await;
    storage.put_as_it_is("jobs", "plain <&> simple").await;
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    assert_eq!(seen["envelope"]["Data"]["job"], "\"plain <&> simple\"");
    storage.count_becomes("jobs", 0, &host).await;
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_is_renewed_while_a_function_runs() {
    let storage = Storage::with(&["jobs"]).await;
    let host = app(&storage, "jobs", &json!({}))
        .start_with(|options| options.queue_lease = Duration::from_secs(2))
        .await;
    storage.put("jobs", &json!({ "delayMs": 5_000 })).await;
    host.log.wait_for("Executed 'Functions.Work' (Succeeded", 1).await;
    storage.count_becomes("jobs", 0, &host).await;
    let log = host.stop().await;
    assert_eq!(log.text().matches("Executing 'Functions.Work'").count(), 1, "{}", log.text());
    assert_eq!(log.at(host::Level::Warning), Vec::<String>::new());
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_queue_has_no_poison_queue() {
    let storage = Storage::with(&["jobs-poison"]).await;
    let options = json!({ "maxDequeueCount": 1 });
    let host = app(&storage, "jobs-poison", &options).start().await;
    storage.put("jobs-poison", &json!({ "do": "fail" })).await;
    host.log.wait_for("Executed 'Functions.Work' (Failed", 1).await;
    host.stop().await;
    // It stays invisible until its lease ends: poison that has nowhere to go.
    assert_eq!(storage.peek("jobs-poison").await, Some(vec![]));
    assert_eq!(storage.count("jobs-poison").await, 1);
    assert_eq!(storage.peek("jobs-poison-poison").await, None);
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_run_at_once_as_batch_and_threshold_allow() {
    let storage = Storage::with(&["jobs"]).await;
    for number in 0..10 {
        storage.put("jobs", &json!({ "n": number, "delayMs": 400 })).await;
    }
    let host = app(&storage, "jobs", &json!({ "batchSize": 2, "newBatchThreshold": 2 }));
    let host = host.start().await;
    storage.count_becomes("jobs", 0, &host).await;
    let log = host.stop().await.text();
    let (mut running, mut most) = (0_i32, 0_i32);
    for line in log.lines() {
        running += i32::from(line.contains(": Executing 'Functions.Work'"));
        running -= i32::from(line.contains(": Executed 'Functions.Work' (Succeeded"));
        most = most.max(running);
    }
    assert_eq!((running, most), (0, 4), "{log}");
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_invocations_end_and_deletes_their_messages() {
    let storage = Storage::with(&["jobs"]).await;
    let host = app(&storage, "jobs", &json!({})).start().await;
    storage.put("jobs", &json!({ "delayMs": 1_000 })).await;
    host.log.said("INVOKED", 1).await;
    let log = host.stop().await;
    assert!(log.text().contains("Executed 'Functions.Work' (Succeeded"), "{}", log.text());
    assert_eq!(storage.count("jobs").await, 0, "{}", log.text());
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_and_a_service_that_come_later_are_found() {
    let (socket, address) = nobody();
    let host = App::new(|_| {})
        .function("Work", &trigger())
        .setting("AzureWebJobsStorage", queue::connection_string(address))
        .setting("QUEUE", "jobs")
        .start()
        .await;
    let lines = host.log.wait_for("Not receiving from queue 'jobs'", 1).await;
    assert!(lines[0].text.contains("setting AzureWebJobsStorage"), "{lines:?}");
    drop(socket);
    let storage = Storage::at(address, &[]).await;
    host.log.wait_for("There is no queue 'jobs'", 1).await;
    storage.create("jobs").await;
    storage.put("jobs", &json!({ "n": 1 })).await;
    host.log.said("INVOKED", 1).await;
    storage.count_becomes("jobs", 0, &host).await;
    // Gone again with everything in it, and back.
    storage.stop().await;
    let socket = reserved(address);
    host.log.wait_for("Not receiving from queue 'jobs'", 2).await;
    drop(socket);
    let storage = Storage::at(address, &["jobs"]).await;
    storage.put("jobs", &json!({ "n": 2 })).await;
    host.log.said("INVOKED", 2).await;
    storage.count_becomes("jobs", 0, &host).await;
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_said_without_the_key() {
    let storage = Storage::with(&["jobs"]).await;
    let wrong = BASE64.encode("another key");
    let connection = storage.connection_string().replace(queue::EMULATOR_KEY, &wrong);
    let host = app(&storage, "jobs", &json!({})).setting("AzureWebJobsStorage", connection);
    let host = host.start().await;
    let lines = host.log.wait_for("Not receiving from queue 'jobs'", 1).await;
    assert!(lines[0].text.contains("the key of setting AzureWebJobsStorage"), "{lines:?}");
    let log = host.stop().await.text();
    assert!(!log.contains(&wrong), "{log}");
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_endpoint_runs_a_function_with_a_text() {
    let storage = Storage::with(&["jobs"]).await;
    let app = app(&storage, "jobs", &json!({}));
    let bound = app.bind(&crate::app::Log::default()).await.unwrap();
    assert_eq!(bound.functions()[0].entity.as_deref(), Some("jobs"));
    drop(bound);
    let host = app.start().await;
    let path = "POST /admin/functions/work\r\ncontent-type: application/json";
    assert_eq!(call(host.address, path, r#"{"input":"hello"}"#).await.status, 202);
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    assert_eq!(seen["envelope"]["Data"], json!({ "job": "\"hello\"" }));
    assert_eq!(seen["envelope"]["Metadata"]["DequeueCount"], "0");
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_by_identity_is_an_indexing_error_that_says_what_to_do() {
    let app = App::new(|_| {})
        .function("Work", &trigger())
        .setting("QUEUE", "jobs")
        .setting("AzureWebJobsStorage__queueServiceUri", "https://shop.queue.core.windows.net");
    let host = app.bind(&crate::app::Log::default()).await.unwrap();
    let problem = host.functions()[0].problems[0].to_string();
    assert!(problem.contains("AzureWebJobsStorage__queueServiceUri"), "{problem}");
    assert!(problem.contains("UseDevelopmentStorage=true"), "{problem}");
}
