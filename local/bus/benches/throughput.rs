//! Messages per second through one queue, peek-lock with every settlement answered, over TCP.
//!
//! `cargo bench -p bus` prints; nothing is asserted, because the numbers are the machine's. Client
//! (`fe2o3-amqp`) and server share the machine and this process, each on a runtime of its own.

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use bus::{Options, Server};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::ReceiverSettleMode;
use fe2o3_amqp_types::messaging::{Data, Message};
use fe2o3_amqp_types::primitives::Binary;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MESSAGES: usize = 60_000;
/// Sends that have not been answered, and receiver credit.
const WINDOW: u16 = 200;

fn main() -> Result<()> {
    let serving = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clients = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let queues: Vec<_> = (0..4).map(|n| serde_json::json!({ "name": format!("q{n}") })).collect();
    let namespace = serde_json::from_value(serde_json::json!({ "queues": queues }))?;
    let server = serving.block_on(Server::bind(Options { namespace, ..Options::default() }))?;
    let address = server.local_addr();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| -> Result<()> {
        let running = scope.spawn({
            let stop = stop.clone();
            move || serving.block_on(server.run(stop))
        });
        let _stop_on_return = stop.drop_guard();
        for (pairs, body_bytes) in [(1, 12), (1, 1_024), (2, 1_024), (4, 1_024)] {
            let started = Instant::now();
            clients.block_on(measure(address, pairs, body_bytes))?;
            let seconds = started.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a count of messages, for people")]
            let rate = MESSAGES as f64 / seconds;
            println!("{pairs} pair(s), {body_bytes:>5} B: {rate:>8.0} msg/s");
        }
        drop(running);
        Ok(())
    })
}

/// `pairs` senders and receivers, each pair on a queue of its own, sharing the messages.
async fn measure(address: SocketAddr, pairs: usize, body_bytes: usize) -> Result<()> {
    let mut running = tokio::task::JoinSet::new();
    for pair in 0..pairs {
        running.spawn(send(address, format!("q{pair}"), MESSAGES / pairs, body_bytes));
        running.spawn(receive(address, format!("q{pair}"), MESSAGES / pairs));
    }
    while let Some(finished) = running.join_next().await {
        finished??;
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> Result<fe2o3_amqp::connection::ConnectionHandle<()>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let defaults = Options::default();
    let profile = SaslProfile::Plain {
        username: defaults.shared_access_key_name,
        password: defaults.shared_access_key,
    };
    let builder = Connection::builder().container_id("bench").sasl_profile(profile);
    Ok(builder.max_frame_size(65_536).open_with_stream(stream).await?)
}

async fn send(address: SocketAddr, queue: String, count: usize, body_bytes: usize) -> Result<()> {
    let mut connection = connect(address).await?;
    let mut session = Session::begin(&mut connection).await?;
    let mut sender = Sender::attach(&mut session, "sender", queue.as_str()).await?;
    let mut under_way = VecDeque::new();
    for _ in 0..count {
        let message: Message<Data> =
            Message::builder().data(Binary::from(vec![7; body_bytes])).build();
        under_way.push_back(sender.send_batchable(message).await?);
        if under_way.len() >= usize::from(WINDOW)
            && let Some(outcome) = under_way.pop_front()
        {
            outcome.await?;
        }
    }
    for outcome in under_way {
        outcome.await?;
    }
    sender.close().await?;
    connection.close().await?;
    Ok(())
}

async fn receive(address: SocketAddr, queue: String, count: usize) -> Result<()> {
    let mut connection = connect(address).await?;
    let mut session = Session::begin(&mut connection).await?;
    let mut receiver = Receiver::builder()
        .name("receiver")
        .source(queue.as_str())
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(CreditMode::Auto(u32::from(WINDOW)))
        .attach(&mut session)
        .await?;
    for _ in 0..count {
        let delivery = receiver.recv::<Data>().await?;
        receiver.accept(&delivery).await?;
    }
    receiver.close().await?;
    connection.close().await?;
    Ok(())
}
