//! A document store: Azure Cosmos DB for NoSQL.
//!
//! # Which client
//!
//! Everything goes through `azure_data_cosmos_driver`, the engine that Microsoft's
//! `azure_data_cosmos` wraps: routing, session tokens, signing, query planning and the connection
//! pool are its work. The wrapper itself is left out, because it cannot send a patch with a
//! condition nor a patch inside a batch, which is what claims and completions are made of, and two
//! clients side by side would mean two pools, two sets of caches and two times the code. The
//! driver speaks account keys and Entra tokens alike. Bodies are ours, byte for byte.
//!
//! # What is switched off, and why
//!
//! * Retries of the driver, except what it needs for routing. It repeats creates, upserts and
//!   batches whose answer got lost, so that an own success comes back as 409 or 412, and it may
//!   take half a minute over it. Here an operation has a deadline, a write whose outcome is
//!   unknown is reported as such ([`StoreError::may_have_been_applied`]) and never repeated, and a
//!   409 or 412 therefore always tells the truth about somebody else.
//! * HTTP/2, for the same reason: over it the driver repeats a request on a second connection when
//!   the first one breaks, after the request may have been received.
//! * Binary JSON: the service may answer in it, local stand-ins and logs do not speak it.
//! * Hedged reads: with one region there is nowhere to hedge to.
//!
//! REST reference: <https://learn.microsoft.com/rest/api/cosmos-db/>; partial update:
//! <https://learn.microsoft.com/azure/cosmos-db/partial-document-update>.

mod batch;
mod container;
mod error;
mod patch;
mod query;
mod stats;
mod store;

pub use batch::{BatchOperation, BatchOutcome, OperationResult};
pub use container::{Container, Document, ETag};
pub use error::StoreError;
pub use patch::{Patch, PatchOperation, PatchOutcome, literal};
pub use query::{Page, Query, Scope};
pub use stats::StoreStats;
pub use store::{Store, StoreOptions};
