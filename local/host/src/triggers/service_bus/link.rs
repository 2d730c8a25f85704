//! One connection to the broker: plain AMQP, tokens over `$cbs`, and what is received through it: a
//! peek-lock receiver of the whole entity, or of one session at a time.

use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::ReceiverAttachError;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{self, ErrorCondition, Fields, ReceiverSettleMode};
use fe2o3_amqp::types::messaging::{ApplicationProperties, FilterSet, Source};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Timestamp, Value};
use fe2o3_amqp::{Connection, Receiver, Session};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::request::RequestLink;
use super::sas;
use super::verdicts::{Notice, Tapped};
use super::wire;
use crate::bindings::ServiceBusTrigger;
use crate::config::connection::ServiceBusConnection;

/// Everything from the TCP handshake to the attached link has to be done by then.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Closing politely is worth this much time.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Announced frame size, as in the .NET client.
const FRAME_MAX_BYTES: u32 = 64 * 1024;

/// A peer that is silent this long is taken for dead; heartbeats keep a healthy one alive.
const IDLE_TIMEOUT_MS: u32 = 60_000;

/// How long a token is valid.
const TOKEN_LIFE: time::Duration = time::Duration::hours(1);

/// A token is replaced this long after it was made, well before its end.
pub(crate) const TOKEN_REFRESH: Duration = Duration::from_mins(50);

/// How long the broker may look for a session before it says that there is none, in milliseconds
/// (`tryTimeout` of the .NET client).
const SESSION_WAIT_MS: u32 = 60_000;

/// The broker says that no session came free in time.
const NO_SESSION: &str = "com.microsoft:timeout";

/// The filter that asks for a session: null for any.
const SESSION_FILTER: &str = "com.microsoft:session-filter";

/// A live connection, ready to receive.
pub(crate) struct Link {
    connection: ConnectionHandle<()>,
    // Ending a session ends its links: they live as long as what uses them.
    receiving: SessionHandle<()>,
    _tokens: SessionHandle<()>,
    cbs: RequestLink,
    /// When the tokens have to be replaced.
    pub(crate) refresh_at: Instant,
    /// For the management task; taken once.
    pub(crate) managing: Option<SessionHandle<()>>,
    pub(crate) notices: mpsc::Receiver<Notice>,
}

/// What messages come out of.
pub(crate) struct Intake {
    pub(crate) receiver: Receiver,
    /// The session that was granted, where messages come by session.
    pub(crate) session: Option<Granted>,
}

/// A session that is this receiver's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: String,
    /// When its lock ends, unless it is renewed.
    pub(crate) until: OffsetDateTime,
}

/// Why there is no connection. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(pub(super) String);

impl Link {
    pub(crate) async fn open(
        trigger: &ServiceBusTrigger,
        now: OffsetDateTime,
    ) -> Result<Self, LinkError> {
        timeout(OPEN_TIMEOUT, Self::connect(trigger, now))
            .await
            .map_err(|_| LinkError(format!("the broker did not answer within {OPEN_TIMEOUT:?}")))?
    }

    async fn connect(trigger: &ServiceBusTrigger, now: OffsetDateTime) -> Result<Self, LinkError> {
        let (stream, notices) = Tapped::new(dial(&trigger.connection).await?);
        let mut connection = open(&trigger.connection, stream).await?;
        let mut tokens = begin(&mut connection).await?;
        let mut cbs = RequestLink::attach(&mut tokens, "$cbs")
            .await
            .map_err(|error| LinkError(error.to_string()))?;
        put_tokens(&mut cbs, trigger, now).await?;
        let receiving = begin(&mut connection).await?;
        let managing = Some(begin(&mut connection).await?);
        let refresh_at = Instant::now() + TOKEN_REFRESH;
        Ok(Self { connection, receiving, _tokens: tokens, cbs, refresh_at, managing, notices })
    }

    /// Starts to receive from the whole entity.
    pub(crate) async fn receive(
        &mut self,
        trigger: &ServiceBusTrigger,
    ) -> Result<Intake, LinkError> {
        let source = Source::from(trigger.entity.clone());
        let attached = timeout(OPEN_TIMEOUT, self.attach(source, None)).await;
        let attached = attached
            .map_err(|_| LinkError(format!("the broker did not answer within {OPEN_TIMEOUT:?}")))?;
        let receiver = attached.map_err(|error| refused(trigger, &error))?;
        Ok(Intake { receiver, session: None })
    }

    /// Waits until the broker grants a session that nobody holds, for as long as it takes.
    pub(crate) async fn receive_session(
        &mut self,
        trigger: &ServiceBusTrigger,
        now: impl Fn() -> OffsetDateTime,
    ) -> Result<Intake, LinkError> {
        // The broker answers after its wait at the latest.
        let patience = Duration::from_millis(SESSION_WAIT_MS.into()) + OPEN_TIMEOUT;
        loop {
            if Instant::now() >= self.refresh_at {
                self.refresh(trigger, now()).await?;
            }
            let mut filter = FilterSet::new();
            filter.insert(Symbol::from(SESSION_FILTER), Value::Null);
            let source = Source::builder().address(trigger.entity.clone()).filter(filter).build();
            let mut properties = Fields::new();
            let wait = Value::Uint(SESSION_WAIT_MS);
            properties.insert(Symbol::from("com.microsoft:timeout"), wait);
            let attached = timeout(patience, self.attach(source, Some(properties))).await;
            let attached = attached
                .map_err(|_| LinkError(format!("no word about a session within {patience:?}")))?;
            let receiver = match attached {
                Ok(receiver) => receiver,
                Err(ReceiverAttachError::RemoteClosedWithError(error))
                    if condition(&error) == NO_SESSION =>
                {
                    continue;
                }
                Err(error) => return Err(refused(trigger, &error)),
            };
            let granted = receiver.source().as_ref().and_then(|source| source.filter.as_ref());
            let id = match granted.and_then(|filter| filter.get(&Symbol::from(SESSION_FILTER))) {
                Some(Value::String(id)) => id.clone(),
                _ => return Err(LinkError("the broker did not say which session".to_owned())),
            };
            let until = receiver.properties(|properties| {
                let name = Symbol::from("com.microsoft:locked-until-utc");
                wire::ticks(properties.as_ref()?.get(&name)?)
            });
            let until = until.unwrap_or_else(&now);
            return Ok(Intake { receiver, session: Some(Granted { id, until }) });
        }
    }

