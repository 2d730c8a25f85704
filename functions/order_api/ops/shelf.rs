//! The places where dead letters lie: look without touching, take chosen ones, put the others
//! back.
//!
//! Service Bus lets nobody settle a message in a dead-letter queue by its number, unless it was
//! deferred before: whoever wants one has to receive under a peek lock until it comes by. What
//! comes by before it stays locked until the search is over, so that it does not come again, and
//! is then *released*, not abandoned: its delivery count stays as it is and it is visible to
//! others at once. (A search that dies leaves locks that run out, which counts as a delivery; a
//! dead-letter queue has no limit of those and moves nothing on, so even that is harmless.)
//! Deferring the others would have saved the search of the next request, and hidden them from
//! every other tool. What another tool has deferred is taken by its number.
//!
//! A Storage queue is searched in the same way, under a visibility timeout. It can only be looked
//! at from the front, [`QueueClient::MESSAGES_MAX`] messages far.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use azure::bus::{BusClient, BusError, Management, Received, Receiver, ReceiverOptions, SubQueue};
use azure::queue::{QueueClient, QueueError, QueueMessage};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::letter::Letter;
use super::source::Source;
use crate::chain::chain;
use crate::topology::TOPOLOGY;

/// Dead letters that one request looks at to count, group or filter. A place with more is said to
/// have "at least" so many.
pub(super) const SCAN_MAX: usize = 10_000;

/// Messages of one peek: the broker cuts a page at its own size limit besides.
const PEEK_PAGE: u32 = 250;

/// Bystanders that a search holds at most. With their bodies they are in memory and in the AMQP
/// session's window.
const HELD_MAX: usize = 4_000;

/// How long a search goes on: well below the lock (one minute), so that no bystander's runs out.
const SEARCH_MAX: Duration = Duration::from_secs(40);

/// Messages of one look of a search at most. The first look takes no more than are wanted, the
/// next ones double: what lies at the front is found without locking anything else, so that a
/// search that dies there holds up nobody.
const LOOK_MAX: usize = 256;

/// How long a search waits for a message that must be there: locks of another search that ends
/// right now come free within this time.
const LOOK_WAIT: Duration = Duration::from_millis(400);

/// How long a message taken from the poison queue is hidden from others: as a message lock.
const POISON_HIDDEN: Duration = Duration::from_secs(60);

/// Letters worked on at once: each is a handful of requests to the store and the broker.
const IN_FLIGHT_MAX: usize = 16;

/// A place with dead letters.
#[derive(Debug)]
pub(super) struct Shelf {
    place: Place,
    /// One search at a time and process: two would hold each other's letters.
    searching: Mutex<()>,
}

