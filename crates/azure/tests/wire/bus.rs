//! A broker that is away, or that accepts and says nothing: every wait ends, and no failure is for
//! ever.

use std::time::{Duration, Instant};

use azure::{
    bus::{BusClient, BusError, BusOptions, Message, ReceiverOptions},
    connection::BusConnection,
};
use tokio::net::TcpListener;

fn client(port: u16) -> BusClient {
    let text = format!(
        "Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName=rule;SharedAccessKey=key;\
         UseDevelopmentEmulator=true"
    );
    let options = BusOptions {
        deadline: Duration::from_secs(3),
        connect_timeout: Duration::from_millis(300),
        ..BusOptions::default()
    };
    BusClient::new(BusConnection::from_connection_string(&text).unwrap(), options)
}

#[tokio::test]
async fn a_broker_that_is_away_costs_its_callers_next_to_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = client(port);
    let sender = client.sender("orders");
    let started = Instant::now();
    for _ in 0..20 {
        let error = sender.send(&Message::new("x")).await.unwrap_err();
        assert!(matches!(error, BusError::Disconnected { .. }), "{error}");
        assert!(error.is_transient());
    }
    // Twenty sends, and not twenty times the back-off: most of them are told at once.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let receiver = client.receiver("orders", Some("billing-sub"), ReceiverOptions::default());
    assert_eq!(receiver.entity(), "orders/Subscriptions/billing-sub");
    assert!(receiver.receive(1, Duration::from_secs(60)).await.is_err());
    assert!(client.management("orders").peek(0, 1).await.is_err());
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_given_up_on() {
    // Never accepted, yet the handshake of TCP succeeds: the half-open case.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(listener.local_addr().unwrap().port());
    let started = Instant::now();
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, BusError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn handles_can_be_held_by_spawned_tasks() {
    fn assert_send<T: Send>(_: &T) {}
    let client = client(1);
    let sender = client.sender("orders");
    let message = Message::new("x");
    assert_send(&sender.send(&message));
    assert_send(&sender.send_batch(std::slice::from_ref(&message)));
    let receiver = client.receiver("orders", None, ReceiverOptions::default());
    assert_send(&receiver.receive(1, Duration::ZERO));
    assert_send(&client.management("orders").peek(0, 1));
    // No secret in what may end up in a log.
    assert!(!format!("{client:?} {sender:?} {receiver:?}").contains("key"));
}
