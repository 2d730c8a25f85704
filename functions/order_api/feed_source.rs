//! Where the feed comes from: one poller per process that asks the store which orders were written,
//! and only while somebody listens. It tells all listeners through a bounded channel; whoever falls
//! behind is told to start over instead of holding up the others.
//!
//! The store's own clock has seconds only, so each round looks [`OVERLAP_SECONDS`] back and leaves
//! out the versions that it has told of. A round is one small query (about 3 RU), and one more when
//! something changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure::cosmos::StoreError;
use orders::{CustomerId, OrderId};
use serde_json::value::RawValue;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::feed::line;
use crate::chain::chain;
use crate::clock;
use crate::store::OrderStore;
use crate::store::watched::Changed;

/// Pause between two rounds: with it a change is on a screen within 300 ms of its commit.
const ROUND: Duration = Duration::from_millis(120);

/// Pause after a round that the store did not answer.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// How far a round looks back, in seconds. Documents get their time before they can be read, by
/// clocks of several partitions.
pub(super) const OVERLAP_SECONDS: i64 = 2;

/// Orders that one round looks at. More have changed within the overlap only under a load that no
/// page can show anyway; listeners are told to start over then.
const ROUND_ORDERS_MAX: usize = 2_000;

/// Orders of one query for their content: its text stays below 4 KB.
const CONTENT_ORDERS_MAX: usize = 64;

/// Orders that a client may have missed and still be told of; beyond, it reads the list again.
pub(super) const CATCH_UP_MAX: usize = 500;

/// Happenings that a slow listener may be behind, some 700 bytes each and shared by all.
const BEHIND_MAX: usize = 1_024;

/// Streams of one process. Each is an invocation that runs, and on a small plan there are not many.
const LISTENERS_MAX: usize = 100;

/// A change of an order.
#[derive(Clone, Debug)]
pub(super) struct Change {
    customer_id: CustomerId,
    /// Seconds since 1970; the cursor.
    pub(super) at: i64,
    /// The order as the list shows it.
    pub(super) json: Arc<RawValue>,
}

impl Change {
    /// Whether somebody with this reach may hear of it.
    pub(super) fn is_for(&self, own: Option<&CustomerId>) -> bool {
        own.is_none_or(|own| *own == self.customer_id)
    }
}

/// What listeners hear.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// An order was written.
    Changed(Change),
    /// More has changed than can be told.
    Gap,
    /// The store does not answer.
    Trouble,
}

/// The feed of this process.
#[derive(Debug)]
pub(super) struct Feed {
    sender: broadcast::Sender<Happening>,
    /// Whether the poller runs. Held while a listener joins, and while the poller looks whether to
    /// stop, so that nobody joins a poller that has just decided to.
    polls: Arc<Mutex<bool>>,
    tasks: TaskTracker,
}

/// A place among the listeners.
#[derive(Debug)]
pub(super) struct Ticket(broadcast::Receiver<Happening>);

impl Ticket {
    /// The next happening.
    pub(super) async fn recv(&mut self) -> Result<Happening, RecvError> {
        self.0.recv().await
    }
}

impl Default for Feed {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Self { sender, polls: Arc::default(), tasks: TaskTracker::new() }
    }
}

impl Feed {
    /// A place among the listeners, or `None` if all are taken. The first one starts the poller.
    pub(super) fn listen(&self, store: &OrderStore) -> Option<Ticket> {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sender.receiver_count() >= LISTENERS_MAX {
            return None;
        }
        let ticket = Ticket(self.sender.subscribe());
        if !*polls {
            *polls = true;
            let poller =
                Poller { store: store.clone(), sender: self.sender.clone(), told: HashMap::new() };
            self.tasks.spawn(poller.run(Arc::clone(&self.polls)));
        }
        Some(ticket)
    }
}

struct Poller {
    store: OrderStore,
    sender: broadcast::Sender<Happening>,
    /// The versions that were told of, and when they were written.
    told: HashMap<OrderId, (String, i64)>,
}

impl Poller {
    async fn run(mut self, polls: Arc<Mutex<bool>>) {
        info!("somebody follows the orders");
        let mut since = clock::now().epoch_ms() / 1_000 - OVERLAP_SECONDS;
        let mut troubled = false;
        loop {
            let pause = match self.round(&mut since).await {
                Ok(()) => {
                    if troubled {
                        // What happened meanwhile may be more than the overlap covers.
                        self.tell(Happening::Gap);
                    }
                    troubled = false;
                    ROUND
                }
                Err(error) => {
                    if !troubled {
                        warn!(error = %chain(&error), "the feed stands still");
                    }
                    troubled = true;
                    self.tell(Happening::Trouble);
                    TROUBLE_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
            let mut polls = polls.lock().unwrap_or_else(PoisonError::into_inner);
            if self.sender.receiver_count() == 0 {
                *polls = false;
                info!("nobody follows the orders any more");
                return;
            }
        }
    }

    async fn round(&mut self, since: &mut i64) -> Result<(), StoreError> {
        let rows = self.store.changed_since(*since, ROUND_ORDERS_MAX).await?;
        if rows.len() == ROUND_ORDERS_MAX {
            *since = clock::now().epoch_ms() / 1_000;
            self.told.clear();
            self.tell(Happening::Gap);
            return Ok(());
        }
        let news: Vec<Changed> = rows.iter().filter(|row| self.is_news(row)).cloned().collect();
        for change in content(&self.store, &news).await? {
            self.tell(Happening::Changed(change));
        }
        for row in news {
            self.told.insert(row.order_id, (row.etag, row.at));
        }
        if let Some(newest) = rows.last() {
            *since = (*since).max(newest.at - OVERLAP_SECONDS);
            let oldest = *since;
            self.told.retain(|_, (_, at)| *at >= oldest);
        }
        Ok(())
    }

    fn is_news(&self, row: &Changed) -> bool {
        self.told.get(&row.order_id).is_none_or(|(etag, _)| *etag != row.etag)
    }

    fn tell(&self, happening: Happening) {
        // Nobody may be listening by now, which the loop finds out.
        let _ = self.sender.send(happening);
    }
}

/// At most `limit` orders that were written at `since` or later, or `None` if there are more.
pub(super) async fn read_changed(
    store: &OrderStore,
    since: i64,
    limit: usize,
) -> Result<Option<Vec<Change>>, StoreError> {
    let rows = store.changed_since(since, limit + 1).await?;
    if rows.len() > limit { Ok(None) } else { content(store, &rows).await.map(Some) }
}

/// The orders behind these rows, in their order.
async fn content(store: &OrderStore, rows: &[Changed]) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::with_capacity(rows.len());
    for rows in rows.chunks(CONTENT_ORDERS_MAX) {
        let ids: Vec<OrderId> = rows.iter().map(|row| row.order_id).collect();
        let orders = store.orders_of(&ids).await?;
        let mut orders: HashMap<_, _> = orders.into_iter().map(|o| (o.order_id, o)).collect();
        changes.extend(rows.iter().filter_map(|row| {
            let order = orders.remove(&row.order_id)?;
            let customer_id = order.customer_id.clone();
            Some(Change { customer_id, at: row.at, json: line(order)? })
        }));
    }
    Ok(changes)
}
