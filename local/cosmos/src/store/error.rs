//! What can go wrong in the store, without a word about HTTP.

use thiserror::Error;

use crate::sql::Exceeded;

/// A refused operation. The wire layer turns each kind into a status and substatus.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No such database.
    #[error("the database does not exist")]
    DatabaseMissing,
    /// No such container.
    #[error("the container does not exist")]
    ContainerMissing,
    /// No such item, or it has expired.
    #[error("no item with this id and partition key exists")]
    ItemMissing,
    /// No such resource of another kind.
    #[error("the resource does not exist")]
    ResourceMissing,
    /// Something with this id is there already.
    #[error("an entity with the specified id already exists")]
    AlreadyExists,
    /// Another item of the partition has the same values under a unique key.
    #[error("the unique index constraint is violated by an existing item")]
    UniqueKeyViolation,
    /// `If-Match` or `If-None-Match` did not hold.
    #[error("the ETag precondition is not met")]
    EtagMismatch,
    /// The condition of a PATCH was not true for the stored item.
    #[error("the patch condition is not satisfied by the stored item")]
    ConditionNotMet,
    /// The request contradicts itself, the container or a limit.
    #[error("{0}")]
    BadRequest(String),
    /// The partition key in the body is not the one in the header.
    #[error("the partition key extracted from the item does not match the one in the header")]
    PartitionKeyMismatch,
    /// The item or the batch is over its size limit.
    #[error("the request size is too large: {actual} bytes, at most {limit}")]
    TooLarge {
        /// Size that was sent, in bytes.
        actual: usize,
        /// Size that is allowed, in bytes.
        limit: usize,
    },
    /// The durable log refused the commit; nothing was changed.
    #[error("the commit could not be made durable")]
    LogUnavailable,
}

impl From<Exceeded> for StoreError {
    fn from(exceeded: Exceeded) -> Self {
        Self::BadRequest(exceeded.to_string())
    }
}

impl StoreError {
    /// A [`StoreError::BadRequest`] with `message`.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }
}
