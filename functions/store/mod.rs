//! Orders and their outbox in Cosmos DB: carries out what the `orders` crate decides, one request
//! each. Guards are rendered in `guard`, the stock is kept by [`stock`], what operators do is
//! written down by [`audit`].

pub mod audit;
pub mod changed;
mod guard;
mod readable;
pub mod stock;
pub mod watched;

use azure::cosmos::{
    BatchOperation, BatchOutcome, Container, Document, ETag, Patch, PatchOperation, PatchOutcome,
    Query, Scope, Store, StoreError, StoreStats,
};
use orders::{CustomerId, Edit, Move, Order, OrderId, OutboxEvent, Product, Timestamp};
use serde::de::IgnoredAny;

use crate::chain::chain;
use crate::clock;
use readable::readable;

pub use readable::Readable;

/// Seconds that a published event stays in the outbox, so that it can be published again on an
/// operator's wish: seven days, the longest duplicate-detection window and then some.
const PUBLISHED_EVENT_TTL_SECONDS: i64 = 7 * 24 * 60 * 60;

/// Products that the shop shows. The catalogue is held in memory, so it is bounded.
const PRODUCTS_MAX: usize = 1_000;

/// The containers `orders` and `stock`.
#[derive(Clone, Debug)]
pub struct OrderStore {
    store: Store,
    orders: Container,
    stock: Container,
}

/// What became of a commit.
#[derive(Debug, PartialEq, Eq)]
pub enum Commit {
    /// The order and its event are stored.
    Created,
    /// An order with this id exists already; nothing was written.
    Exists,
    /// The store refused an operation of the batch for another reason; nothing was written.
    Refused {
        /// Position in the batch.
        index: usize,
        /// HTTP status of the operation.
        status: u16,
    },
}

/// What became of a move.
#[derive(Debug)]
pub enum Moved {
    /// Applied; holds the order after it.
    Applied(Box<Order>),
    /// The guard did not admit it; nothing was written.
    Refused,
    /// There is no such order.
    Missing,
}

