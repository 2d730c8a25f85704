//! What can go wrong in the store, without a word about HTTP.

use thiserror::Error;

/// A refused operation. The wire layer turns each kind into a status and an error code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No such queue.
    #[error("the specified queue does not exist")]
    QueueNotFound,
    /// A queue with this name and other metadata is there already.
    #[error("the specified queue already exists")]
    QueueAlreadyExists,
    /// A queue with this name is still being deleted.
    #[error("the specified queue is being deleted")]
    QueueBeingDeleted,
    /// No such message, or it has expired.
    #[error("the specified message does not exist")]
    MessageNotFound,
    /// The message was taken or updated since this receipt was given.
    #[error("the specified pop receipt did not match the pop receipt for a dequeued message")]
    PopReceiptMismatch,
    /// The name of the queue holds characters that it may not hold.
    #[error("the specified resource name contains invalid characters")]
    InvalidName,
    /// The name of the queue is too short or too long.
    #[error("the specified resource name length is not within the permissible limits")]
    NameLength,
    /// The message would be invisible for as long as it lives, or longer.
    #[error("the visibility timeout must end before the message expires")]
    VisibilityBeyondExpiry,
    /// The log refused the commit; nothing was changed.
    #[error("the commit could not be made durable")]
    LogUnavailable,
}
