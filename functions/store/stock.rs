//! Stock: per SKU one product document and one reservation document per order, changed together in
//! one batch of that SKU's partition. Available units can therefore never be sold twice.
//!
//! Giving back leaves the reservation document behind as a tombstone: a reservation that comes
//! late, from a worker that had stalled, meets it and reserves nothing.

use azure::cosmos::{BatchOperation, BatchOutcome, Document, Patch, StoreError};
use orders::{OrderId, Sku, Timestamp};
use serde::{Deserialize, Serialize};

use super::OrderStore;
use crate::clock;

/// Tries of one change against others that change the same reservation: each refusal means that
/// somebody else has just finished a step, and there are only two steps.
const ROUNDS_MAX: u32 = 4;

/// What an order holds of one SKU: document `reservation:<orderId>` in partition `<sku>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// `reservation:<orderId>`.
    pub id: String,
    /// Partition key.
    pub sku: Sku,
    /// Always `reservation`.
    #[serde(rename = "type")]
    pub document_type: ReservationDocument,
    /// Whose.
    pub order_id: OrderId,
    /// Units; 0 in a tombstone that came first.
    pub quantity: u64,
    /// Whether the units are still held.
    pub state: ReservationState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Marks a document as a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationDocument {
    /// The only value of `type`.
    #[serde(rename = "reservation")]
    Reservation,
}

/// Whether the units are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReservationState {
    /// They are.
    Reserved,
    /// They are not, and never will be again for this order.
    Released,
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The units are held, by this call or by an earlier one.
    Held,
    /// There are not enough.
    Insufficient,
    /// The order has been released before.
    Withdrawn,
}

impl OrderStore {
    /// Reserves `quantity` units of `sku` for an order. Once held they stay held, however often
    /// this is called.
    ///
    /// # Errors
    /// The store did not answer, or has no such product.
    pub async fn reserve(
        &self,
        order_id: OrderId,
        sku: &Sku,
        quantity: u64,
    ) -> Result<Reserved, StoreError> {
        let partition = sku.to_string();
        let reservation = reservation(order_id, sku, quantity, ReservationState::Reserved);
        let units = signed(quantity);
        let take = Patch::new()
            .increment("/available", -units)
            .increment("/reserved", units)
            .when(format!("FROM c WHERE c.available >= {units}"));
        let operations =
            vec![BatchOperation::create(&reservation), BatchOperation::patch(&partition, &take)];
        match self.stock.batch(&partition, operations).await? {
            BatchOutcome::Committed(_) => Ok(Reserved::Held),
            BatchOutcome::Rejected { index: 0, status: 409, .. } => {
                match self.reservation(order_id, sku).await? {
                    Some(Document { value, .. }) => Ok(match value.state {
                        ReservationState::Reserved => Reserved::Held,
                        ReservationState::Released => Reserved::Withdrawn,
                    }),
                    // It exists, says the batch: the read was behind.
                    None => Err(StoreError::Contended),
                }
            }
            BatchOutcome::Rejected { status: 412 | 404, .. } => Ok(Reserved::Insufficient),
            BatchOutcome::Rejected { .. } => Err(StoreError::Contended),
        }
    }

    /// Gives back what an order holds of `sku`, if anything, and makes sure that it never holds
    /// any again.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn release(&self, order_id: OrderId, sku: &Sku) -> Result<(), StoreError> {
        let partition = sku.to_string();
        for _ in 0..ROUNDS_MAX {
            let operations = match self.reservation(order_id, sku).await? {
                Some(Document { value, .. }) if value.state == ReservationState::Released => {
                    return Ok(());
                }
                Some(Document { value, etag }) => {
                    let units = signed(value.quantity);
                    let give =
                        Patch::new().increment("/available", units).increment("/reserved", -units);
                    let released = Patch::new().set("/state", "released");
                    vec![
                        BatchOperation::patch(&value.id, &released).if_match(etag),
                        BatchOperation::patch(&partition, &give),
                    ]
                }
                None => {
                    let tombstone = reservation(order_id, sku, 0, ReservationState::Released);
                    vec![BatchOperation::create(&tombstone)]
                }
            };
            match self.stock.batch(&partition, operations).await? {
                BatchOutcome::Committed(_) => return Ok(()),
                // Somebody reserved or released in between: look again.
                BatchOutcome::Rejected { .. } => {}
            }
        }
        Err(StoreError::Contended)
    }

    /// What an order holds of `sku`.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn reservation(
        &self,
        order_id: OrderId,
        sku: &Sku,
    ) -> Result<Option<Document<Reservation>>, StoreError> {
        self.stock.read(&sku.to_string(), &reservation_id(order_id)).await
    }
}

fn reservation_id(order_id: OrderId) -> String {
    format!("reservation:{order_id}")
}

fn reservation(
    order_id: OrderId,
    sku: &Sku,
    quantity: u64,
    state: ReservationState,
) -> Reservation {
    Reservation {
        id: reservation_id(order_id),
        sku: sku.clone(),
        document_type: ReservationDocument::Reservation,
        order_id,
        quantity,
        state,
        created_at: clock::now(),
    }
}

/// Quantities of an order are bounded far below what a signed number holds.
fn signed(quantity: u64) -> i64 {
    i64::try_from(quantity).unwrap_or(i64::MAX)
}
