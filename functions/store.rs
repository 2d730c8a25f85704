//! Orders and their outbox in Cosmos DB: carries out what the `orders` crate decides, one request
//! each.

use azure::cosmos::{
    BatchOperation, BatchOutcome, Container, Document, ETag, Patch, PatchOperation, PatchOutcome,
    Query, Scope, Store, StoreError,
};
use orders::{Edit, Guard, Move, Order, OrderId, OutboxEvent, Product, Status, Timestamp};
use serde::de::IgnoredAny;

use crate::chain::chain;

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

    /// At most `limit` orders, newest first, continuing after the order whose sort key is `after`.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn newest(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Vec<Order>, StoreError> {
        let query = match after {
            None => Query::new(format!(
                "SELECT TOP {limit} * FROM c WHERE c.type = 'order' ORDER BY c.sortKey DESC"
            )),
            Some(after) => Query::new(format!(
                "SELECT TOP {limit} * FROM c WHERE c.type = 'order' AND c.sortKey < @after \
                 ORDER BY c.sortKey DESC"
            ))
            .with("@after", after),
        };
        self.orders.query(&query, Scope::All, limit).await
    }

    /// Applies a move where its guard admits it.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn apply(&self, order_id: OrderId, change: &Move) -> Result<Moved, StoreError> {
        let id = order_id.to_string();
        let patch = Patch {
            operations: change.edits.iter().map(operation).collect(),
            condition: Some(condition(change.guard)),
        };
        Ok(match self.orders.patch(&id, &id, &patch).await? {
            PatchOutcome::Applied(Document { value, .. }) => Moved::Applied(Box::new(value)),
            PatchOutcome::ConditionFailed => Moved::Refused,
            PatchOutcome::NotFound => Moved::Missing,
        })
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
            .set("/ttl", PUBLISHED_EVENT_TTL_SECONDS)
            .when("FROM c WHERE c.state = 'pending'");
        let partition = order_id.to_string();
        // Refused means that it was marked before, which is all that is wanted.
        self.orders.patch::<IgnoredAny>(&partition, event_id, &patch).await.map(drop)
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
        self.orders.query(&query, Scope::All, limit).await
    }

    /// Everything that can be bought.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn products(&self) -> Result<Vec<Product>, StoreError> {
        let query = Query::new("SELECT * FROM c WHERE c.type = 'product'");
        self.stock.query(&query, Scope::All, PRODUCTS_MAX).await
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

/// A guard in the store's language. Everything that is spliced in is an enum's name or an integer.
fn condition(guard: Guard) -> String {
    match guard {
        Guard::Claimable { service, now_ms } => format!(
            "FROM c WHERE c.status.{service} = '{}' OR c.status.{service} = '{}' \
             OR (c.status.{service} = '{}' AND c.stage.{service}.leaseUntil < {now_ms})",
            Status::Pending.as_str(),
            Status::DeadLettered.as_str(),
            Status::Processing.as_str(),
        ),
        Guard::HeldBy { service, attempt } => format!(
            "FROM c WHERE c.status.{service} = '{}' AND c.stage.{service}.attempt = {attempt}",
            Status::Processing.as_str(),
        ),
        Guard::AllDone => {
            let done = Status::Done.as_str();
            let all = orders::Service::ALL.map(|s| format!("c.status.{s} = '{done}'"));
            format!("FROM c WHERE c.overall = 'accepted' AND {}", all.join(" AND "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orders::Service;

    #[test]
    fn guards_read_as_the_store_expects() {
        let claimable = Guard::Claimable { service: Service::Billing, now_ms: 1_234 };
        assert_eq!(
            condition(claimable),
            "FROM c WHERE c.status.billing = 'pending' OR c.status.billing = 'dead-lettered' \
             OR (c.status.billing = 'processing' AND c.stage.billing.leaseUntil < 1234)"
        );
        assert_eq!(
            condition(Guard::HeldBy { service: Service::Inventory, attempt: 3 }),
            "FROM c WHERE c.status.inventory = 'processing' AND c.stage.inventory.attempt = 3"
        );
        assert_eq!(
            condition(Guard::AllDone),
            "FROM c WHERE c.overall = 'accepted' AND c.status.inventory = 'done' \
             AND c.status.billing = 'done' AND c.status.notification = 'done'"
        );
    }
}
