//! A model of everything around one order: the store, the stock, the bank, the topic's three
//! subscriptions and the payments queue, and the programs of the four apps that work on it, with a
//! pause between any two requests.
//!
//! [`adversary`] walks through it at random and does what it likes; [`search`] visits every state
//! of a small world. What must hold is in [`rules`].

pub(crate) mod adversary;
pub(crate) mod document;
pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod worker;
pub(crate) mod world;
