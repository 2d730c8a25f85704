//! One connection to the broker: plain AMQP, a token over `$cbs`, a peek-lock receiver.

use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::ReceiverSettleMode;
use fe2o3_amqp::types::messaging::ApplicationProperties;
use fe2o3_amqp::types::primitives::{SimpleValue, Timestamp, Value};
use fe2o3_amqp::{Connection, Receiver, Session};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::request::RequestLink;
use super::sas;
use super::verdicts::{Tapped, Verdict};
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

/// A live connection that can receive.
pub(crate) struct Link {
    connection: ConnectionHandle<()>,
    // Ending a session ends its links: they live as long as what uses them.
    _receiving: SessionHandle<()>,
    _tokens: SessionHandle<()>,
    cbs: RequestLink,
    pub(crate) receiver: Receiver,
    /// For the management task; taken once.
    pub(crate) managing: Option<SessionHandle<()>>,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
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
        let (stream, verdicts) = Tapped::new(dial(&trigger.connection).await?);
        let mut connection = open(&trigger.connection, stream).await?;
        let mut tokens = begin(&mut connection).await?;
        let mut cbs = RequestLink::attach(&mut tokens, "$cbs")
            .await
            .map_err(|error| LinkError(error.to_string()))?;
        put_tokens(&mut cbs, trigger, now).await?;
        let mut receiving = begin(&mut connection).await?;
        let receiver = Receiver::builder()
            .name(format!("functions-host-{}", Uuid::new_v4()))
            .source(trigger.entity.clone())
            .receiver_settle_mode(ReceiverSettleMode::Second)
            .credit_mode(CreditMode::Manual)
            .attach(&mut receiving)
            .await
            .map_err(|error| {
                LinkError(format!("'{}' cannot be received from: {error}", trigger.entity))
            })?;
        let managing = Some(begin(&mut connection).await?);
        Ok(Self {
            connection,
            _receiving: receiving,
            _tokens: tokens,
            cbs,
            receiver,
            managing,
            verdicts,
        })
    }

    /// Replaces the tokens before they expire.
    pub(crate) async fn refresh(
        &mut self,
        trigger: &ServiceBusTrigger,
        now: OffsetDateTime,
    ) -> Result<(), LinkError> {
        put_tokens(&mut self.cbs, trigger, now).await
    }

    /// Takes leave of the broker, so that it frees what is locked at once.
    pub(crate) async fn close(mut self) {
        let politely = async {
            let _ = self.receiver.close().await;
            let _ = self.connection.close().await;
        };
        let _ = timeout(CLOSE_TIMEOUT, politely).await;
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
