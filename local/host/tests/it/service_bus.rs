//! `serviceBusTrigger` against a real broker over AMQP: settlement, counts, dead-lettering,
//! concurrency, lock renewal, and a broker that comes and goes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Data, Header, Message, MessageId, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, SimpleValue, Value as AmqpValue};
use fe2o3_amqp::{Connection, Sender, Session};
use host::HostError;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, PATIENCE, Running, kill};
use crate::wire::call;

/// A broker with a topic `orders`, its subscription `billing`, a queue `work`, one that
/// dead-letters late (`lasting`), and one whose messages come by session (`turns`).
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    handle: bus::Handle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), bus::ServeError>>,
}

impl Broker {
    pub(crate) async fn start(listen: SocketAddr) -> Self {
        let namespace = json!({
            "topics": [{ "name": "orders", "subscriptions": [
                { "name": "billing", "lockDuration": "PT3S", "maxDeliveryCount": 3 }
            ] }],
            "queues": [
                { "name": "work", "lockDuration": "PT30S", "maxDeliveryCount": 3 },
                { "name": "lasting", "lockDuration": "PT3S", "maxDeliveryCount": 1000 },
                { "name": "turns", "lockDuration": "PT3S", "maxDeliveryCount": 3,
                  "requiresSession": true }
            ]
        });
        let options = bus::Options {
            listen,
            namespace: serde_json::from_value(namespace).unwrap(),
            shared_access_key_name: "Root".to_owned(),
            shared_access_key: "secret".to_owned(),
            ..bus::Options::default()
        };
        let server = bus::Server::bind(options).await.unwrap();
        let (address, handle, stop) =
            (server.local_addr(), server.handle(), CancellationToken::new());
        let task = TaskTracker::new().spawn(server.run(stop.clone()));
        Self { address, handle, stop, task }
    }

    pub(crate) async fn anywhere() -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn connection_string(&self) -> String {
        connection_string(self.address)
    }

    /// Active and dead-lettered messages of a queue.
    pub(crate) fn queue(&self, name: &str) -> (usize, usize) {
        let status = self.handle.status();
        let queue = status.queues.iter().find(|queue| queue.name == name).unwrap();
        (queue.active, queue.dead_letter)
    }

    /// The same of `orders/billing`, or of `work`.
    fn counts(&self, queue: bool) -> (usize, usize) {
        let status = self.handle.status();
        if queue {
            self.queue("work")
        } else {
            let billing = &status.topics[0].subscriptions[0];
            (billing.active, billing.dead_letter)
        }
    }

