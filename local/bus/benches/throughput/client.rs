//! Load, and how long it takes.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{Broker, Door, own_seconds};
use crate::wire::{Prepared, Said, Wire, put_accepted, put_credit};

/// Sends that have not been answered, and receiver credit.
const WINDOW: u32 = 200;

/// Batches that have not been answered: three megabytes.
const BATCH_WINDOW: u32 = 16;

/// Sends of the latency run that have not been answered: below the credit that the broker gives.
const LATENCY_WINDOW: u32 = 450;

/// How often the latency run sends what is due.
const TICK: Duration = Duration::from_micros(500);

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Messages per second.
    pub(crate) rate: f64,
    /// Processor time per message, in microseconds.
    pub(crate) broker_us: f64,
    pub(crate) client_us: f64,
}

impl Load {
    /// Runs something that carries so many messages.
    #[expect(clippy::cast_precision_loss, reason = "a count of messages, for people")]
    pub(crate) fn of(
        broker: &impl Broker,
        messages: usize,
        run: impl FnOnce(&Door) -> Result<()>,
    ) -> Result<Load> {
        let (before, client, begun) = (broker.seconds()?, own_seconds()?, Instant::now());
        run(broker.door())?;
        let seconds = begun.elapsed().as_secs_f64();
        let each = |spent: f64| spent * 1e6 / messages as f64;
        Ok(Load {
            rate: messages as f64 / seconds,
            broker_us: each(broker.seconds()? - before),
            client_us: each(own_seconds()? - client),
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { rate, broker_us, client_us } = self;
        write!(f, "{rate:>8.0} msg/s   broker {broker_us:>5.1} µs   client {client_us:>5.1} µs")
    }
}

/// Messages sent singly, peek-locked and completed; each pair on a queue of its own.
pub(crate) fn pairs(
    broker: &impl Broker,
    pairs: usize,
    messages: usize,
    body_bytes: usize,
) -> Result<Load> {
    let each = messages / pairs;
    Load::of(broker, each * pairs, |door| {
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for pair in 0..pairs {
                let queue = format!("q{pair}");
                let to = queue.clone();
                running.push(scope.spawn(move || {
                    let message = Prepared::single(&vec![7; body_bytes]);
                    send(Wire::sender(door, &to)?, &message, each, WINDOW)
                }));
                running.push(
                    scope.spawn(move || receive(Wire::receiver(door, &queue)?, each, |_| ())),
                );
            }
            running.into_iter().try_for_each(join)
        })
    })
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| "a thread of the load panicked")?
}

/// Sends, with so many deliveries unanswered at most.
fn send(mut wire: Wire, message: &Prepared, count: usize, window: u32) -> Result<()> {
    let count = u32::try_from(count)?;
    let (mut sent, mut answered) = (0, 0);
    let mut out = Vec::new();
    while answered < count {
        out.clear();
        while sent < count && sent - answered < window {
            message.put(&mut out, sent, None);
            sent += 1;
        }
        wire.stream.write_all(&out)?;
        wire.read()?;
        while let Some(said) = wire.next()? {
            if let Said::Settled(count) = said {
                answered += count;
            }
        }
    }
    Ok(())
}

/// Receives and completes, each message by itself, until every completion is answered by a broker
/// that answers them.
fn receive(mut wire: Wire, count: usize, mut seen: impl FnMut(&[u8])) -> Result<()> {
    let count = u32::try_from(count)?;
    let answered = wire.answers_settlement;
    let (mut received, mut settled, mut limit) = (0, 0, 0_u32);
    let mut out = Vec::new();
    while settled < count {
        // Other brokers may deliver more than they were asked for.
        if limit.saturating_sub(received) <= WINDOW / 2 && limit < count {
            put_credit(&mut out, received, WINDOW);
            limit = received + WINDOW;
        }
        wire.stream.write_all(&out)?;
        out.clear();
        wire.read()?;
        while let Some(said) = wire.next()? {
            match said {
                Said::Delivery { id, stamp } => {
                    received += 1;
                    seen(stamp);
                    put_accepted(&mut out, id, !answered);
                    settled += u32::from(!answered);
                }
                Said::Settled(count) => settled += count,
                Said::Other => {}
            }
        }
    }
    // What nobody answers is still to be sent.
    Ok(wire.stream.write_all(&out)?)
}

