//! What the portal watches: which orders have changed lately, how many are open, and everything
//! that is stored about one of them.

use azure::cosmos::{Query, Scope, StoreError};
use orders::order::PerService;
use orders::{Order, OrderId, OutboxEvent, Status};
use serde::Deserialize;
use serde_json::Value;

use super::OrderStore;
use super::readable::readable;

/// Events of one order that are shown: it has two in an ordinary life, and one more per refusal.
const EVENTS_MAX: usize = 32;

/// That an order was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Changed {
    /// Which.
    #[serde(rename = "orderId")]
    pub order_id: OrderId,
    /// Its version.
    #[serde(rename = "_etag")]
    pub etag: String,
    /// When, in seconds since 1970, by the store's clock.
    #[serde(rename = "_ts")]
    pub at: i64,
}

/// How the parts of an open order stand.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct OpenOrder {
    /// By service.
    pub status: PerService<Status>,
}

impl OrderStore {
    /// At most `limit` orders that were written at `since` (seconds since 1970) or later, oldest
    /// change first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn changed_since(
        &self,
        since: i64,
        limit: usize,
    ) -> Result<Vec<Changed>, StoreError> {
        let query = Query::new(format!(
            "SELECT TOP {limit} c.orderId, c._etag, c._ts FROM c \
             WHERE c.type = 'order' AND c._ts >= @since ORDER BY c._ts ASC"
        ))
        .with("@since", since);
        Ok(readable(&self.orders, &query, Scope::All, limit).await?.found)
    }

    /// The orders with these ids, in any order; those that are not there are left out.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn orders_of(&self, ids: &[OrderId]) -> Result<Vec<Order>, StoreError> {
        let names: Vec<String> = (0..ids.len()).map(|at| format!("@id{at}")).collect();
        let text = format!(
            "SELECT * FROM c WHERE c.type = 'order' AND c.orderId IN ({})",
            names.join(", ")
        );
        let query = names
            .into_iter()
            .zip(ids)
            .fold(Query::new(text), |query, (name, id)| query.with(name, id.to_string()));
        Ok(readable(&self.orders, &query, Scope::All, ids.len()).await?.found)
    }

    /// At most `limit` orders that are open.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn open_parts(&self, limit: usize) -> Result<Vec<OpenOrder>, StoreError> {
        let query = Query::new(format!(
            "SELECT TOP {limit} c.status FROM c WHERE c.type = 'order' AND c.overall = 'accepted'"
        ));
        Ok(readable(&self.orders, &query, Scope::All, limit).await?.found)
    }

    /// The document of an order as it is stored, or `None`.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn raw(&self, order_id: OrderId) -> Result<Option<Value>, StoreError> {
        let id = order_id.to_string();
        Ok(self.orders.read(&id, &id).await?.map(|document| document.value))
    }

    /// The events of an order that have not expired, oldest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn events_of(&self, order_id: OrderId) -> Result<Vec<OutboxEvent>, StoreError> {
        let query = Query::new("SELECT * FROM c WHERE c.type = 'event'");
        let scope = Scope::Partition(order_id.to_string());
        let mut events: Vec<OutboxEvent> =
            readable(&self.orders, &query, scope, EVENTS_MAX).await?.found;
        events.sort_by_key(|event| event.created_at);
        Ok(events)
    }
}
