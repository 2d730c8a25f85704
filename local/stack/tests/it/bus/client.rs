//! A plain AMQP client of the stand-in, with the one thing plain AMQP does not tell: whether a
//! message is settled for good, asked on the management link.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::ReceiverSettleMode;
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Message, MessageId, Properties,
};
use fe2o3_amqp_types::primitives::{Array, Binary, SimpleValue, Value};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// What the process at the other end may do at any time: end.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Ample for an answer, on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// One connection with one session.
pub(super) struct Client {
    pub(super) session: SessionHandle<()>,
    connection: ConnectionHandle<()>,
}

impl Client {
    pub(super) async fn connect(address: &str) -> Result<Self, Broken> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::connect_with(stream).await
    }

    /// Also what makes it read nothing any more, for ever.
    pub(super) async fn connect_stoppable(
        address: &str,
    ) -> Result<(Self, CancellationToken), Broken> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stop = CancellationToken::new();
        let stream = Stoppable { stream, stop: stop.clone() };
        Ok((Self::connect_with(stream).await?, stop))
    }

    async fn connect_with<S>(stream: S) -> Result<Self, Broken>
    where
        S: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static,
    {
        let profile = SaslProfile::Plain {
            username: stack::serve::BUS_KEY_NAME.to_owned(),
            password: stack::serve::BUS_KEY.to_owned(),
        };
        let mut connection = Connection::builder()
            .container_id(uuid::Uuid::new_v4().to_string())
            .hostname("localhost")
            .sasl_profile(profile)
            .open_with_stream(stream)
            .await?;
        let session = Session::begin(&mut connection).await?;
        Ok(Self { session, connection })
    }

    /// How the connection ended, once the other side has closed it.
    pub(super) async fn end(&mut self) -> Result<(), fe2o3_amqp::connection::Error> {
        self.connection.on_close().await
    }

    pub(super) async fn sender(&mut self, address: &str) -> Result<Sender, Broken> {
        Ok(Sender::attach(&mut self.session, format!("to-{address}"), address).await?)
    }

    pub(super) async fn receiver(
        &mut self,
        address: &str,
        credit: u32,
    ) -> Result<Receiver, Broken> {
        let mut receiver = Receiver::builder()
            .name(format!("from-{address}"))
            .source(address)
            .receiver_settle_mode(ReceiverSettleMode::Second)
            .credit_mode(CreditMode::Manual)
            .attach(&mut self.session)
            .await?;
        receiver.set_credit(credit).await?;
        Ok(receiver)
    }

    pub(super) async fn management(&mut self, entity: &str) -> Result<Management, Broken> {
        let address = format!("{entity}/$management");
        let sender = self.sender(&address).await?;
        let receiver = self.receiver(&address, 1).await?;
        Ok(Management { sender, receiver })
    }
}

/// A socket that is read from until told otherwise.
#[derive(Debug)]
struct Stoppable {
    stream: TcpStream,
    stop: CancellationToken,
}

impl AsyncRead for Stoppable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stop.is_cancelled() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stoppable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The management link of an entity.
pub(super) struct Management {
    sender: Sender,
    receiver: Receiver,
}

impl Management {
    async fn ask(&mut self, operation: &str, body: Vec<(&str, Value)>) -> Result<i32, Broken> {
        let properties = ApplicationProperties::builder().insert("operation", operation).build();
        let reply_to = format!(
            "from-{}",
            self.receiver
                .source()
                .as_ref()
                .and_then(|source| source.address.clone())
                .unwrap_or_default()
        );
        let body = body.into_iter().map(|(key, value)| (Value::from(key.to_owned()), value));
        let request = Message::builder()
            .properties(Properties::builder().message_id(1_u64).reply_to(reply_to).build())
            .application_properties(properties)
            .body(AmqpValue(Value::Map(body.collect())))
            .build();
        let answer = async {
            self.receiver.set_credit(1).await?;
            self.sender.send(request).await?;
            let reply = self.receiver.recv::<Body<Value>>().await?;
            self.receiver.accept(&reply).await?;
            let status = reply.message().application_properties.as_ref();
            match status.and_then(|properties| properties.get("statusCode")) {
                Some(SimpleValue::Int(status)) => Ok(*status),
                other => Err(Broken::from(format!("{other:?} is no status"))),
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await?
    }

    /// Settles a message and waits until it is settled; the status code.
    pub(super) async fn dispose(&mut self, token: uuid::Uuid, how: &str) -> Result<i32, Broken> {
        let token = Value::Uuid(token.into_bytes().into());
        let body = vec![
            ("disposition-status", Value::from(how.to_owned())),
            ("lock-tokens", Value::Array(Array(vec![token]))),
        ];
        self.ask("com.microsoft:update-disposition", body).await
    }
}

/// The lock token of a delivery: a .NET Guid in its tag.
pub(super) fn token(delivery: &Delivery<Data>) -> uuid::Uuid {
    let tag: [u8; 16] = delivery.delivery_tag()[..].try_into().unwrap();
    uuid::Uuid::from_bytes_le(tag)
}

pub(super) fn id(delivery: &Delivery<Data>) -> String {
    match &delivery.message().properties.as_ref().unwrap().message_id {
        Some(MessageId::String(id)) => id.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn message(id: &str) -> Message<Data> {
    sized(id, 200)
}

/// A message with a body of so many bytes.
pub(super) fn sized(id: &str, bytes: usize) -> Message<Data> {
    Message::builder()
        .properties(Properties::builder().message_id(id.to_owned()).build())
        .data(Binary::from(vec![7; bytes]))
        .build()
}