    pub(crate) async fn counts_become(&self, queue: bool, wanted: (usize, usize), host: &Running) {
        let deadline = Instant::now() + PATIENCE;
        while self.counts(queue) != wanted {
            assert!(
                Instant::now() < deadline,
                "{:?} is not {wanted:?}:\n{}",
                self.counts(queue),
                host.log.text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn connection_string(address: SocketAddr) -> String {
    format!(
        "Endpoint=sb://{address};SharedAccessKeyName=Root;SharedAccessKey=secret;\
         UseDevelopmentEmulator=true;"
    )
}

/// A publisher of its own connection.
pub(crate) struct Publisher {
    sender: Sender,
    _session: fe2o3_amqp::session::SessionHandle<()>,
    _connection: fe2o3_amqp::connection::ConnectionHandle<()>,
}

impl Publisher {
    pub(crate) async fn connect(address: SocketAddr, entity: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut connection = Connection::builder()
            .container_id("publisher")
            .hostname("localhost")
            .sasl_profile(SaslProfile::Anonymous)
            .open_with_stream(stream)
            .await
            .unwrap();
        let mut session = Session::begin(&mut connection).await.unwrap();
        token(&mut session, entity).await;
        let sender = Sender::attach(&mut session, "publisher", entity).await.unwrap();
        Self { sender, _session: session, _connection: connection }
    }

    pub(crate) async fn send(&mut self, id: &str, body: &Value) {
        self.send_in(None, id, body).await;
    }

    pub(crate) async fn send_in(&mut self, session: Option<&str>, id: &str, body: &Value) {
        let mut properties = Properties::builder()
            .message_id(MessageId::from(id.to_owned()))
            .content_type("application/json")
            .subject("order-created")
            .correlation_id(MessageId::from("corr-9".to_owned()));
        if let Some(session) = session {
            properties = properties.group_id(session.to_owned());
        }
        let message = Message::builder()
            .header(Header { ttl: Some(86_400_000), ..Header::default() })
            .properties(properties.build())
            .application_properties(
                ApplicationProperties::builder()
                    .insert("region", "eu")
                    .insert("attempt", 2_i64)
                    .insert(
                        "traceparent",
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                    )
                    .build(),
            )
            .body(Data(Binary::from(body.to_string().into_bytes())))
            .build();
        self.sender.send(message).await.unwrap().accepted_or("not accepted").unwrap();
    }
}

/// Puts a token for `entity`, made without the code under test.
async fn token(session: &mut fe2o3_amqp::session::SessionHandle<()>, entity: &str) {
    use base64::Engine as _;
    use hmac::Mac as _;
    let audience = format!("sb://localhost/{entity}");
    let resource = audience.replace(':', "%3A").replace('/', "%2F");
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(format!("{resource}\n4102444800").as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let token =
        format!("SharedAccessSignature sr={resource}&sig={signature}&se=4102444800&skn=Root");
    let mut requests = Sender::attach(session, "cbs", "$cbs").await.unwrap();
    let mut replies = fe2o3_amqp::Receiver::builder()
        .name("cbs-replies")
        .source("$cbs")
        .target("here")
        .attach(session)
        .await
        .unwrap();
    let message = Message::builder()
        .properties(
            Properties::builder()
                .message_id(MessageId::from("1".to_owned()))
                .reply_to("here".to_owned())
                .build(),
        )
        .application_properties(
            ApplicationProperties::builder()
                .insert("operation", "put-token")
                .insert("type", "servicebus.windows.net:sastoken")
                .insert("name", audience)
                .build(),
        )
        .value(token)
        .build();
    requests.send(message).await.unwrap();
    let reply = replies.recv::<fe2o3_amqp::types::messaging::Body<AmqpValue>>().await.unwrap();
    let code =
        reply.message().application_properties.clone().unwrap().0.get("status-code").cloned();
    let accepted = Some(SimpleValue::Int(202));
    assert_eq!(code, accepted);
    requests.close().await.unwrap();
    replies.close().await.unwrap();
}

fn topic_trigger() -> Value {
    json!([{ "type": "serviceBusTrigger", "name": "order", "direction": "in",
        "topicName": "%TOPIC%", "subscriptionName": "billing", "connection": "OrdersBus" }])
}

pub(crate) fn queue_trigger() -> Value {
    json!([{ "type": "serviceBusTrigger", "name": "job", "direction": "in",
        "queueName": "work", "connection": "OrdersBus" }])
}

pub(crate) async fn start(connection: String, name: &str, bindings: Value) -> Running {
    start_with(connection, name, bindings, |_| {}).await
}

pub(crate) async fn start_with(
    connection: String,
    name: &str,
    bindings: Value,
    change: impl FnOnce(&mut Value),
) -> Running {
    App::new(change)
        .function(name, &bindings)
        .setting("TOPIC", "orders")
        .setting("OrdersBus", connection)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_invoked_completed_and_its_envelope_is_exact() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Billing", topic_trigger()).await;
    let mut publisher = Publisher::connect(broker.address, "orders").await;
    publisher.send("m-1", &json!({ "orderId": "o-7", "MessageId": "forged" })).await;
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    broker.counts_become(false, (0, 0), &host).await;

    assert_eq!((&seen["path"], &seen["coding"]), (&json!("/Billing"), &json!("chunked")));
    let trace = seen["trace"].as_str().unwrap();
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    let envelope = &seen["envelope"];
    assert_eq!(
        envelope["Data"],
        json!({ "order": "\"{\\\"MessageId\\\":\\\"forged\\\",\\\"orderId\\\":\\\"o-7\\\"}\"" })
    );
    let metadata = &envelope["Metadata"];
    for (name, expected) in [
        ("MessageId", json!("\"forged\"")),
        ("orderId", json!("\"o-7\"")),
        ("DeliveryCount", json!("1")),
        ("SequenceNumber", json!("1")),
        ("ContentType", json!("\"application/json\"")),
        ("Subject", json!("\"order-created\"")),
        ("Label", json!("\"order-created\"")),
        ("CorrelationId", json!("\"corr-9\"")),
        ("MessageReceiver", json!({})),
    ] {
        assert_eq!(metadata[name], expected, "{name} in {metadata}");
    }
    assert_eq!(metadata["ApplicationProperties"]["region"], "eu");
    assert_eq!(metadata["ApplicationProperties"]["attempt"], 2, "in its own type");
    assert_eq!(metadata["Client"]["FullyQualifiedNamespace"], "127.0.0.1");
    assert_eq!(metadata["LockToken"].as_str().unwrap().len(), 38);
    let day = |name: &str| metadata[name].as_str().unwrap().len();
    assert_eq!((day("EnqueuedTimeUtc"), day("ExpiresAt")), (19, 25), "{metadata}");
    assert!(metadata.get("SessionId").is_none() && metadata.get("To").is_none());

    let executing = host.log.wait_for("Executing 'Functions.Billing' (Reason='(null)'", 1).await;
    assert_eq!(executing[0].invocation_id.unwrap().to_string(), seen["id"].as_str().unwrap());
    host.log
        .wait_for("Trigger Details: MessageId: m-1, SequenceNumber: 1, DeliveryCount: 1", 1)
        .await;
    host.log.wait_for("Executed 'Functions.Billing' (Succeeded", 1).await;
    let log = host.stop().await.text();
    assert!(log.contains("\tBilling: serviceBusTrigger"), "{log}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_abandons_at_once_and_burns_into_the_dead_letter_queue() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Work", queue_trigger()).await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for (id, asked) in [("bad", "fail"), ("worse", "plain"), ("good", "ok")] {
        publisher.send(id, &json!({ "do": asked })).await;
    }
    // A lock lasts half a minute: only abandoning gets there in time.
    let started = Instant::now();
    broker.counts_become(true, (0, 2), &host).await;
    assert!(started.elapsed() < Duration::from_secs(15));
    let seen = host.log.said("INVOKED", 7).await;
    let mut counts: Vec<&str> = seen
        .iter()
        .filter(|call| call["envelope"]["Data"]["job"].as_str().unwrap().contains("fail"))
        .map(|call| call["envelope"]["Metadata"]["DeliveryCount"].as_str().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, ["1", "2", "3"]);
    let ids: HashSet<&str> = seen.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 7, "every delivery is an invocation of its own");
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_run_at_a_time_and_never_more() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Work", queue_trigger()).await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for number in 0..48 {
        publisher.send(&format!("m-{number}"), &json!({ "delayMs": 300 })).await;
    }
    host.log.wait_for("Executing 'Functions.Work'", 16).await;
    broker.counts_become(true, (0, 0), &host).await;
    let lines = host.log.wait_for("ing 'Functions.Work'", 48).await;
    let (mut running, mut most) = (0_usize, 0);
    for line in host.log.text().lines() {
        if line.contains("Executing 'Functions.Work'") {
            running += 1;
            most = most.max(running);
        } else if line.contains("Executed 'Functions.Work'") {
            running -= 1;
        }
    }
    assert_eq!((most, running, lines.len()), (16, 0, 48));
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_are_renewed_while_the_function_runs_and_no_longer_than_allowed() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Billing", topic_trigger()).await;
    let mut publisher = Publisher::connect(broker.address, "orders").await;
    // The lock lasts three seconds.
    publisher.send("slow", &json!({ "delayMs": 7_000 })).await;
    host.log.wait_for("Executed 'Functions.Billing' (Succeeded", 1).await;
    broker.counts_become(false, (0, 0), &host).await;
    assert_eq!(host.log.said("INVOKED", 1).await.len(), 1, "delivered once");
    host.stop().await;

    let host = start_with(broker.connection_string(), "Billing", topic_trigger(), |host| {
        host["extensions"]["serviceBus"]["maxAutoLockRenewalDuration"] = json!("00:00:00");
    })
    .await;
    publisher.send("lost", &json!({ "delayMs": 3_500 })).await;
    host.log.wait_for("has expired before its invocation ended", 1).await;
    host.log.wait_for("The broker refused to settle message 'lost'", 1).await;
    let again = host.log.said("INVOKED", 2).await.remove(1);
    assert_eq!(again["envelope"]["Metadata"]["DeliveryCount"], "2");
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_and_goes_is_found_again() {
    // A port that was free a moment ago.
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let mut host = start(connection_string(address), "Work", queue_trigger()).await;
    host.pid().await;
    let waiting = host.log.wait_for("Not receiving from work at", 1).await;
    let text = &waiting[0].text;
    assert!(text.contains(&address.to_string()) && text.contains("trying again"), "{text}");
    assert!(!host.log.text().contains("secret"));

    let broker = Broker::start(address).await;
    host.log.wait_for("Receiving from work at", 1).await;
    let mut publisher = Publisher::connect(address, "work").await;
    publisher.send("before", &json!({})).await;
    host.log.wait_for("Executed 'Functions.Work' (Succeeded", 1).await;
    broker.counts_become(true, (0, 0), &host).await;

    // In flight when the broker goes down: its end cannot be told to this one, nor to the next.
    publisher.send("during", &json!({ "delayMs": 2_000 })).await;
    host.log.said("INVOKED", 2).await;
    drop(publisher);
    broker.stop().await;
    host.log.wait_for("Not receiving from work at", 2).await;
    let broker = Broker::start(address).await;
    host.log.wait_for("Receiving from work at", 2).await;
    let mut publisher = Publisher::connect(address, "work").await;
    publisher.send("after", &json!({})).await;
    host.log.wait_for("Executed 'Functions.Work' (Succeeded", 3).await;
    broker.counts_become(true, (0, 0), &host).await;
    host.log.wait_for("could not be settled after the connection was lost", 1).await;
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_the_handler_is_a_failed_delivery() {
    let broker = Broker::anywhere().await;
    let mut host = start_with(broker.connection_string(), "Work", queue_trigger(), |host| {
        host["functionTimeout"] = json!("00:00:01");
    })
    .await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    publisher.send("killed", &json!({ "do": "never" })).await;
    let pid = host.pid().await;
    host.log.said("INVOKED", 1).await;
    kill(pid);
    host.log.wait_for("Executed 'Functions.Work' (Failed", 1).await;
    // The second delivery waits for the new process, runs into the timeout, and costs it its life.
    host.log.wait_for("Timeout value of 1s exceeded", 1).await;
    broker.counts_become(true, (0, 1), &host).await;
    // An empty answer is a timeout too.
    publisher.send("empty", &json!({ "do": "empty" })).await;
    host.log.wait_for("with an empty body (or null) to 'Functions.Work'", 1).await;
    broker.counts_become(true, (0, 2), &host).await;
    assert!(host.log.text().contains("(1 of 3 errors): signal: 9"), "{}", host.log.text());
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_gives_up_does_not_take_back_what_it_gives_back() {
    let broker = Broker::anywhere().await;
    let mut host = start(broker.connection_string(), "Work", queue_trigger()).await;
    let mut pid = host.pid().await;
    for _ in 0..2 {
        kill(pid);
        pid = host.pid_other_than(pid).await;
    }
    let mut publisher = Publisher::connect(broker.address, "work").await;
    publisher.send("m", &json!({ "do": "exit" })).await;
    let (outcome, log) = host.ended().await;
    assert!(matches!(outcome, Err(HostError::GaveUp(_))), "{outcome:?}");
    assert_eq!(log.lines("Executing 'Functions.Work'").len(), 1, "{}", log.text());
    // One death of the handler has cost one delivery: the next host gets the second.
    let next = start(broker.connection_string(), "Work", queue_trigger()).await;
    let seen = next.log.said("INVOKED", 1).await.remove(0);
    assert_eq!(seen["envelope"]["Metadata"]["DeliveryCount"], "2");
    next.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_one_invocation() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for number in 0..5 {
        publisher.send(&format!("m-{number}"), &json!({ "n": number })).await;
    }
    let mut bindings = queue_trigger();
    bindings[0]["cardinality"] = json!("many");
    bindings[0]["maxMessageBatchSize"] = json!(3);
    let host = start(broker.connection_string(), "Work", bindings).await;
    broker.counts_become(true, (0, 0), &host).await;
    let seen = host.log.said("INVOKED", 2).await;
    let first: Value =
        serde_json::from_str(seen[0]["envelope"]["Data"]["job"].as_str().unwrap()).unwrap();
    assert_eq!(first, json!([{ "n": 0 }, { "n": 1 }, { "n": 2 }]));
    assert_eq!(
        seen[0]["envelope"]["Metadata"]["MessageIdArray"],
        json!("[\"m-0\",\"m-1\",\"m-2\"]")
    );
    assert_eq!(seen[1]["envelope"]["Metadata"]["DeliveryCountArray"], json!("[1,1]"));
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_invocations_end_and_settles_them() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Work", queue_trigger()).await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    publisher.send("m", &json!({ "delayMs": 1_000 })).await;
    host.log.said("INVOKED", 1).await;
    let log = host.stop().await;
    assert!(log.text().contains("Executed 'Functions.Work' (Succeeded"), "{}", log.text());
    let left = broker.counts(true);
    assert_eq!(left, (0, 0), "{}", log.text());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_endpoint_runs_a_function_with_a_text() {
    let broker = Broker::anywhere().await;
    let host = start(broker.connection_string(), "Work", queue_trigger()).await;
    let path = "POST /admin/functions/work\r\ncontent-type: application/json";
    assert_eq!(call(host.address, path, r#"{"input":"hello"}"#).await.status, 202);
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    assert_eq!(seen["envelope"]["Data"], json!({ "job": "\"hello\"" }));
    assert_eq!(seen["envelope"]["Metadata"]["DeliveryCount"], "0");
    for (body, status) in [(r#"{"input":1}"#, 400), ("[]", 400), ("{", 400)] {
        assert_eq!(call(host.address, path, body).await.status, status, "{body}");
    }
    let unknown = "POST /admin/functions/none\r\ncontent-type: application/json";
    let answer = call(host.address, unknown, "{}").await;
    assert!(answer.status == 404 && answer.body.contains("Work"), "{answer:?}");
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_comes_in_batches_over_one_connection() {
    const BACKLOG: usize = 1_500;
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    for number in 0..BACKLOG {
        publisher.send(&format!("m-{number}"), &json!({ "delayMs": 20 })).await;
    }
    let mut bindings = queue_trigger();
    bindings[0]["cardinality"] = json!("many");
    bindings[0]["dataType"] = json!("string");
    bindings[0]["maxMessageBatchSize"] = json!(400);
    let host = start(broker.connection_string(), "Work", bindings).await;
    broker.counts_become(true, (0, 0), &host).await;
    host.log.wait_for("Executed 'Functions.Work' (Succeeded", 4).await;
    let counts = host.log.lines("Trigger Details: MessageCount: ");
    let counts: Vec<usize> =
        counts.iter().map(|line| line.text.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(counts.iter().sum::<usize>(), BACKLOG, "each once: {counts:?}");
    assert!(counts.iter().all(|count| *count <= 400), "{counts:?}");
    let log = host.stop().await;
    assert!(log.lines("Not receiving").is_empty(), "{}", log.text());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_or_entity_is_said_and_tried_again() {
    let broker = Broker::anywhere().await;
    let wrong = broker.connection_string().replace("secret", "wrong");
    let host = start(wrong, "Work", queue_trigger()).await;
    let lines = host.log.wait_for("Not receiving from work", 1).await;
    assert!(lines[0].text.contains("the key of setting OrdersBus was refused"), "{lines:?}");
    host.stop().await;
    let mut bindings = queue_trigger();
    bindings[0]["queueName"] = json!("nowhere");
    let host = start(broker.connection_string(), "Work", bindings).await;
    let lines = host.log.wait_for("Not receiving from nowhere", 1).await;
    assert!(lines[0].text.contains("'nowhere' cannot be received from"), "{lines:?}");
    host.stop().await;
    broker.stop().await;
}