impl OrderStore {
    /// The containers of the database that the topology names.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let [orders, stock] = ["orders", "stock"].map(|name| store.container(name));
        Self { store, orders, stock }
    }

    /// Connects and learns where the containers are; an error shows at the first use as well.
    pub async fn warm_up(self) {
        let (orders, stock) = tokio::join!(self.orders.warm_up(), self.stock.warm_up());
        if let Err(error) = orders.and(stock) {
            tracing::info!(error = %chain(&error), "the store is not there yet");
        }
    }

    /// What the store has cost this process so far.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// Writes an order and its first event, both or neither, in one request.
    ///
    /// # Errors
    /// The store did not answer, or refused for a reason other than the order's existence. After
    /// [`StoreError::may_have_been_applied`] the order may have been written all the same.
    pub async fn commit(&self, order: &Order, event: &OutboxEvent) -> Result<Commit, StoreError> {
        let operations = vec![BatchOperation::create(order), BatchOperation::create(event)];
        match self.orders.batch(&order.order_id.to_string(), operations).await? {
            BatchOutcome::Committed(_) => Ok(Commit::Created),
            BatchOutcome::Rejected { status: 409, .. } => Ok(Commit::Exists),
            BatchOutcome::Rejected { index, status, .. } => Ok(Commit::Refused { index, status }),
        }
    }

    /// The order, or `None`.
    ///
    /// # Errors
    /// The store did not answer, or holds something else under this id.
    pub async fn read(&self, order_id: OrderId) -> Result<Option<Document<Order>>, StoreError> {
        let id = order_id.to_string();
        self.orders.read(&id, &id).await
    }

    /// At most `limit` orders, newest first, continuing after the order whose sort key is `after`;
    /// those of one `customer` only, if there is one.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn newest(
        &self,
        limit: usize,
        after: Option<&str>,
        customer: Option<&CustomerId>,
    ) -> Result<Readable<Order>, StoreError> {
        let continued = if after.is_some() { " AND c.sortKey < @after" } else { "" };
        let of_one = if customer.is_some() { " AND c.customerId = @customer" } else { "" };
        let mut query = Query::new(format!(
            "SELECT TOP {limit} * FROM c WHERE c.type = 'order'{of_one}{continued} \
             ORDER BY c.sortKey DESC"
        ));
        if let Some(after) = after {
            query = query.with("@after", after);
        }
        if let Some(customer) = customer {
            query = query.with("@customer", customer.as_str());
        }
        readable(&self.orders, &query, Scope::All, limit).await
    }

    /// Applies a move where its guard admits it, together with the event that tells of it.
    ///
    /// # Errors
    /// The store did not answer. After [`StoreError::may_have_been_applied`] the move may have
    /// been applied all the same; trying it again and reading tells.
    pub async fn apply(&self, order_id: OrderId, change: &Move) -> Result<Moved, StoreError> {
        let id = order_id.to_string();
        let patch = Patch {
            operations: change.edits.iter().map(operation).collect(),
            condition: Some(guard::condition(change.guard)),
        };
        let Some(event) = &change.event else {
            return Ok(match self.orders.patch(&id, &id, &patch).await? {
                PatchOutcome::Applied(Document { value, .. }) => Moved::Applied(Box::new(value)),
                PatchOutcome::ConditionFailed => Moved::Refused,
                PatchOutcome::NotFound => Moved::Missing,
            });
        };
        let operations = vec![BatchOperation::patch(&id, &patch), BatchOperation::create(&**event)];
        match self.orders.batch(&id, operations).await? {
            BatchOutcome::Committed(results) => {
                let order = match results.first().map(|result| result.document::<Order>()) {
                    Some(Ok(Some(document))) => document.value,
                    // The service may be told to leave bodies out of the answer.
                    Some(Ok(None)) | None => match self.read(order_id).await? {
                        Some(document) => document.value,
                        None => return Ok(Moved::Missing),
                    },
                    Some(Err(error)) => return Err(error),
                };
                Ok(Moved::Applied(Box::new(order)))
            }
            BatchOutcome::Rejected { index: 0, status: 404, .. } => Ok(Moved::Missing),
            BatchOutcome::Rejected { .. } => Ok(Moved::Refused),
        }
    }

    /// Notes that the topic has an event. Doing so twice changes nothing.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn mark_published(
        &self,
        order_id: OrderId,
        event_id: &str,
    ) -> Result<(), StoreError> {
        let patch = Patch::new()
            .set("/state", "published")
            .set("/publishedAt", clock::now().to_string())
            .set("/ttl", PUBLISHED_EVENT_TTL_SECONDS)
            .when("FROM c WHERE c.state = 'pending'");
        let partition = order_id.to_string();
        // Refused means that it was marked before, which is all that is wanted.
        self.orders.patch::<IgnoredAny>(&partition, event_id, &patch).await.map(drop)
    }

    /// Takes an event that the topic can never accept out of the way, with the reason.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn park(
        &self,
        order_id: OrderId,
        event_id: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let reason: String = reason.chars().take(orders::limits::ERROR_CHARS_MAX).collect();
        let patch = Patch::new()
            .set("/state", "parked")
            .set("/parkedReason", reason)
            .when("FROM c WHERE c.state = 'pending'");
        let partition = order_id.to_string();
        self.orders.patch::<IgnoredAny>(&partition, event_id, &patch).await.map(drop)
    }

    /// One event of the outbox, or `None` once it has expired.
    ///
    /// # Errors
    /// The store did not answer, or holds something else under this id.
    pub async fn event(
        &self,
        order_id: OrderId,
        event_id: &str,
    ) -> Result<Option<OutboxEvent>, StoreError> {
        let document = self.orders.read(&order_id.to_string(), event_id).await?;
        Ok(document.map(|document: Document<OutboxEvent>| document.value))
    }

    /// At most `limit` events that were committed before `before` and are not known to be on the
    /// topic, oldest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn pending_events(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxEvent>, StoreError> {
        let query = Query::new(format!(
            "SELECT TOP {limit} * FROM c WHERE c.type = 'event' AND c.state = 'pending' \
             AND c.createdAt < @before ORDER BY c.createdAt ASC"
        ))
        .with("@before", before.to_string());
        Ok(readable(&self.orders, &query, Scope::All, limit).await?.found)
    }

    /// At most `limit` events that were taken out of the way, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn parked_events(&self, limit: usize) -> Result<Vec<OutboxEvent>, StoreError> {
        let query = Query::new(format!(
            "SELECT TOP {limit} * FROM c WHERE c.type = 'event' AND c.state = 'parked' \
             ORDER BY c.createdAt DESC"
        ));
        Ok(readable(&self.orders, &query, Scope::All, limit).await?.found)
    }

    /// At most `limit` orders that were accepted before `before` and are still open, oldest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn open_orders(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<Order>, StoreError> {
        let query = Query::new(format!(
            "SELECT TOP {limit} * FROM c WHERE c.type = 'order' AND c.overall = 'accepted' \
             AND c.createdAt < @before ORDER BY c.createdAt ASC"
        ))
        .with("@before", before.to_string());
        Ok(readable(&self.orders, &query, Scope::All, limit).await?.found)
    }

    /// Everything that can be bought.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn products(&self) -> Result<Vec<Product>, StoreError> {
        let query = Query::new("SELECT * FROM c WHERE c.type = 'product'");
        Ok(readable(&self.stock, &query, Scope::All, PRODUCTS_MAX).await?.found)
    }
}

/// The ETag of a document as an HTTP header value: Cosmos DB's are quoted strings already.
pub fn etag_header(etag: &ETag) -> Option<http::HeaderValue> {
    http::HeaderValue::from_str(etag.as_str()).ok()
}

fn operation(edit: &Edit) -> PatchOperation {
    match edit {
        Edit::Set(path, value) => PatchOperation::Set { path: path.clone(), value: value.clone() },
        Edit::Increment(path, by) => {
            PatchOperation::Increment { path: path.clone(), value: (*by).into() }
        }
        Edit::Append(path, value) => {
            PatchOperation::Add { path: path.clone(), value: value.clone() }
        }
        Edit::Remove(path) => PatchOperation::Remove { path: path.clone() },
    }
}
