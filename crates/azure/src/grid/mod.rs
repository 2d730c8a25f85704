//! A topic that pushes events to webhooks: Azure Event Grid.
//!
//! One request, documented at <https://learn.microsoft.com/azure/event-grid/post-to-custom-topic>;
//! there is no maintained client for Rust. Events are CloudEvents 1.0 in a batch, whatever else the
//! caller serialises into them.
//!
//! Publishing is at least once: a request whose answer got lost is sent again, and of several
//! requests the first may have been taken when the second fails. Subscribers tell events apart by
//! `source` and `id`.

mod batch;
mod error;
mod publisher;

pub use error::GridError;
pub use publisher::{GridOptions, GridPublisher};
