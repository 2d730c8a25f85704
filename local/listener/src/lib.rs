//! What every stand-in over HTTP needs: a [`Clock`], and a [`Listener`] that accepts, bounds and
//! ends connections.
//!
//! It reads each request whole, within [`Limits`], and hands it to a service. It knows nothing of
//! paths, methods or answers.

mod activity;
mod clock;
mod connection;
mod socket;
#[cfg(feature = "testing")]
pub mod testing;

pub use clock::Clock;
pub use connection::{BodyError, Request};
pub use socket::{BindError, Limits, Listener, ServeError};
