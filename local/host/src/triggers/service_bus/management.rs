//! Lock renewal and settlement by lock token, over `<entity>/$management`.
//!
//! One task per connection owns the links and serves the requests of all invocations; the links
//! are attached with the first request, since most messages never need them.

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body};
use fe2o3_amqp::types::primitives::{Array, OrderedMap, Value};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::request::{Reply, RequestError, RequestLink};

/// Requests that may wait for the links; each belongs to an invocation, which waits too.
pub(crate) const REQUESTS_MAX: usize = 256;

/// The broker says that the lock is no longer held.
const GONE: i32 = 410;
/// The broker does not know the lock token at all, e.g. after it was started anew.
const NOT_FOUND: i32 = 404;

/// Why a lock could not be renewed or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// The message belongs to somebody else by now.
    #[error("the lock is lost: {0}")]
    Lost(String),
    /// The broker could not be asked.
    #[error("{0}")]
    Unavailable(String),
}

/// How a message is settled by its lock token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Completed,
    Abandoned,
}

/// What a lock is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Locked {
    /// One message, by its lock token.
    Message(Uuid),
    /// A session, by its id.
    Session(String),
}

/// A handle to the management task of one connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Management(mpsc::Sender<Request>);

enum Request {
    Renew { lock: Locked, reply: oneshot::Sender<Result<OffsetDateTime, LockError>> },
    Settle { lock: Uuid, disposition: Disposition, reply: oneshot::Sender<Result<(), LockError>> },
}

impl Management {
    /// The handle, and the task to spawn. The task ends when the last handle is gone.
    pub(crate) fn new(
        session: SessionHandle<()>,
        entity: &str,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self(sender), serve(session, format!("{entity}/$management"), receiver))
    }

    /// Extends the lock and returns its new end.
    pub(crate) async fn renew(&self, lock: Locked) -> Result<OffsetDateTime, LockError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Renew { lock, reply }, answer).await
    }

    /// Settles a message that was received over another connection.
    pub(crate) async fn settle(
        &self,
        lock: Uuid,
        disposition: Disposition,
    ) -> Result<(), LockError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Settle { lock, disposition, reply }, answer).await
    }

    async fn ask<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, LockError>>,
    ) -> Result<T, LockError> {
        let gone = || LockError::Unavailable("the connection is closed".to_owned());
        self.0.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(
    mut session: SessionHandle<()>,
    node: String,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut link: Option<RequestLink> = None;
    while let Some(request) = requests.recv().await {
        let (operation, body) = match &request {
            Request::Renew { lock: Locked::Message(lock), .. } => {
                ("com.microsoft:renew-lock", locks(*lock, None))
            }
            Request::Renew { lock: Locked::Session(id), .. } => {
                let entry = (Value::String("session-id".to_owned()), Value::String(id.clone()));
                ("com.microsoft:renew-session-lock", Value::Map([entry].into_iter().collect()))
            }
            Request::Settle { lock, disposition, .. } => {
                ("com.microsoft:update-disposition", locks(*lock, Some(*disposition)))
            }
        };
        let outcome = call(&mut session, &node, &mut link, operation, body).await;
        if outcome.is_err() {
            // Whatever state it is in, the next request gets a new pair.
            link = None;
        }
        match request {
            Request::Renew { reply, .. } => {
                let _ = reply.send(outcome.map_err(unavailable).and_then(renewed));
            }
            Request::Settle { reply, .. } => {
                let _ = reply.send(outcome.map_err(unavailable).and_then(settled));
            }
        }
    }
}

async fn call(
    session: &mut SessionHandle<()>,
    node: &str,
    link: &mut Option<RequestLink>,
    operation: &str,
    body: Value,
) -> Result<Reply, RequestError> {
    let link = match link {
        Some(link) => link,
        None => link.insert(RequestLink::attach(session, node).await?),
    };
    let properties = ApplicationProperties::builder().insert("operation", operation).build();
    link.call(properties, body).await
}

fn locks(lock: Uuid, disposition: Option<Disposition>) -> Value {
    let mut map = OrderedMap::new();
    let tokens = vec![Value::Uuid(lock.into_bytes().into())];
    map.insert(Value::String("lock-tokens".to_owned()), Value::Array(Array(tokens)));
    if let Some(disposition) = disposition {
        let name = match disposition {
            Disposition::Completed => "completed",
            Disposition::Abandoned => "abandoned",
        };
        map.insert(Value::String("disposition-status".to_owned()), Value::String(name.to_owned()));
    }
    Value::Map(map)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn unavailable(error: RequestError) -> LockError {
    LockError::Unavailable(error.to_string())
}

fn judged(reply: &Reply) -> Result<(), LockError> {
    let text = format!("{} {}", reply.status, reply.description);
    match reply.status {
        200..=299 => Ok(()),
        GONE | NOT_FOUND => Err(LockError::Lost(text)),
        _ => Err(LockError::Unavailable(text)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape and_then wants")]
fn settled(reply: Reply) -> Result<(), LockError> {
    judged(&reply)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape and_then wants")]
fn renewed(reply: Reply) -> Result<OffsetDateTime, LockError> {
    judged(&reply)?;
    let unreadable = || LockError::Unavailable("the reply holds no new lock end".to_owned());
    let Body::Value(AmqpValue(Value::Map(map))) = &reply.body else { return Err(unreadable()) };
    let get = |name: &str| map.get(&Value::String(name.to_owned()));
    // Message locks are renewed several at a time, a session's by itself.
    let first = match get("expirations") {
        Some(Value::Array(ends)) => ends.first(),
        Some(Value::List(ends)) => ends.first(),
        _ => get("expiration"),
    };
    match first {
        Some(Value::Timestamp(end)) => {
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(end.milliseconds()) * 1_000_000)
                .map_err(|_| unreadable())
        }
        _ => Err(unreadable()),
    }
}
