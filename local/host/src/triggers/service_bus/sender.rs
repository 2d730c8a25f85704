//! Sending messages, for output bindings: one connection per entity, opened with the first message
//! and again when it broke.
//!
//! Callers share a link only for as long as it takes to write a message; they wait for the
//! broker's verdict without holding it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Data, Message, MessageId, Outcome, Properties,
};
use fe2o3_amqp::types::primitives::Binary;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::link::{LinkError, TOKEN_REFRESH, begin, dial, open, put_token};
use super::request::RequestLink;
use crate::config::connection::ServiceBusConnection;

/// Everything from the TCP handshake to the broker's verdict has to be done by then.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that broke is opened again this often in all before a message counts as not sent.
const ATTEMPTS_MAX: usize = 2;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: &'static str,
    /// W3C trace context for whoever receives it.
    pub(crate) traceparent: Option<String>,
}

/// The links of one host to the entities its output bindings send to.
#[derive(Default)]
pub(crate) struct Senders(StdMutex<HashMap<(String, String), Arc<Slot>>>);

/// The link to one entity, by setting and name, while there is one.
type Slot = Mutex<Option<Open>>;

/// A live link. The connection ends with it.
struct Open {
    sender: Sender,
    cbs: RequestLink,
    refresh_at: Instant,
    number: Uuid,
    _sending: SessionHandle<()>,
    _tokens: SessionHandle<()>,
    _connection: ConnectionHandle<()>,
}

/// Why a message was not sent. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    /// The broker does not take this message.
    #[error("the broker rejected the message: {0}")]
    Rejected(String),
    /// The link broke, or was never there.
    #[error("{0}")]
    Unavailable(String),
}

impl From<LinkError> for NotSent {
    fn from(error: LinkError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Senders {
    /// Sends `message` to `entity` and waits until the broker has it. `now` stamps tokens.
    pub(crate) async fn send(
        &self,
        broker: &ServiceBusConnection,
        entity: &str,
        message: &Outgoing,
        now: OffsetDateTime,
    ) -> Result<(), NotSent> {
        let slot = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (broker.setting.clone(), entity.to_owned());
            Arc::clone(known.entry(key).or_default())
        };
        // The same for every attempt: a broker that looks for duplicates finds one.
        let id = Uuid::new_v4().simple().to_string();
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS_MAX {
            outcome = timeout(SEND_TIMEOUT, attempt(&slot, broker, entity, (&id, message), now))
                .await
                .unwrap_or_else(|_| {
                    let why = format!("the broker did not answer within {SEND_TIMEOUT:?}");
                    Err(NotSent::Unavailable(why))
                });
            if !matches!(outcome, Err(NotSent::Unavailable(_))) {
                break;
            }
        }
        outcome
    }
}

async fn attempt(
    slot: &Slot,
    broker: &ServiceBusConnection,
    entity: &str,
    message: (&str, &Outgoing),
    now: OffsetDateTime,
) -> Result<(), NotSent> {
    let (number, verdict) = {
        let mut held = slot.lock().await;
        // Taken out while it is worked with: what fails or is cut short is not used again.
        let mut link = match held.take() {
            Some(link) => link,
            None => Open::new(broker, entity, now).await?,
        };
        let verdict = link.transfer(broker, entity, message, now).await?;
        let number = link.number;
        *held = Some(link);
        (number, verdict)
    };
    let why = match verdict.await {
        Ok(Outcome::Accepted(_)) => return Ok(()),
        Ok(Outcome::Rejected(rejected)) => {
            let why = rejected.error.map(|error| {
                let said = error.description.unwrap_or_default();
                format!("{:?} {said}", error.condition)
            });
            return Err(NotSent::Rejected(why.unwrap_or_else(|| "no reason given".to_owned())));
        }
        Ok(other) => return Err(NotSent::Rejected(format!("{other:?}"))),
        Err(error) => broken(&error),
    };
    let mut held = slot.lock().await;
    if held.as_ref().is_some_and(|link| link.number == number) {
        *held = None;
    }
    Err(why)
}

fn broken(error: &SendError) -> NotSent {
    match error {
        // Would be the same again.
        SendError::MessageSizeExceeded(_) | SendError::MessageEncodeError => {
            NotSent::Rejected(error.to_string())
        }
        _ => NotSent::Unavailable(format!("the link broke: {error}")),
    }
}

impl Open {
    async fn new(
        broker: &ServiceBusConnection,
        entity: &str,
        now: OffsetDateTime,
    ) -> Result<Self, LinkError> {
        let mut connection = open(broker, dial(broker).await?).await?;
        let mut tokens = begin(&mut connection).await?;
        let mut cbs = RequestLink::attach(&mut tokens, "$cbs")
            .await
            .map_err(|error| LinkError(error.to_string()))?;
        put_token(&mut cbs, broker, entity, now).await?;
        let mut sending = begin(&mut connection).await?;
        let name = format!("functions-host-{}", Uuid::new_v4());
        let sender = Sender::attach(&mut sending, name, entity)
            .await
            .map_err(|error| LinkError(format!("'{entity}' cannot be sent to: {error}")))?;
        Ok(Self {
            sender,
            cbs,
            refresh_at: Instant::now() + TOKEN_REFRESH,
            number: Uuid::new_v4(),
            _sending: sending,
            _tokens: tokens,
            _connection: connection,
        })
    }

    /// Writes the message; what comes back waits for the broker's verdict.
    async fn transfer(
        &mut self,
        broker: &ServiceBusConnection,
        entity: &str,
        (id, message): (&str, &Outgoing),
        now: OffsetDateTime,
    ) -> Result<DeliveryFut<Result<Outcome, SendError>>, NotSent> {
        if Instant::now() >= self.refresh_at {
            put_token(&mut self.cbs, broker, entity, now).await?;
            self.refresh_at = Instant::now() + TOKEN_REFRESH;
        }
        let mut properties = ApplicationProperties::builder();
        if let Some(trace) = &message.traceparent {
            // Both names, as the .NET client writes them.
            properties = properties
                .insert("Diagnostic-Id", trace.clone())
                .insert("traceparent", trace.clone());
        }
        let encoded = Message::builder()
            .properties(
                Properties::builder()
                    .message_id(MessageId::String(id.to_owned()))
                    .content_type(message.content_type)
                    .build(),
            )
            .application_properties(properties.build())
            .body(Data(Binary::from(message.body.clone())))
            .build();
        self.sender.send_batchable(encoded).await.map_err(|error| broken(&error))
    }
}
