//! A client of the Storage queue service: REST, XML, SharedKey. Knows nothing of functions.
//!
//! Reference: <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>.

mod queue;
mod sign;
mod wakers;
mod xml;

pub(crate) use queue::{Queue, Received, StorageError, is_queue_name};
pub(crate) use wakers::Wakers;