#[derive(Debug)]
enum Place {
    Topic { bus: BusClient, subscription: &'static str, management: Management },
    Queue(Option<QueueClient>),
}

/// Why a shelf cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    /// The broker failed.
    #[error("the dead-letter queue cannot be used")]
    Bus(#[from] BusError),
    /// The queue failed.
    #[error("the poison queue cannot be used")]
    Queue(#[from] QueueError),
    /// No connection is set.
    #[error("setting {0} is not there, so the poison queue cannot be looked into")]
    NotConfigured(&'static str),
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Ordered by number.
    pub(super) letters: Vec<Letter>,
    /// There may be more beyond them.
    pub(super) more: bool,
    /// How many there are, where the service says so.
    pub(super) total: Option<u64>,
}

/// A letter that is ours until it is completed, released, or its lock is over.
pub(super) enum Held<'a> {
    Topic(&'a Receiver, Box<Received>),
    /// One that some tool had put aside.
    Deferred(&'a Receiver, Box<Received>),
    Queue(&'a QueueClient, QueueMessage),
}

/// What is done with a letter that was taken.
pub(super) trait Hand: Sync {
    /// Completes or releases the letter, or leaves that to its lock.
    fn handle<'a>(&'a self, letter: Letter, held: Held<'a>) -> BoxFuture<'a, ()>;
}

impl Held<'_> {
    /// Removes the letter for good.
    pub(super) async fn complete(&self) -> Result<(), ShelfError> {
        match self {
            Self::Topic(receiver, received) | Self::Deferred(receiver, received) => {
                receiver.complete(received).await?;
            }
            Self::Queue(queue, message) => queue.delete(message).await?,
        }
        Ok(())
    }

    /// Leaves it where it was.
    pub(super) async fn release(&self) {
        match self {
            Self::Topic(receiver, received) => {
                receiver.release(std::slice::from_ref(received.as_ref())).await;
            }
            // It stays deferred, and its delivery count is raised: there is no other way.
            Self::Deferred(receiver, received) => {
                if let Err(error) = receiver.abandon(received).await {
                    warn!(error = %chain(&error), "a deferred dead letter stays locked for a while");
                }
            }
            Self::Queue(queue, message) => give_back(queue, message).await,
        }
    }
}

impl Shelf {
    /// The shelves of all sources, in the order of [`Source::ALL`].
    pub(super) fn all(bus: &BusClient, queue: Option<&QueueClient>) -> [Arc<Self>; 4] {
        Source::ALL.map(|source| {
            let place = match source {
                Source::Poison => Place::Queue(queue.cloned()),
                Source::Subscription(_) => {
                    let subscription = source.target();
                    let topic = &TOPOLOGY.topic().name;
                    let path = format!("{topic}/Subscriptions/{subscription}/$DeadLetterQueue");
                    let management = bus.management(&path);
                    Place::Topic { bus: bus.clone(), subscription, management }
                }
            };
            Arc::new(Self { place, searching: Mutex::default() })
        })
    }

    /// Looks at up to `max` letters whose number is at least `from`, bodies left out where the
    /// broker does so.
    pub(super) async fn look(&self, from: i64, max: usize) -> Result<Look, ShelfError> {
        match &self.place {
            Place::Topic { management, .. } => {
                let mut look = Look::default();
                let mut from = from;
                loop {
                    let page = management.peek_without_body(from, PEEK_PAGE).await?;
                    let Some(last) = page.last() else { return Ok(look) };
                    from = last.sequence_number + 1;
                    look.letters.extend(page.into_iter().map(Letter::of_topic));
                    if look.letters.len() > max {
                        look.letters.truncate(max);
                        look.more = true;
                        return Ok(look);
                    }
                }
            }
            Place::Queue(_) => {
                let queue = self.queue()?;
                let (shown, total) = tokio::try_join!(queue.peek(), queue.approximate_count())?;
                let front = u64::try_from(shown.len()).unwrap_or(u64::MAX);
                let mut letters: Vec<_> = shown.iter().map(Letter::of_poison).collect();
                letters.retain(|letter| letter.number >= from);
                letters.sort_by_key(|letter| letter.number);
                let more = total > front || letters.len() > max;
                letters.truncate(max);
                Ok(Look { letters, more, total: Some(total.max(front)) })
            }
        }
    }

    /// The letter with this number, body included.
    pub(super) async fn find(&self, number: i64) -> Result<Option<Letter>, ShelfError> {
        match &self.place {
            Place::Topic { management, .. } => {
                let found = management.peek(number, 1).await?.into_iter().map(Letter::of_topic);
                Ok(found.into_iter().find(|letter| letter.number == number))
            }
            Place::Queue(_) => {
                let shown = self.queue()?.peek().await?;
                Ok(shown.iter().map(Letter::of_poison).find(|letter| letter.number == number))
            }
        }
    }

    /// Takes the letters in `wanted` one by one and lets `hand` have them; those that it takes are
    /// removed from `wanted`. What is left in it did not come by: somebody else holds it, or it
    /// lies too deep. Those in `deferred` are known to be put aside and taken by their numbers.
    pub(super) async fn take(
        &self,
        wanted: &mut BTreeSet<i64>,
        deferred: &BTreeSet<i64>,
        hand: &impl Hand,
    ) -> Result<(), ShelfError> {
        let _alone = self.searching.lock().await;
        match &self.place {
            Place::Topic { bus, subscription, .. } => {
                let options = ReceiverOptions { sub_queue: SubQueue::DeadLetter };
                let topic = &TOPOLOGY.topic().name;
                let receiver = bus.receiver(topic, Some(subscription), options);
                fetch(&receiver, wanted, deferred, hand).await?;
                let mut held = Vec::new();
                let searched = search(&receiver, wanted, &mut held, hand).await;
                receiver.release(&held).await;
                Ok(searched?)
            }
            Place::Queue(_) => {
                let queue = self.queue()?;
                let mut held = Vec::new();
                let searched = search_queue(queue, wanted, &mut held, hand).await;
                for message in &held {
                    give_back(queue, message).await;
                }
                Ok(searched?)
            }
        }
    }

    fn queue(&self) -> Result<&QueueClient, ShelfError> {
        match &self.place {
            Place::Queue(Some(queue)) => Ok(queue),
            _ => Err(ShelfError::NotConfigured(&TOPOLOGY.storage.connection)),
        }
    }
}

/// Takes what is deferred, whoever put it aside. What cannot be had is searched for as well: it may
/// not be deferred any more.
async fn fetch(
    receiver: &Receiver,
    wanted: &mut BTreeSet<i64>,
    deferred: &BTreeSet<i64>,
    hand: &impl Hand,
) -> Result<(), BusError> {
    let numbers: Vec<i64> = wanted.intersection(deferred).copied().collect();
    let mut work = Vec::with_capacity(numbers.len());
    for number in numbers {
        let one: BoxFuture<'_, Result<Option<i64>, BusError>> = Box::pin(async move {
            let Some(received) = receiver.receive_deferred(number).await? else { return Ok(None) };
            let letter = Letter::of_topic(received.clone());
            hand.handle(letter, Held::Deferred(receiver, Box::new(received))).await;
            Ok(Some(number))
        });
        work.push(one);
    }
    let mut work = futures::stream::iter(work).buffer_unordered(IN_FLIGHT_MAX);
    let mut failed = None;
    while let Some(done) = work.next().await {
        match done {
            Ok(Some(number)) => drop(wanted.remove(&number)),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn search(
    receiver: &Receiver,
    wanted: &mut BTreeSet<i64>,
    held: &mut Vec<Received>,
    hand: &impl Hand,
) -> Result<(), BusError> {
    let until = Instant::now() + SEARCH_MAX;
    let mut look = wanted.len().clamp(1, LOOK_MAX);
    while !wanted.is_empty() && held.len() < HELD_MAX && Instant::now() < until {
        let came = receiver.receive(u32::try_from(look).unwrap_or(u32::MAX), LOOK_WAIT).await?;
        if came.is_empty() {
            break;
        }
        let (chosen, others): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|received| wanted.remove(&received.sequence_number));
        held.extend(others);
        let mut work = Vec::with_capacity(chosen.len());
        for received in chosen {
            let letter = Letter::of_topic(received.clone());
            work.push(hand.handle(letter, Held::Topic(receiver, Box::new(received))));
        }
        futures::stream::iter(work).buffer_unordered(IN_FLIGHT_MAX).collect::<()>().await;
        look = (look * 2).min(LOOK_MAX);
    }
    debug!(held = held.len(), left = wanted.len(), "dead letters searched");
    Ok(())
}

async fn search_queue(
    queue: &QueueClient,
    wanted: &mut BTreeSet<i64>,
    held: &mut Vec<QueueMessage>,
    hand: &impl Hand,
) -> Result<(), QueueError> {
    let until = Instant::now() + SEARCH_MAX;
    while !wanted.is_empty() && held.len() < HELD_MAX && Instant::now() < until {
        let came = queue.take(QueueClient::MESSAGES_MAX, POISON_HIDDEN).await?;
        if came.is_empty() {
            break;
        }
        let mut work = Vec::new();
        for message in came {
            let letter = Letter::of_poison(&message.shown);
            if wanted.remove(&letter.number) {
                work.push(hand.handle(letter, Held::Queue(queue, message)));
            } else {
                held.push(message);
            }
        }
        futures::stream::iter(work).buffer_unordered(IN_FLIGHT_MAX).collect::<()>().await;
    }
    Ok(())
}

/// If this fails the message comes back by itself.
async fn give_back(queue: &QueueClient, message: &QueueMessage) {
    if let Err(error) = queue.give_back(message).await {
        warn!(error = %chain(&error), "a message of the poison queue stays hidden for a while");
    }
}
