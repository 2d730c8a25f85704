//! Output bindings against real services: what arrives, and what a failed output does.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, PATIENCE};
use crate::service_bus::Broker;
use crate::storage::{Storage, nobody};
use crate::wire::{Answer, call};

/// A function `Work` on the queue `jobs` with these outputs.
fn app(storage: &Storage, outputs: &[Value]) -> App {
    let mut bindings = vec![
        json!({ "type": "queueTrigger", "name": "job", "direction": "in", "queueName": "jobs" }),
    ];
    bindings.extend_from_slice(outputs);
    App::new(|host| host["extensions"] = json!({ "queues": { "maxDequeueCount": 2 } }))
        .function("Work", &Value::Array(bindings))
        .setting("AzureWebJobsStorage", storage.connection_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_queues_that_are_created_for_them() {
    let storage = Storage::with(&["jobs"]).await;
    let outputs = [
        json!({ "type": "queue", "name": "made", "direction": "out",
            "queueName": "%PREFIX%-{kind}" }),
        json!({ "type": "queue", "name": "kept", "direction": "out", "queueName": "kept",
            "dataType": "binary" }),
        json!({ "type": "queue", "name": "unused", "direction": "out", "queueName": "unused" }),
    ];
    let host = app(&storage, &outputs).setting("PREFIX", "Made").start().await;
    let outputs = json!({ "made": [{ "n": 1 }, "two"], "kept": "hello123" });
    storage.put("jobs", &json!({ "kind": "a", "answer": { "Outputs": outputs } })).await;
    let made = storage.visible_become("made-a", 2).await;
    assert_eq!(made, ["{\n  \"n\": 1\n}", "two"]);
    assert_eq!(storage.visible_become("kept", 1).await, ["hello123"]);

    // Members of an object that is returned count as outputs. The trap is sprung, and said once.
    for _ in 0..2 {
        let answer = json!({ "ReturnValue": { "made": "hello123" } });
        storage.put("jobs", &json!({ "kind": "b", "answer": answer })).await;
    }
    storage.visible_become("made-b", 2).await;
    let wire = storage.peek("made-b").await.unwrap();
    assert_eq!(wire, [BASE64.encode(BASE64.decode("hello123").unwrap()), wire[0].clone()]);
    storage.count_becomes("jobs", 0, &host).await;
    let log = host.stop().await;
    let warned = log.at(host::Level::Warning);
    assert_eq!(warned.len(), 2, "explained once, and counted: {warned:?}");
    assert!(warned[1].contains("2 times in all"), "{warned:?}");
    assert!(warned[0].contains("valid base64") && warned[0].contains("dataType"), "{warned:?}");
    assert!(!warned[0].contains("hello123"), "contents are not logged: {warned:?}");
    assert_eq!(storage.peek("unused").await, None);
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_value_reaches_a_topic_with_its_trace() {
    let (storage, broker) = (Storage::with(&["jobs"]).await, Broker::anywhere().await);
    let output = json!({ "type": "serviceBus", "name": "$return", "direction": "out",
        "topicName": "orders", "connection": "OrdersBus" });
    let receiver = json!([{ "type": "serviceBusTrigger", "name": "order", "direction": "in",
        "topicName": "orders", "subscriptionName": "billing", "connection": "OrdersBus" }]);
    let host = app(&storage, &[output])
        .function("Receive", &receiver)
        .setting("OrdersBus", broker.connection_string())
        .start()
        .await;
    let returned = json!([{ "do": "ok" }, "plain text", [1]]);
    storage.put("jobs", &json!({ "answer": { "ReturnValue": returned } })).await;
    let seen = host.log.said("INVOKED", 4).await;
    let sent = seen.iter().find(|seen| seen["path"] == "/Work").unwrap();
    let trace = |seen: &Value| seen["trace"].as_str().unwrap()[3..35].to_owned();
    let mut bodies = Vec::new();
    for received in seen.iter().filter(|seen| seen["path"] == "/Receive") {
        assert_eq!(received["envelope"]["Metadata"]["ContentType"], "\"text/plain\"");
        assert_eq!(trace(received), trace(sent), "one trace from end to end");
        bodies.push(received["envelope"]["Data"]["order"].as_str().unwrap().to_owned());
    }
    bodies.sort();
    let expected: Vec<String> = ["[\n  1\n]", "plain text", "{\n  \"do\": \"ok\"\n}"]
        .iter()
        .map(|text| json!(text).to_string())
        .collect();
    assert_eq!(bodies, expected);
    // Bytes are bytes, and say so.
    storage.put("jobs", &json!({ "answer": { "ReturnValue": BASE64.encode("bytes") } })).await;
    let seen = host.log.said("INVOKED", 6).await;
    let received = seen.iter().rfind(|seen| seen["path"] == "/Receive").unwrap();
    let metadata = &received["envelope"]["Metadata"];
    assert_eq!(metadata["ContentType"], "\"application/octet-stream\"");
    assert_eq!(received["envelope"]["Data"]["order"], "\"bytes\"");
    broker.counts_become(false, (0, 0), &host).await;
    host.stop().await;
    storage.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_survives_its_broker() {
    let (storage, broker) = (Storage::with(&["jobs"]).await, Broker::anywhere().await);
    let output = json!({ "type": "serviceBus", "name": "work", "direction": "out",
        "queueName": "work", "connection": "OrdersBus" });
    let host =
        app(&storage, &[output]).setting("OrdersBus", broker.connection_string()).start().await;
    let message = json!({ "answer": { "Outputs": { "work": { "n": 1 } } } });
    storage.put("jobs", &message).await;
    broker.counts_become(true, (1, 0), &host).await;
    let address = broker.address;
    broker.stop().await;
    let broker = Broker::start(address).await;
    storage.put("jobs", &message).await;
    broker.counts_become(true, (1, 0), &host).await;
    storage.count_becomes("jobs", 0, &host).await;
    let log = host.stop().await.text();
    assert!(!log.contains("(Failed"), "{log}");
    storage.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_output_fails_the_invocation_but_not_the_other_outputs() {
    let storage = Storage::with(&["jobs"]).await;
    let outputs = [
        json!({ "type": "serviceBus", "name": "bus", "direction": "out", "queueName": "work",
            "connection": "OrdersBus" }),
        json!({ "type": "queue", "name": "made", "direction": "out", "queueName": "made" }),
        json!({ "type": "queue", "name": "named", "direction": "out", "queueName": "{nowhere}" }),
    ];
    let (_reserved, address) = nobody();
    let bus = format!(
        "Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=secret;\
         UseDevelopmentEmulator=true"
    );
    let host = app(&storage, &outputs).setting("OrdersBus", bus).start().await;
    let outputs = json!({ "bus": { "n": 1 }, "made": "one", "named": "x" });
    let answer = json!({ "Outputs": outputs, "Logs": ["worked"] });
    storage.put("jobs", &json!({ "answer": answer })).await;
    // Delivered twice, as often as the app allows; each time the good output was written.
    storage.visible_become("jobs-poison", 1).await;
    assert_eq!(storage.visible_become("made", 2).await, ["one", "one"]);
    let failed = host.log.wait_for("Executed 'Functions.Work' (Failed", 2).await;
    let text = &failed[0].text;
    assert!(text.contains("Output 'bus' was not written: 'work' at 127.0.0.1"), "{text}");
    assert!(text.contains("(setting OrdersBus)"), "{text}");
    assert!(text.contains("{nowhere}") && text.contains("DequeueCount"), "{text}");
    assert!(text.contains("delivered again") && !text.contains("Output 'made'"), "{text}");
    let log = host.stop().await.text();
    assert!(log.contains("worked") && !log.contains("secret"), "{log}");
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_function_answers_after_its_outputs_are_written() {
    let storage = Storage::with(&[]).await;
    let bindings = |queue: &str| {
        json!([
            { "type": "httpTrigger", "name": "req", "direction": "in", "route": queue },
            { "type": "http", "name": "res", "direction": "out" },
            { "type": "queue", "name": "made", "direction": "out", "queueName": queue,
                "connection": queue }
        ])
    };
    let (_reserved, address) = nobody();
    let host = App::new(|_| {})
        .function("Good", &bindings("good"))
        .function("Bad", &bindings("bad"))
        .setting("good", storage.connection_string())
        .setting("bad", queue::connection_string(address))
        .start()
        .await;
    let outputs = json!({ "res": { "statusCode": 202, "body": "taken" }, "made": { "n": 1 } });
    let body = json!({ "answer": { "Outputs": outputs } }).to_string();
    let answer =
        call(host.address, "POST /api/good\r\ncontent-type: application/json", &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, "taken"));
    assert_eq!(storage.peek("good").await.unwrap().len(), 1, "written before the answer");
    let answer = call(host.address, "POST /api/bad\r\ncontent-type: application/json", &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (500, ""), "{}", host.log.text());
    host.log.wait_for("Output 'made' was not written: queue 'bad' at 127.0.0.1", 1).await;
    host.stop().await;
    storage.stop().await;
}

/// A running account with an empty container `stock` (`/sku`) in the database `shop`.
struct Account {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), cosmos::ServeError>>,
}

impl Account {
    async fn start() -> Self {
        let stock = json!({ "id": "stock", "partitionKey": { "paths": ["/sku"], "kind": "Hash" } });
        let account = json!({ "databases": [{ "id": "shop", "containers": [stock] }] });
        let account = serde_json::from_value(account).unwrap();
        let options = cosmos::Options { account, ..cosmos::Options::default() };
        let server = cosmos::Server::bind(options).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let task = TaskTracker::new().spawn(server.run(stop.clone()));
        Self { address, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    fn connection_string(&self) -> String {
        format!("AccountEndpoint=http://{}/;AccountKey={};", self.address, cosmos::EMULATOR_KEY)
    }

    async fn get(&self, path: &str, partition_key: &str) -> Answer {
        #[expect(clippy::disallowed_methods, reason = "this client is a shell of its own")]
        let now = OffsetDateTime::now_utc();
        let date = cosmos::auth::http_date(u64::try_from(now.unix_timestamp()).unwrap());
        let token = cosmos::auth::sign(cosmos::EMULATOR_KEY, "GET", path, &date);
        let head = format!(
            "GET {path}\r\nx-ms-date: {date}\r\nauthorization: {token}\r\n\
             x-ms-documentdb-partitionkey: {partition_key}"
        );
        call(self.address, &head, "").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_upserted_and_containers_created_on_demand() {
    let (storage, account) = (Storage::with(&["jobs"]).await, Account::start().await);
    let outputs = [
        json!({ "type": "cosmosDB", "name": "stock", "direction": "out", "databaseName": "shop",
            "containerName": "stock", "connection": "Store" }),
        json!({ "type": "cosmosDB", "name": "audit", "direction": "out", "databaseName": "%DB%",
            "containerName": "audit-{year}", "connection": "Store", "createIfNotExists": true,
            "partitionKey": "/by/who" }),
    ];
    let host = app(&storage, &outputs)
        .setting("Store", account.connection_string())
        .setting("DB", "archive")
        .start()
        .await;
    for left in [5, 4] {
        let outputs = json!({
            "stock": { "id": "s-1", "sku": "ä", "left": left },
            "audit": [{ "id": "a", "by": { "who": 7 } }, { "id": "b" }]
        });
        storage.put("jobs", &json!({ "year": 2026, "answer": { "Outputs": outputs } })).await;
        storage.count_becomes("jobs", 0, &host).await;
    }
    let found = account.get("/dbs/shop/colls/stock/docs/s-1", "[\"\\u00e4\"]").await;
    let document: Value = serde_json::from_str(&found.body).unwrap();
    assert_eq!((&document["left"], &document["sku"]), (&json!(4), &json!("ä")), "{found:?}");
    for (id, key) in [("a", "[7]"), ("b", "[{}]")] {
        let found = account.get(&format!("/dbs/archive/colls/audit-2026/docs/{id}"), key).await;
        assert_eq!(found.status, 200, "{found:?}");
    }
    let log = host.stop().await.text();
    assert!(!log.contains("(Failed"), "{log}");
    storage.stop().await;
    account.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_cannot_be_written_say_why() {
    let (storage, account) = (Storage::with(&["jobs"]).await, Account::start().await);
    let output = json!({ "type": "cosmosDB", "name": "out", "direction": "out",
        "databaseName": "shop", "containerName": "{where}", "connection": "Store" });
    let host = app(&storage, &[output]).setting("Store", account.connection_string());
    let host = host.start().await;
    for (container, document, why) in [
        ("stock", json!({ "sku": "x" }), "the document has no \"id\""),
        ("stock", json!("hello123"), "bytes are no document"),
        ("stock", json!({ "id": "a/b", "sku": "x" }), "container 'stock' of database 'shop'"),
        ("none", json!({ "id": "a" }), "does not exist; create it"),
    ] {
        let answer = json!({ "Outputs": { "out": document } });
        storage.put("jobs", &json!({ "where": container, "answer": answer })).await;
        host.log.wait_for(why, 1).await;
    }
    storage.visible_become("jobs-poison", 4).await;
    host.stop().await;
    storage.stop().await;
    account.stop().await;
}
