//! `GET /api/ops/system`: how much waits where, and for how long. Asks the same services that the
//! orders go through, with the app's own identity; what does not answer says so and hides nothing
//! else.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use azure::bus::{BusClient, BusError, BusOptions, Management, MessageState};
use azure::queue::{QueueClient, QueueError};
use orders::{Service, Status, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{OrderApi, Shared};
use crate::chain::chain;
use crate::clock;
use crate::settings::Settings;
use crate::topology::TOPOLOGY;

/// Messages of a subscription that are looked at to count them.
const LOOK_MAX: usize = 500;

/// Messages of one peek.
const PEEK_PAGE: u32 = 250;

/// Open orders and events that are looked at to count them.
const COUNT_MAX: usize = 1_000;

/// How long an answer serves everybody who asks: several open pages cost as much as one.
const FRESH_FOR: Duration = Duration::from_millis(700);

/// How long one service may take; a picture with a hole is better than none.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// What the route keeps.
#[derive(Debug)]
pub(super) struct System {
    subscriptions: Vec<(&'static str, Management)>,
    queues: Vec<(&'static str, Option<QueueClient>)>,
    stack: bool,
    last: Mutex<Option<(Instant, Value)>>,
}

/// How a place where messages wait stands.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    name: &'static str,
    /// Messages that wait or are being worked on.
    waiting: u64,
    /// Whether there are more than that.
    at_least: bool,
    /// Copies that come back after a back-off.
    scheduled: u64,
    /// When the oldest of those that wait came.
    oldest_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<String>,
}

impl System {
    /// Looks over a connection of its own: orders do not wait behind it.
    pub(super) fn new(settings: &Settings) -> Self {
        let bus = BusClient::new(settings.bus.clone(), BusOptions::default());
        let topic = TOPOLOGY.topic();
        let subscriptions = topic.subscriptions.iter().map(|subscription| {
            let path = format!("{}/Subscriptions/{}", topic.name, subscription.name);
            (&*subscription.name, bus.management(&path))
        });
        let queues = TOPOLOGY.storage.queues.iter().map(|name| {
            let connection = settings.queues.as_ref();
            (&**name, connection.and_then(|connection| QueueClient::new(connection, name).ok()))
        });
        let stack = settings.stack.is_some();
        let (subscriptions, queues) = (subscriptions.collect(), queues.collect());
        Self { subscriptions, queues, stack, last: Mutex::default() }
    }

    async fn picture(&self, api: &OrderApi) -> Value {
        let mut last = self.last.lock().await;
        if let Some((at, picture)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return picture.clone();
        }
        let subscriptions =
            self.subscriptions.iter().map(|(name, place)| within(name, subscription(name, place)));
        let queues = self.queues.iter().map(|(name, client)| within(name, queue(name, client)));
        let (subscriptions, queues, outbox, orders) = tokio::join!(
            futures::future::join_all(subscriptions),
            futures::future::join_all(queues),
            outbox(api),
            open_orders(api),
        );
        let picture = json!({
            "at": clock::now(),
            "local": self.stack,
            "topic": TOPOLOGY.topic().name,
            "apps": TOPOLOGY.apps.iter().map(|app| &app.name).collect::<Vec<_>>(),
            "subscriptions": subscriptions,
            "queues": queues,
            "outbox": outbox,
            "orders": orders,
        });
        *last = Some((Instant::now(), picture.clone()));
        picture
    }
}

/// How much waits where.
pub(super) async fn system(State(api): Shared) -> Response {
    super::ops::fresh(axum::Json(api.system.picture(&api).await))
}

async fn within<E: std::error::Error>(
    name: &'static str,
    look: impl Future<Output = Result<Place, E>>,
) -> Place {
    let unavailable = match tokio::time::timeout(LOOK_WITHIN, look).await {
        Ok(Ok(place)) => return place,
        Ok(Err(error)) => {
            tracing::info!(place = name, error = %chain(&error), "a place cannot be looked into");
            "it cannot be looked into".to_owned()
        }
        Err(_) => format!("it did not answer within {} s", LOOK_WITHIN.as_secs()),
    };
    Place { name, unavailable: Some(unavailable), ..Place::default() }
}

async fn subscription(name: &'static str, management: &Management) -> Result<Place, BusError> {
    let mut place = Place { name, ..Place::default() };
    let mut seen = 0;
    let mut from = 0;
    loop {
        let page = management.peek_without_body(from, PEEK_PAGE).await?;
        let Some(last) = page.last() else { return Ok(place) };
        from = last.sequence_number + 1;
        seen += page.len();
        for message in page {
            match message.state {
                MessageState::Scheduled => place.scheduled += 1,
                MessageState::Active | MessageState::Deferred => {
                    place.waiting += 1;
                    let at = message.enqueued_at.map(Timestamp::new);
                    place.oldest_at = [place.oldest_at, at].into_iter().flatten().min();
                }
            }
        }
        if seen >= LOOK_MAX {
            place.at_least = true;
            return Ok(place);
        }
    }
}

async fn queue(name: &'static str, client: &Option<QueueClient>) -> Result<Place, QueueError> {
    let Some(client) = client else {
        let unavailable = Some(format!("setting {} is not there", TOPOLOGY.storage.connection));
        return Ok(Place { name, unavailable, ..Place::default() });
    };
    let (shown, waiting) = tokio::try_join!(client.peek(), client.approximate_count())?;
    let oldest = shown.iter().filter_map(|message| message.inserted_at).min();
    Ok(Place { name, waiting, oldest_at: oldest.map(Timestamp::new), ..Place::default() })
}

async fn outbox(api: &OrderApi) -> Value {
    match api.store.pending_events(clock::now(), COUNT_MAX).await {
        Ok(pending) => json!({
            "waiting": pending.len(),
            "atLeast": pending.len() == COUNT_MAX,
            "oldestAt": pending.first().map(|event| event.created_at),
        }),
        Err(error) => json!({"unavailable": super::store_problem(&error).summary()}),
    }
}

async fn open_orders(api: &OrderApi) -> Value {
    let is_sealed = |status: Status| status == Status::DeadLettered;
    match api.store.open_parts(COUNT_MAX).await {
        Ok(open) => json!({
            "open": open.len(),
            "atLeast": open.len() == COUNT_MAX,
            "deadLettered": open
                .iter()
                .filter(|order| Service::ALL.iter().any(|service| is_sealed(order.status[*service])))
                .count(),
        }),
        Err(error) => json!({"unavailable": super::store_problem(&error).summary()}),
    }
}
