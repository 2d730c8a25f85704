//! Request and response over a pair of links: `$cbs` for tokens, `<entity>/$management` for locks.
//!
//! One request at a time per pair. Reference:
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>.

use std::time::Duration;

use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, MessageId, Properties,
};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use tokio::time::timeout;
use uuid::Uuid;

/// A broker that has not answered by then will not (`tryTimeout` is a minute; nobody waits that
/// long for a local one).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A pair of links to one node.
pub(crate) struct RequestLink {
    sender: Sender,
    receiver: Receiver,
    reply_to: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// As in HTTP.
    pub(crate) status: i32,
    pub(crate) description: String,
    pub(crate) body: Body<Value>,
}

/// Why there was no reply. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RequestError(pub(crate) String);

impl RequestLink {
    pub(crate) async fn attach(
        session: &mut SessionHandle<()>,
        node: &str,
    ) -> Result<Self, RequestError> {
        let reply_to = format!("host-{}", Uuid::new_v4());
        let failed = |what: &str, error: &dyn std::fmt::Debug| {
            RequestError(format!("no {what} link to {node}: {error:?}"))
        };
        let sender = Sender::builder()
            .name(format!("{reply_to}-request"))
            .source(reply_to.clone())
            .target(node.to_owned())
            .attach(session)
            .await
            .map_err(|error| failed("request", &error))?;
        let receiver = Receiver::builder()
            .name(format!("{reply_to}-reply"))
            .source(node.to_owned())
            .target(reply_to.clone())
            .attach(session)
            .await
            .map_err(|error| failed("reply", &error))?;
        Ok(Self { sender, receiver, reply_to })
    }

    /// Sends `body` with `properties` and waits for the reply to it.
    pub(crate) async fn call(
        &mut self,
        properties: ApplicationProperties,
        body: Value,
    ) -> Result<Reply, RequestError> {
        timeout(ANSWER_TIMEOUT, self.exchange(properties, body))
            .await
            .map_err(|_| RequestError(format!("no reply within {ANSWER_TIMEOUT:?}")))?
    }

    async fn exchange(
        &mut self,
        properties: ApplicationProperties,
        body: Value,
    ) -> Result<Reply, RequestError> {
        let id = MessageId::String(Uuid::new_v4().to_string());
        let request = Message::builder()
            .properties(
                Properties::builder()
                    .message_id(id.clone())
                    .reply_to(self.reply_to.clone())
                    .build(),
            )
            .application_properties(properties)
            .body(AmqpValue(body))
            .build();
        self.sender
            .send(request)
            .await
            .map_err(|error| RequestError(format!("the request was not sent: {error}")))?;
        loop {
            let delivery = self
                .receiver
                .recv::<Body<Value>>()
                .await
                .map_err(|error| RequestError(format!("the reply link broke: {error}")))?;
            // Brokers settle replies themselves; for those that do not, this is the courtesy.
            let _ = self.receiver.accept(&delivery).await;
            let message = delivery.into_message();
            let for_us = message
                .properties
                .as_ref()
                .and_then(|properties| properties.correlation_id.as_ref())
                .is_none_or(|correlation| *correlation == id);
            // Anything else is the late reply to a request that was given up.
            if for_us {
                return Ok(reply(message));
            }
        }
    }
}

fn reply(message: Message<Body<Value>>) -> Reply {
    let properties = message.application_properties.unwrap_or_default();
    // $cbs writes the names with a hyphen, $management in camel case.
    let get = |names: [&str; 2]| names.iter().find_map(|name| properties.0.get(*name));
    let status = match get(["statusCode", "status-code"]) {
        Some(SimpleValue::Int(code)) => *code,
        _ => 500,
    };
    let description = match get(["statusDescription", "status-description"]) {
        Some(SimpleValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    Reply { status, description, body: message.body }
}
