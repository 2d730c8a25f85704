//! The Function Apps of Bulkhead: one executable, one folder per app.
//!
//! | app | function | trigger | room |
//! | --- | --- | --- | --- |
//! | `order-api` | `http` | every HTTP route | [`order_api`] |
//! | `inventory` | `reserve` | topic `orders`, `inventory-sub` | [`inventory`] |
//! | `billing` | `charge` | topic `orders`, `billing-sub` | [`billing`] |
//! | `notification` | `notify` | topic `orders`, `notification-sub` | [`notification`] |
//!
//! Which of them a process serves is decided by the function folders that are staged beside the
//! executable ([`staging`]); endpoints and credentials come from settings alone ([`settings`]).
//! There is no other difference between a laptop and Azure.

pub mod billing;
pub mod consumer;
pub mod inventory;
pub mod notification;
pub mod order_api;
pub mod outbox;
pub mod problem;
pub mod settings;
pub mod staging;
pub mod store;
pub mod topology;

mod chain;
mod clock;
