//! The endpoint for operators over a real socket: counts, metrics, and faults as a client meets
//! them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use bus::{Options, Server};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::{Connection, Sender, Session};
use fe2o3_amqp_types::messaging::{Data, Message, Outcome};
use fe2o3_amqp_types::primitives::Binary;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Ample for an answer, on a busy machine.
const WITHIN: Duration = Duration::from_secs(20);

struct Bus {
    address: SocketAddr,
    operations: SocketAddr,
    _running: tokio::task::JoinSet<Result<(), bus::ServeError>>,
    _stop: DropGuard,
}

impl Bus {
    async fn start(faults: bool) -> Bus {
        Bus::start_with(Options { faults, ..Options::default() }).await
    }

    async fn start_with(options: Options) -> Bus {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let namespace = serde_json::from_str(r#"{"queues": [{"name": "q"}]}"#).unwrap();
        let options = Options { namespace, operations: Some(listen), ..options };
        let server = Server::bind(options).await.unwrap();
        let (address, operations) = (server.local_addr(), server.operations_addr().unwrap());
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(server.run(stop.clone()));
        Bus { address, operations, _running: running, _stop: stop.drop_guard() }
    }

    /// Status and body of a request.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.operations).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    async fn connect(&self) -> ConnectionHandle<()> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let profile = SaslProfile::Plain {
            username: "RootManageSharedAccessKey".into(),
            password: "SAS_KEY_VALUE".into(),
        };
        let builder = Connection::builder().container_id("test").sasl_profile(profile);
        builder.open_with_stream(stream).await.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WITHIN, future).await.expect("in time")
}

fn message() -> Message<Data> {
    Message::builder().data(Binary::from(b"body".to_vec())).build()
}

#[tokio::test]
async fn operators_see_counts_and_make_things_go_wrong() {
    let bus = Bus::start(true).await;
    let mut connection = bus.connect().await;
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut sender = Sender::attach(&mut session, "sender", "q").await.unwrap();
    assert!(matches!(within(sender.send(message())).await, Ok(Outcome::Accepted(_))));

    assert_eq!(bus.ask("GET", "/healthz", "").await.0, 200);
    let (_, status) = bus.ask("GET", "/status", "").await;
    assert!(status.contains(r#""name":"q","active":1,"#), "{status}");
    let (_, metrics) = bus.ask("GET", "/metrics", "").await;
    for line in [
        r#"bus_messages{entity="q",state="active"} 1"#,
        r#"bus_messages{entity="q",state="transfer"} 0"#,
        "# TYPE bus_oldest_message_age_seconds gauge",
        "bus_connections 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }

    let busy = r#"[{"kind": "serverBusy", "entity": "Q", "operation": "send", "times": 1}]"#;
    assert_eq!(bus.ask("PUT", "/faults", busy).await.0, 204);
    let refused = within(sender.send(message())).await.unwrap();
    assert!(format!("{refused:?}").contains("server-busy"), "{refused:?}");
    assert!(matches!(within(sender.send(message())).await, Ok(Outcome::Accepted(_))));

    assert_eq!(bus.ask("PUT", "/faults", r#"[{"kind": "detach"}]"#).await.0, 204);
    assert!(within(sender.send(message())).await.is_err());
    assert_eq!(bus.ask("PUT", "/faults", r#"[{"kind": "drop", "times": 1}]"#).await.0, 204);
    let mut another = bus.connect().await;
    let mut session = Session::begin(&mut another).await.unwrap();
    let mut sender = Sender::attach(&mut session, "another", "q").await.unwrap();
    // The client may wait for an answer that never comes; the connection says that it is over.
    let sending = sender.send(message());
    let dropped = async {
        tokio::select! {
            refused = sending => assert!(refused.is_err()),
            _ = another.on_close() => {}
        }
    };
    within(dropped).await;
    assert_eq!(bus.ask("DELETE", "/faults", "").await.0, 204);
    assert_eq!(bus.ask("GET", "/faults", "").await, (200, "[]".to_owned()));
    assert!(bus.ask("PUT", "/faults", r#"[{"kind": "explode"}]"#).await.0 >= 400);
    // What was refused, detached or dropped was not stored.
    let (_, status) = bus.ask("GET", "/status", "").await;
    assert!(status.contains(r#""name":"q","active":2,"#), "{status}");
}

#[tokio::test]
async fn operators_see_how_long_the_disk_takes() {
    let folder = std::env::temp_dir().join(format!("bus-operations-{}", uuid::Uuid::new_v4()));
    let bus = Bus::start_with(Options { data: Some(folder.clone()), ..Options::default() }).await;
    let writes = async || {
        let (_, metrics) = bus.ask("GET", "/metrics", "").await;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        let count = value("bus_journal_write_seconds_count");
        assert_eq!(
            value("bus_journal_write_seconds_bucket{le=\"+Inf\"}").to_bits(),
            count.to_bits()
        );
        assert!(value("bus_journal_write_seconds_bucket{le=\"0.001\"}") <= count);
        (count, value("bus_journal_write_seconds_sum"))
    };
    let before = writes().await;
    let mut connection = bus.connect().await;
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut sender = Sender::attach(&mut session, "sender", "q").await.unwrap();
    for _ in 0..3 {
        assert!(matches!(within(sender.send(message())).await, Ok(Outcome::Accepted(_))));
    }
    // Each was answered, so each was written, one after the other.
    let after = writes().await;
    assert!(after.0 >= before.0 + 3.0 && after.1 > before.1, "{before:?} {after:?}");
    drop(bus);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn faults_need_to_be_allowed() {
    let bus = Bus::start(false).await;
    assert_eq!(bus.ask("PUT", "/faults", "[]").await.0, 404);
    assert_eq!(bus.ask("GET", "/status", "").await.0, 200);
}
