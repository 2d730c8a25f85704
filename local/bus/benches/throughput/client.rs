//! Load, and how long it takes.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bus::Options;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::ReceiverSettleMode;
use fe2o3_amqp_types::messaging::{Data, Message};
use fe2o3_amqp_types::primitives::Binary;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Result;

/// Sends that have not been answered, and receiver credit.
const WINDOW: u16 = 200;

/// Batches that have not been answered.
const BATCH_WINDOW: usize = 4;

const BATCH_FORMAT: u32 = 0x8001_3700;

#[expect(clippy::cast_precision_loss, reason = "a count of messages, for people")]
fn rate(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

async fn connect(address: SocketAddr) -> Result<(ConnectionHandle<()>, SessionHandle<()>)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let defaults = Options::default();
    let profile = SaslProfile::Plain {
        username: defaults.shared_access_key_name,
        password: defaults.shared_access_key,
    };
    let builder = Connection::builder().container_id("bench").sasl_profile(profile);
    let mut connection = builder.max_frame_size(65_536).open_with_stream(stream).await?;
    let session = Session::begin(&mut connection).await?;
    Ok((connection, session))
}

fn message(body: Vec<u8>) -> Message<Data> {
    Message::builder().data(Binary::from(body)).build()
}

/// Messages per second sent singly, peek-locked and completed; each pair on a queue of its own.
pub(crate) async fn pairs(
    address: SocketAddr,
    pairs: usize,
    messages: usize,
    body_bytes: usize,
) -> Result<f64> {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for pair in 0..pairs {
        let (queue, count) = (format!("q{pair}"), messages / pairs);
        running.spawn(send(address, queue.clone(), count, body_bytes));
        running.spawn(receive(address, queue, count));
    }
    while let Some(finished) = running.join_next().await {
        finished??;
    }
    Ok(rate(messages, begun))
}

async fn send(address: SocketAddr, queue: String, count: usize, body_bytes: usize) -> Result<()> {
    let (mut connection, mut session) = connect(address).await?;
    let mut sender = Sender::attach(&mut session, "sender", queue.as_str()).await?;
    let mut under_way = VecDeque::new();
    for _ in 0..count {
        under_way.push_back(sender.send_batchable(message(vec![7; body_bytes])).await?);
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

async fn receiver(session: &mut SessionHandle<()>, queue: &str) -> Result<Receiver> {
    Ok(Receiver::builder()
        .name("receiver")
        .source(queue)
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(CreditMode::Auto(u32::from(WINDOW)))
        .attach(session)
        .await?)
}

async fn receive(address: SocketAddr, queue: String, count: usize) -> Result<()> {
    let (mut connection, mut session) = connect(address).await?;
    let mut receiver = receiver(&mut session, &queue).await?;
    for _ in 0..count {
        let delivery = receiver.recv::<Data>().await?;
        receiver.accept(&delivery).await?;
    }
    receiver.close().await?;
    connection.close().await?;
    Ok(())
}

/// Messages per second received and completed from what is there.
pub(crate) async fn drain(address: SocketAddr, queue: &str, count: usize) -> Result<f64> {
    let begun = Instant::now();
    receive(address, queue.to_owned(), count).await?;
    Ok(rate(count, begun))
}

/// Messages per second sent in batches, each batch answered.
pub(crate) async fn batches(
    address: SocketAddr,
    queue: &str,
    count: usize,
    per_batch: usize,
) -> Result<f64> {
    let (mut connection, mut session) = connect(address).await?;
    let mut sender = Sender::attach(&mut session, "sender", queue).await?;
    // A data section with a kilobyte, which is a whole message.
    let mut encoded = vec![0x00, 0x53, 0x75, 0xb0, 0, 0, 4, 0];
    encoded.extend_from_slice(&[7; 1_024]);
    let batch: Vec<Data> = (0..per_batch).map(|_| Data(Binary::from(encoded.clone()))).collect();
    let begun = Instant::now();
    let mut under_way = VecDeque::new();
    for _ in 0..count / per_batch {
        let message = Message::builder().data_batch(batch.clone()).build();
        let sendable = Sendable::builder().message(message).message_format(BATCH_FORMAT).build();
        under_way.push_back(sender.send_batchable(sendable).await?);
        if under_way.len() >= BATCH_WINDOW
            && let Some(outcome) = under_way.pop_front()
        {
            outcome.await?;
        }
    }
    for outcome in under_way {
        outcome.await?;
    }
    let rate = rate(count, begun);
    sender.close().await?;
    connection.close().await?;
    Ok(rate)
}

/// Times from a send to its receipt.
pub(crate) struct Latency(Vec<Duration>);

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent: usize| {
            let last = self.0.len().saturating_sub(1);
            let at = (self.0.len() * percent / 100).min(last);
            self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
        };
        write!(f, "p50 {:>6.2} ms  p99 {:>6.2} ms  max {:>6.2} ms", at(50), at(99), at(100))
    }
}

/// Sends at a steady rate and measures every message.
pub(crate) async fn latency(
    address: SocketAddr,
    per_second: f64,
    lasting: Duration,
) -> Result<Latency> {
    let origin = Instant::now();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive count far below the limit"
    )]
    let count = (per_second * lasting.as_secs_f64()) as usize;
    let sending = async {
        let (mut connection, mut session) = connect(address).await?;
        let mut sender = Sender::attach(&mut session, "sender", "latency").await?;
        let mut under_way = VecDeque::new();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let begun = Instant::now();
        let mut sent = 0;
        while sent < count {
            tick.tick().await;
            // What is due by now, however late this tick is.
            while sent < count && rate(sent, begun) <= per_second {
                let mut body = vec![7; 1_024];
                let at = u64::try_from(origin.elapsed().as_nanos())?;
                body[..8].copy_from_slice(&at.to_le_bytes());
                under_way.push_back(sender.send_batchable(message(body)).await?);
                sent += 1;
            }
            while under_way.len() > 4 * usize::from(WINDOW) {
                if let Some(outcome) = under_way.pop_front() {
                    outcome.await?;
                }
            }
        }
        for outcome in under_way {
            outcome.await?;
        }
        sender.close().await?;
        connection.close().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let receiving = async {
        let (mut connection, mut session) = connect(address).await?;
        let mut receiver = receiver(&mut session, "latency").await?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let delivery = receiver.recv::<Data>().await?;
            let now = origin.elapsed();
            let sent = delivery.body().0.first_chunk().copied().unwrap_or_default();
            times.push(now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(sent))));
            receiver.accept(&delivery).await?;
        }
        receiver.close().await?;
        connection.close().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
    };
    let ((), mut times) = tokio::try_join!(sending, receiving)?;
    times.sort_unstable();
    Ok(Latency(times))
}
