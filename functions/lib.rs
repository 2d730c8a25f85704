//! The Function Apps of Bulkhead: one executable, one folder per app.
//!
//! | app | function | trigger | room |
//! | --- | --- | --- | --- |
//! | `order-api` | `http` | every HTTP route | [`order_api`] |
//! | `inventory` | `reserve` | topic `orders`, `inventory-sub` | [`inventory`] |
//! | `billing` | `charge` | topic `orders`, `billing-sub` | [`billing`] |
//! | `payments` | `settle` | queue `payments` | [`payments`] |
//! | `notification` | `notify` | topic `orders`, `notification-sub` | [`notification`] |
//! | `outbox` | `relay`, `sweep` | change feed of `orders`; every minute | [`outbox`] |
//! | `outbox` | `reconcile` | every hour | [`outbox`] |
//!
//! Who may use the HTTP routes is decided by [`access`].
//!
//! What the consumers share, from the outside in: [`courier`] settles a message, [`delivery`]
//! reads it, [`worker`] claims, finishes and closes orders, [`verdict`] judges what went wrong,
//! [`publisher`] sends events that were committed, [`grid`] tells them to the world outside.
//!
//! Which of them a process serves is decided by the function folders that are staged beside the
//! executable ([`staging`]); endpoints and credentials come from settings alone ([`settings`]).
//! There is no other difference between a laptop and Azure.

pub mod access;
pub mod billing;
pub mod breaker;
pub mod courier;
pub mod crash;
pub mod delivery;
pub mod grid;
pub mod inventory;
pub mod notification;
pub mod order_api;
pub mod outbox;
pub mod payments;
pub mod problem;
pub mod publisher;
pub mod settings;
pub mod staging;
pub mod store;
pub mod telemetry;
pub mod topology;
pub mod verdict;
pub mod worker;

mod chain;
mod clock;
#[cfg(feature = "azure-monitor")]
mod insights;