    async fn attach(
        &mut self,
        source: Source,
        properties: Option<Fields>,
    ) -> Result<Receiver, ReceiverAttachError> {
        let mut link = Receiver::builder()
            .name(format!("functions-host-{}", Uuid::new_v4()))
            .source(source)
            .receiver_settle_mode(ReceiverSettleMode::Second)
            .credit_mode(CreditMode::Manual);
        if let Some(properties) = properties {
            link = link.properties(properties);
        }
        link.attach(&mut self.receiving).await
    }

    /// Replaces the tokens before they expire.
    pub(crate) async fn refresh(
        &mut self,
        trigger: &ServiceBusTrigger,
        now: OffsetDateTime,
    ) -> Result<(), LinkError> {
        put_tokens(&mut self.cbs, trigger, now).await?;
        self.refresh_at = Instant::now() + TOKEN_REFRESH;
        Ok(())
    }

    /// Takes leave of the broker, so that it frees what is locked at once.
    pub(crate) async fn close(mut self, intake: Intake) {
        intake.close().await;
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close()).await;
    }
}

impl Intake {
    /// Gives back the session, or what was received and not settled.
    pub(crate) async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, self.receiver.close()).await;
    }
}

fn refused(trigger: &ServiceBusTrigger, error: &ReceiverAttachError) -> LinkError {
    let entity = &trigger.entity;
    match error {
        ReceiverAttachError::RemoteClosedWithError(error) => {
            let why = error.description.clone().unwrap_or_else(|| condition(error));
            LinkError(format!("'{entity}' cannot be received from: {why}"))
        }
        other => LinkError(format!("'{entity}' cannot be received from: {other}")),
    }
}

/// The name of an error condition on the wire.
pub(super) fn condition(error: &definitions::Error) -> String {
    match &error.condition {
        ErrorCondition::Custom(name) => name.as_str().to_owned(),
        known => format!("{known:?}"),
    }
}

/// Connects to the broker, not yet as AMQP.
pub(super) async fn dial(broker: &ServiceBusConnection) -> Result<TcpStream, LinkError> {
    let stream = TcpStream::connect((broker.host.as_str(), broker.port))
        .await
        .map_err(|error| LinkError(error.to_string()))?;
    // With Nagle every settlement would wait for an acknowledgement.
    stream.set_nodelay(true).map_err(|error| LinkError(error.to_string()))?;
    Ok(stream)
}

/// Opens an AMQP connection over `stream`.
pub(super) async fn open<Io>(
    broker: &ServiceBusConnection,
    stream: Io,
) -> Result<ConnectionHandle<()>, LinkError>
where
    Io: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static,
{
    Connection::builder()
        .container_id(format!("functions-host-{}", Uuid::new_v4()))
        .hostname(broker.host.as_str())
        .sasl_profile(SaslProfile::Anonymous)
        .max_frame_size(FRAME_MAX_BYTES)
        .idle_time_out(IDLE_TIMEOUT_MS)
        .open_with_stream(stream)
        .await
        .map_err(|error| LinkError(format!("the connection was refused: {error}")))
}

pub(super) async fn begin(
    connection: &mut ConnectionHandle<()>,
) -> Result<SessionHandle<()>, LinkError> {
    Session::begin(connection)
        .await
        .map_err(|error| LinkError(format!("the session was refused: {error}")))
}

/// One token for the entity and one for its management node.
async fn put_tokens(
    cbs: &mut RequestLink,
    trigger: &ServiceBusTrigger,
    now: OffsetDateTime,
) -> Result<(), LinkError> {
    for suffix in ["", "/$management"] {
        let node = format!("{}{suffix}", trigger.entity);
        put_token(cbs, &trigger.connection, &node, now).await?;
    }
    Ok(())
}

/// A token for `node`, an entity or what is below it.
pub(super) async fn put_token(
    cbs: &mut RequestLink,
    broker: &ServiceBusConnection,
    node: &str,
    now: OffsetDateTime,
) -> Result<(), LinkError> {
    let expiry = now + TOKEN_LIFE;
    let audience = format!("sb://{}/{node}", broker.host);
    let token = sas::token(&audience, &broker.key_name, &broker.key, expiry.unix_timestamp());
    let expiry = Timestamp::from_milliseconds(expiry.unix_timestamp() * 1_000);
    let properties = ApplicationProperties::builder()
        .insert("operation", "put-token")
        .insert("type", "servicebus.windows.net:sastoken")
        .insert("name", audience)
        .insert("expiration", SimpleValue::Timestamp(expiry))
        .build();
    let reply = cbs
        .call(properties, Value::String(token))
        .await
        .map_err(|error| LinkError(format!("no answer to the token: {error}")))?;
    if !(200..300).contains(&reply.status) {
        return Err(LinkError(format!(
            "the key of setting {} was refused: {} {}",
            broker.setting, reply.status, reply.description
        )));
    }
    Ok(())
}
