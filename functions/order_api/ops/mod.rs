//! Operations: what needs a person, dead letters and their replay, and the trail of who did what.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /api/ops/attention` | what does not get on by itself ([`attention`]) |
//! | `GET /api/ops/dead-letters` | how many there are and why, per source (`read`) |
//! | `GET /api/ops/dead-letters/{source}` | a page of them (`read`) |
//! | `GET /api/ops/dead-letters/{source}/{number}` | one, with the order beside it (`read`) |
//! | `POST /api/ops/dead-letters/{source}/replay` | sends them again, to that source alone (`act`) |
//! | `POST /api/ops/dead-letters/{source}/discard` | removes them (`act`) |
//! | `GET /api/ops/audit` | who did what, newest first (`read`) |
//!
//! A source is a subscription or the poison queue (`source`); what lies there is a `letter`,
//! found and taken by a `shelf`. What is done is written down first ([`crate::store::audit`]), also
//! what is done elsewhere under `/api/ops` (`deed`).

mod act;
pub mod attention;
pub(super) mod deed;
mod letter;
mod pace;
mod plan;
mod read;
mod report;
pub(super) mod request;
mod shelf;
mod source;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use azure::bus::{BusClient, BusError, BusOptions, Message, Sender};
use azure::queue::QueueClient;
use tracing::{error, warn};

use super::{OrderApi, refuse_method};
use crate::chain::chain;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::store::OrderStore;
use crate::store::audit::Audit;
use crate::topology::TOPOLOGY;
use pace::Pace;
pub(super) use read::fresh;
use shelf::{Shelf, ShelfError};
use source::Source;

/// What a client is told to wait when the broker does not say.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the routes of this room share.
#[derive(Debug)]
pub(super) struct Ops {
    shelves: [Arc<Shelf>; 4],
    topic: Sender,
    audit: Audit,
    pace: Pace,
}

impl Ops {
    /// Operations over a connection of their own: orders must not wait behind a replay.
    pub(super) fn new(store: &OrderStore, settings: &Settings) -> Self {
        let bus = BusClient::new(settings.bus.clone(), BusOptions::default());
        let queue = settings.queues.as_ref().and_then(|connection| {
            QueueClient::new(connection, source::POISON_QUEUE)
                .inspect_err(|error| warn!(error = %chain(error), "no poison queue to look into"))
                .ok()
        });
        Self {
            shelves: Shelf::all(&bus, queue.as_ref()),
            topic: bus.sender(&TOPOLOGY.topic().name),
            audit: store.audit(),
            pace: Pace::default(),
        }
    }

    /// Sends a message to the topic.
    pub(super) async fn send(&self, message: &Message) -> Result<(), BusError> {
        self.topic.send(message).await
    }

    fn shelf(&self, source: Source) -> &Shelf {
        &self.shelves[source.index()]
    }
}

/// The routes of this room.
pub(super) fn router() -> Router<Arc<OrderApi>> {
    let looks = || refuse_method("GET, HEAD");
    let acts = || refuse_method("POST");
    Router::new()
        .route("/api/ops/attention", get(attention::attention).fallback(looks))
        .route("/api/ops/dead-letters", get(read::overview).fallback(looks))
        .route("/api/ops/dead-letters/{source}", get(read::list).fallback(looks))
        .route("/api/ops/dead-letters/{source}/{number}", get(read::one).fallback(looks))
        .route("/api/ops/dead-letters/{source}/replay", post(act::replay).fallback(acts))
        .route("/api/ops/dead-letters/{source}/discard", post(act::discard).fallback(acts))
        .route("/api/ops/audit", get(read::audit).fallback(looks))
}

/// A shelf's error as the client may see it; the cause goes to the log.
fn shelf_problem(error: &ShelfError) -> Problem {
    let retry_after = match error {
        ShelfError::Bus(error) => error.retry_after(),
        ShelfError::Queue(_) => None,
        // Only a person who sets the setting helps, and who reads this is one.
        ShelfError::NotConfigured(_) => {
            return Problem::broker_unavailable(RETRY_AFTER).detail(format!("{error}."));
        }
    };
    let transient = match error {
        ShelfError::Bus(error) => error.is_transient(),
        ShelfError::Queue(error) => error.is_transient(),
        ShelfError::NotConfigured(_) => false,
    };
    if transient {
        warn!(error = %chain(error), "dead letters cannot be reached");
    } else {
        error!(error = %chain(error), "dead letters are refused to us");
    }
    Problem::broker_unavailable(retry_after.unwrap_or(RETRY_AFTER))
}
