//! What reconciling reads: the orders that changed in a period, and the stock beside what is
//! reserved of it.

use azure::cosmos::{Document, Page, Query, Scope, StoreError};
use orders::{Sku, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::{OrderStore, PRODUCTS_MAX};

/// Partial sums that a query answers with, one per page of its work.
const PARTIAL_SUMS_MAX: usize = 1_000;

/// Units of a product. Signed, unlike elsewhere: what must not be negative is looked for here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StockLevel {
    /// Which product.
    pub sku: Sku,
    /// Units that can be reserved.
    pub available: i64,
    /// Units that are held by orders.
    pub reserved: i64,
}

impl OrderStore {
    /// One page of the order documents that were last written from `since` to before `until`, to
    /// the second, as they are stored: one that cannot be read as an order is found as well.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn changed_orders(
        &self,
        since: Timestamp,
        until: Timestamp,
        limit: usize,
        continuation: Option<&str>,
    ) -> Result<Page<Value>, StoreError> {
        let query = Query::new(
            "SELECT * FROM c WHERE c.type = 'order' AND c._ts >= @since AND c._ts < @until",
        )
        .with("@since", since.epoch_ms() / 1_000)
        .with("@until", until.epoch_ms() / 1_000);
        self.orders.query_page(&query, Scope::All, limit, continuation).await
    }

    /// The levels of every product.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn stock_levels(&self) -> Result<Vec<StockLevel>, StoreError> {
        let query = Query::new("SELECT * FROM c WHERE c.type = 'product'");
        self.stock.query(&query, Scope::All, PRODUCTS_MAX).await
    }

    /// The level of one product.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn stock_level(&self, sku: &Sku) -> Result<Option<StockLevel>, StoreError> {
        let id = sku.to_string();
        let document = self.stock.read(&id, &id).await?;
        Ok(document.map(|document: Document<StockLevel>| document.value))
    }

    /// Units of a product that reservations hold, added up by the store.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn reserved_units(&self, sku: &Sku) -> Result<i64, StoreError> {
        let query = Query::new(
            "SELECT VALUE SUM(c.quantity) FROM c WHERE c.type = 'reservation' \
             AND c.state = 'reserved'",
        );
        let scope = Scope::Partition(sku.to_string());
        let sums: Vec<Value> = self.stock.query(&query, scope, PARTIAL_SUMS_MAX).await?;
        // No reservation at all may be no sum, or one that is no number.
        Ok(sums.iter().filter_map(Value::as_i64).sum())
    }
}
