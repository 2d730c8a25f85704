//! What an order is and how it may change.
//!
//! Everything in this crate is a pure function of its arguments: no I/O, no clock, no randomness,
//! no async. Time comes in as a value, decisions go out as values, and somebody else carries them
//! out. That is what lets the whole order flow be tested by enumeration.
//!
//! * [`submission`] turns a request body into a [`Submission`], or into one error per bad field;
//! * [`order`] is the document that is stored, [`event`] what is told to others about it;
//! * [`idempotency`] derives the order id and judges a repeated request;
//! * [`automaton`] says what may happen to an order at all; [`claim`] has the moves of one service
//!   with its own part, [`saga`] those of the order as a whole, [`notice`] what customers read,
//!   [`replay`] how a message that was given up on is sent again.

pub mod automaton;
pub mod catalogue;
pub mod claim;
pub mod event;
pub mod field;
pub mod history;
pub mod idempotency;
pub mod identity;
pub mod limits;
pub mod money;
pub mod notice;
pub mod order;
pub mod payload;
pub mod replay;
pub mod saga;
pub mod service;
pub mod submission;
mod timestamp;

pub use automaton::{Edit, Guard, Move, Status};
pub use catalogue::{Catalogue, Product};
pub use claim::{Claim, NoSuccess, Standing};
pub use event::{CloudEvent, EventType, OutboxEvent};
pub use field::FieldError;
pub use idempotency::{IdempotencyKey, Verdict};
pub use identity::{CustomerId, OrderId, Sku};
pub use money::Currency;
pub use notice::Notice;
pub use order::{Order, Overall};
pub use service::Service;
pub use submission::Submission;
pub use timestamp::Timestamp;