/// Received and completed from what is there.
pub(crate) fn drain(broker: &impl Broker, queue: &str, count: usize) -> Result<Load> {
    Load::of(broker, count, |door| receive(Wire::receiver(door, queue)?, count, |_| ()))
}

/// Sent in batches, each batch answered.
pub(crate) fn batches(
    broker: &impl Broker,
    queue: &str,
    count: usize,
    per_batch: usize,
) -> Result<Load> {
    let batch = Prepared::batch(&[7; 1_024], per_batch);
    Load::of(broker, count, |door| {
        send(Wire::sender(door, queue)?, &batch, count / per_batch, BATCH_WINDOW)
    })
}

/// Times from when a message was due to be sent to its receipt.
pub(crate) struct Latency {
    times: Vec<Duration>,
    /// How late the load itself woke up from its sleeps: what the machine does to anybody.
    late: Vec<Duration>,
    load: Load,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |times: &[Duration], per_mille: usize| {
            let at = (times.len() * per_mille / 1_000).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
        };
        let at = |per_mille| of(&self.times, per_mille);
        let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1_000));
        let late = of(&self.late, 990);
        let Load { broker_us, client_us, .. } = self.load;
        write!(
            f,
            "p50 {p50:>5.2}  p99 {p99:>6.2}  p99.9 {p999:>6.2}  max {max:>6.2} ms   broker \
             {broker_us:.1} µs   client {client_us:.1} µs   (a sleep ended late by p99 {late:.2} ms)"
        )
    }
}

/// Sends at a steady rate and measures every message, from when it should have been sent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive counts far below the limit"
)]
pub(crate) fn latency(broker: &impl Broker, rate: f64, lasting: Duration) -> Result<Latency> {
    let count = (rate * lasting.as_secs_f64()) as usize;
    let (mut times, mut late) = (Vec::with_capacity(count), Vec::new());
    let load = Load::of(broker, count, |door| {
        let receiver = Wire::receiver(door, "latency")?;
        let sender = Wire::sender(door, "latency")?;
        let origin = Instant::now();
        let times = &mut times;
        let answered = AtomicU32::new(0);
        let answered = &answered;
        std::thread::scope(|scope| {
            let mut stream = sender.stream.try_clone()?;
            let answers = scope.spawn(move || count_answers(sender, count, answered));
            let receiving = scope.spawn(move || {
                receive(receiver, count, |stamp| {
                    let stamp = stamp.first_chunk().copied().unwrap_or_default();
                    let due = Duration::from_nanos(u64::from_be_bytes(stamp));
                    times.push(origin.elapsed().saturating_sub(due));
                })
            });
            let message = Prepared::single(&[7; 1_024]);
            let mut out = Vec::new();
            let mut sent = 0;
            while (sent as usize) < count {
                let due = (origin.elapsed().as_secs_f64() * rate) as usize;
                out.clear();
                while (sent as usize) < due.min(count)
                    && sent - answered.load(Ordering::Relaxed) < LATENCY_WINDOW
                {
                    let at = Duration::from_secs_f64(f64::from(sent) / rate);
                    message.put(&mut out, sent, Some(u64::try_from(at.as_nanos())?));
                    sent += 1;
                }
                stream.write_all(&out)?;
                let asleep = Instant::now();
                // Nobody wakes this thread.
                std::thread::park_timeout(TICK);
                late.push(asleep.elapsed().saturating_sub(TICK));
            }
            join(answers)?;
            join(receiving)
        })
    })?;
    times.sort_unstable();
    late.sort_unstable();
    Ok(Latency { times, late, load })
}

fn count_answers(mut wire: Wire, count: usize, answered: &AtomicU32) -> Result<()> {
    let count = u32::try_from(count)?;
    while answered.load(Ordering::Relaxed) < count {
        wire.read()?;
        while let Some(said) = wire.next()? {
            if let Said::Settled(count) = said {
                answered.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
