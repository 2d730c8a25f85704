//! A whole server over TCP, driven by `fe2o3-amqp`: the engine underneath our own client and the
//! official Rust one. What it shares with the Python and JavaScript suites is left to them; here
//! are the things only a fast, strict, plain AMQP 1.0 client finds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bus::{BindError, Options, Server, Status};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::{AmqpError, Error, ErrorCondition, ReceiverSettleMode};
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Body, Data, Message, Modified, Outcome, Properties,
};
use fe2o3_amqp_types::primitives::{Binary, SimpleValue};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE_SECONDS: u64 = 20;
const NAMESPACE: &str = r#"{
    "queues": [{"name": "q", "lockDuration": "PT5M"}],
    "topics": [{"name": "orders", "subscriptions": [
        {"name": "billing-sub", "maxDeliveryCount": 2, "rules": [{"name": "r", "sqlExpression":
            "(target IS NULL OR target = 'billing-sub') AND event_type IN ('order.created')"}]}
    ]}]
}"#;

/// A running server that stops with its test.
struct Bus {
    address: std::net::SocketAddr,
    handle: bus::Handle,
    running: JoinSet<Result<(), bus::ServeError>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Bus {
    async fn start() -> Bus {
        Bus::with(Options::default()).await
    }

    async fn with(options: Options) -> Bus {
        let namespace = serde_json::from_str(NAMESPACE).unwrap();
        let server = Server::bind(Options { namespace, ..options }).await.unwrap();
        let (address, handle) = (server.local_addr(), server.handle());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(server.run(stop.clone()));
        Bus { address, handle, running, _stop_on_drop: stop.clone().drop_guard(), stop }
    }

    async fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn connect(&self, name: &str) -> ConnectionHandle<()> {
        let profile = SaslProfile::Plain {
            username: "RootManageSharedAccessKey".into(),
            password: "SAS_KEY_VALUE".into(),
        };
        let stream = self.stream().await;
        let builder = Connection::builder().container_id(name).sasl_profile(profile);
        builder
            .hostname("localhost")
            .idle_time_out(60_000_u32)
            .open_with_stream(stream)
            .await
            .unwrap()
    }

    /// Waits until the counts are as wanted.
    async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        within(async {
            loop {
                let status = self.handle.status();
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(DEADLINE_SECONDS), future).await.expect("in time")
}

async fn receiver(session: &mut SessionHandle<()>, address: &str, credit: u32) -> Receiver {
    Receiver::builder()
        .name(format!("receiver-{address}"))
        .source(address)
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(CreditMode::Auto(credit))
        .attach(session)
        .await
        .unwrap()
}

fn data(body: &[u8]) -> Message<Data> {
    Message::builder().data(Binary::from(body.to_vec())).build()
}

#[tokio::test]
async fn outcomes_of_a_plain_client_mean_what_the_service_means() {
    let bus = Bus::start().await;
    let mut connection = bus.connect("outcomes").await;
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut sender =
        Sender::attach(&mut session, "sender", "amqps://localhost/orders").await.unwrap();
    assert_eq!(sender.max_message_size(), Some(1_048_576));
    let event = |kind: &str| {
        Message::builder()
            .properties(Properties::builder().message_id(kind.to_owned()).build())
            .application_properties(
                ApplicationProperties::builder().insert("event_type", kind).build(),
            )
            .data(Binary::from(b"{}".to_vec()))
            .build()
    };
    for kind in ["order.created", "order.completed"] {
        assert!(matches!(within(sender.send(event(kind))).await, Ok(Outcome::Accepted(_))));
    }
    let path = "orders/Subscriptions/billing-sub";
    let mut billing = receiver(&mut session, path, 10).await;
    let delivery =
        within(billing.recv::<Body<fe2o3_amqp_types::primitives::Value>>()).await.unwrap();
    let header = delivery.message().header.clone().unwrap();
    assert_eq!(header.delivery_count, 0);
    assert_eq!(delivery.delivery_tag().len(), 16);
    let properties = delivery.message().application_properties.clone().unwrap();
    assert_eq!(properties.get("event_type"), Some(&SimpleValue::String("order.created".into())));
    let modified = Modified {
        delivery_failed: Some(true),
        undeliverable_here: None,
        message_annotations: None,
    };
    within(billing.modify(&delivery, modified)).await.unwrap();
    let again = within(billing.recv::<Body<fe2o3_amqp_types::primitives::Value>>()).await.unwrap();
    assert_eq!(again.message().header.as_ref().unwrap().delivery_count, 1);
    let condition = ErrorCondition::Custom("com.example:unreadable".into());
    let error = Error { condition, description: Some("not JSON".into()), info: None };
    within(billing.reject(&again, error)).await.unwrap();

    let dead_letters = format!("{path}/$DeadLetterQueue");
    let mut dead = receiver(&mut session, &dead_letters, 1).await;
    let delivery = within(dead.recv::<Body<fe2o3_amqp_types::primitives::Value>>()).await.unwrap();
    let properties = delivery.message().application_properties.clone().unwrap();
    let text = |text: &str| SimpleValue::String(text.into());
    assert_eq!(properties.get("DeadLetterReason"), Some(&text("com.example:unreadable")));
    assert_eq!(properties.get("DeadLetterErrorDescription"), Some(&text("not JSON")));
    within(dead.accept(&delivery)).await.unwrap();
    let status = bus.until(|status| status.topics[0].subscriptions[0].dead_letter == 0).await;
    assert_eq!(status.topics[0].subscriptions[0].active, 0, "the other type was filtered out");
    assert_eq!(status.connections, 1);
    connection.close().await.unwrap();
    bus.until(|status| status.connections == 0).await;
}

/// Pipelined sends over a multi-thread runtime, received and settled at the same time: an answer
/// that overtakes its own registration, a credit that is not renewed or a wake-up that is lost
/// would each hang this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_messages_pass_without_a_hang() {
    const MESSAGES: usize = 5_000;
    const UNDER_WAY_MAX: usize = 200;
    let bus = Bus::start().await;
    let mut sending = bus.connect("sending").await;
    let mut receiving = bus.connect("receiving").await;
    let mut session = Session::begin(&mut sending).await.unwrap();
    let mut sender = Sender::attach(&mut session, "sender", "q").await.unwrap();
    let mut other = Session::begin(&mut receiving).await.unwrap();
    let mut receiver = receiver(&mut other, "q", 300).await;
    let send = async {
        let mut under_way = std::collections::VecDeque::new();
        for n in 0..MESSAGES {
            let message = data(&u32::try_from(n).unwrap().to_be_bytes());
            under_way.push_back(sender.send_batchable(message).await.unwrap());
            if under_way.len() >= UNDER_WAY_MAX {
                assert!(matches!(under_way.pop_front().unwrap().await, Ok(Outcome::Accepted(_))));
            }
        }
        for outcome in under_way {
            assert!(matches!(outcome.await, Ok(Outcome::Accepted(_))));
        }
    };
    let receive = async {
        for n in 0..MESSAGES {
            let delivery = receiver.recv::<Data>().await.unwrap();
            let body: [u8; 4] = delivery.body().0[..].try_into().unwrap();
            assert_eq!(u32::from_be_bytes(body) as usize, n, "in the order sent");
            receiver.accept(&delivery).await.unwrap();
        }
    };
    within(async { tokio::join!(send, receive) }).await;
    bus.until(|status| status.queues[0].active == 0).await;
}

#[tokio::test]
async fn several_frames_and_too_many_bytes() {
    let bus = Bus::start().await;
    let mut connection = bus.connect("large").await;
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut sender = Sender::attach(&mut session, "sender", "q").await.unwrap();
    let body: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    within(sender.send(data(&body))).await.unwrap();
    let mut receiver = receiver(&mut session, "q", 1).await;
    let delivery = within(receiver.recv::<Data>()).await.unwrap();
    assert!(delivery.body().0[..] == body[..]);
    within(receiver.accept(&delivery)).await.unwrap();
    // This client looks at the announced limit itself.
    let refused = within(sender.send(data(&vec![0; 1_100_000]))).await;
    assert!(matches!(refused, Err(SendError::MessageSizeExceeded(_))), "{refused:?}");
    within(sender.send(data(b"alive"))).await.unwrap();
}

/// A heartbeat before Open made one connection in eight fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_open_every_time() {
    let bus = Bus::start().await;
    for n in 0..60 {
        let mut connection = within(bus.connect(&format!("c{n}"))).await;
        within(connection.close()).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_keys_and_too_many_connections_are_turned_away() {
    let bus = Bus::with(Options { max_connections: 1, ..Options::default() }).await;
    let profile =
        SaslProfile::Plain { username: "RootManageSharedAccessKey".into(), password: "no".into() };
    let stream = bus.stream().await;
    let refused =
        Connection::builder().container_id("wrong").sasl_profile(profile).open_with_stream(stream);
    assert!(within(refused).await.is_err());
    bus.until(|status| status.connections == 0).await;

    let mut first = bus.connect("first").await;
    let stream = bus.stream().await;
    let second = Connection::builder()
        .container_id("second")
        .sasl_profile(SaslProfile::Anonymous)
        .open_with_stream(stream);
    assert!(within(second).await.is_err(), "there is one place");
    within(first.close()).await.unwrap();
    bus.until(|status| status.connections == 0).await;

    // Without a token nothing can be attached.
    let stream = bus.stream().await;
    let anonymous = Connection::builder()
        .container_id("anonymous")
        .sasl_profile(SaslProfile::Anonymous)
        .open_with_stream(stream);
    let mut anonymous = within(anonymous).await.unwrap();
    let mut session = Session::begin(&mut anonymous).await.unwrap();
    let refused = within(Sender::attach(&mut session, "sender", "q")).await.unwrap_err();
    let expected = ErrorCondition::AmqpError(AmqpError::UnauthorizedAccess);
    assert!(format!("{refused:?}").contains(&format!("{expected:?}")), "{refused:?}");
}

#[tokio::test]
async fn a_taken_port_is_named_and_shutdown_says_goodbye() {
    let mut bus = Bus::start().await;
    let taken = Server::bind(Options { listen: bus.address, ..Options::default() }).await;
    match taken {
        Err(BindError::AddressInUse(address)) => assert_eq!(address, bus.address),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("bound twice"),
    }
    let mut connection = bus.connect("stays").await;
    bus.stop.cancel();
    let closed = within(connection.on_close()).await;
    assert!(format!("{closed:?}").contains("ConnectionForced"), "{closed:?}");
    within(bus.running.join_next()).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(bus.address).await.is_err());
}
