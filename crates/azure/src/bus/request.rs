//! Request and response over a pair of links: how the security node and the management nodes are
//! spoken to.
//!
//! One request at a time per pair. Answers that come after their request was given up are
//! recognised by their correlation id and dropped.

use std::fmt;

use fe2o3_amqp::{Receiver, Sender, link::receiver::CreditMode, session::SessionHandle};
use fe2o3_amqp_types::{
    messaging::{
        AmqpValue, ApplicationProperties, Body, Message, MessageId, Properties, Source, Target,
    },
    primitives::{OrderedMap, SimpleValue, Value},
};
use tokio_util::task::TaskTracker;

use super::{
    connection::{SessionGuard, link_name, unless_ended},
    error::BusError,
    message::timestamp,
    token::Token,
};

/// Answers that may be on their way at a time. One is expected; the rest is room for late ones.
const RESPONSE_CREDIT: u32 = 16;

/// A pair of links to one node.
pub(crate) struct RequestLink {
    node: String,
    reply_to: String,
    sender: Sender,
    receiver: Receiver,
    requests_made: u64,
    // Fields are dropped in order: the links close before their session.
    session: SessionGuard,
}

impl fmt::Debug for RequestLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestLink").field(&self.node).finish()
    }
}

/// The body of a successful answer; empty when there is none.
pub(crate) type Response = OrderedMap<Value, Value>;

impl RequestLink {
    /// Attaches both links to `node`, e.g. `$cbs` or `orders/$management`.
    pub(crate) async fn attach(
        mut session: SessionHandle<()>,
        node: &str,
        tasks: &TaskTracker,
    ) -> Result<Self, BusError> {
        let reply_to = link_name("reply");
        let sender = Sender::builder()
            .name(link_name("request"))
            .source(Source::builder().address(reply_to.clone()).build())
            .target(node)
            .attach(&mut session)
            .await?;
        let receiver = Receiver::builder()
            .name(reply_to.clone())
            .source(node)
            .target(Target::builder().address(reply_to.clone()).build())
            .credit_mode(CreditMode::Auto(RESPONSE_CREDIT))
            .auto_accept(true)
            .attach(&mut session)
            .await?;
        let node = node.to_owned();
        let session = SessionGuard::new(session, tasks);
        Ok(Self { node, reply_to, sender, receiver, requests_made: 0, session })
    }

    /// Whether the session is still there.
    pub(crate) fn is_alive(&self) -> bool {
        !self.session.ended().is_cancelled()
    }

    /// Presents a token to the security node.
    pub(crate) async fn put_token(&mut self, audience: &str, token: Token) -> Result<(), BusError> {
        let properties = ApplicationProperties::builder()
            .insert("operation", "put-token")
            .insert("type", token.kind)
            .insert("name", audience)
            .insert("expiration", SimpleValue::Timestamp(timestamp(token.expires_at)))
            .build();
        self.call(properties, Value::String(token.value.secret().to_owned())).await.map(drop)
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call(
        &mut self,
        application_properties: ApplicationProperties,
        body: Value,
    ) -> Result<Response, BusError> {
        self.requests_made += 1;
        let request_id = MessageId::Ulong(self.requests_made);
        let request = Message::builder()
            .properties(
                Properties::builder()
                    .message_id(request_id.clone())
                    .reply_to(self.reply_to.clone())
                    .build(),
            )
            .application_properties(application_properties)
            .value(body)
            .build();
        let ended = self.session.ended();
        let outcome = unless_ended(ended, self.sender.send(request)).await??;
        if let Some(rejected) = outcome.rejected_or(()).ok().and_then(|r| r.error) {
            return Err(BusError::from_amqp(&rejected));
        }
        loop {
            let delivery = unless_ended(ended, self.receiver.recv::<Body<Value>>()).await??;
            let answer = delivery.into_message();
            let correlation_id = answer.properties.as_ref().and_then(|p| p.correlation_id.as_ref());
            if correlation_id == Some(&request_id) {
                return response(answer);
            }
        }
    }
}

fn response(answer: Message<Body<Value>>) -> Result<Response, BusError> {
    let properties = answer.application_properties.unwrap_or_default().0;
    let number = |names: [&str; 2]| match names.iter().find_map(|name| properties.get(*name)) {
        Some(SimpleValue::Int(number)) => Some(*number),
        Some(SimpleValue::Long(number)) => i32::try_from(*number).ok(),
        Some(SimpleValue::Uint(number)) => i32::try_from(*number).ok(),
        _ => None,
    };
    let text = |names: [&str; 2]| match names.iter().find_map(|name| properties.get(*name)) {
        Some(SimpleValue::String(text)) => Some(text.clone()),
        Some(SimpleValue::Symbol(symbol)) => Some(symbol.0.clone()),
        _ => None,
    };
    // The security node spells its keys with dashes, the management node does not.
    let status = number(["statusCode", "status-code"])
        .ok_or_else(|| BusError::protocol("an answer without a status"))?;
    if !(200..300).contains(&status) {
        let description = text(["statusDescription", "status-description"]).unwrap_or_default();
        let condition = text(["errorCondition", "error-condition"]);
        return Err(BusError::from_status(status, condition.as_deref(), description));
    }
    Ok(match answer.body {
        Body::Value(AmqpValue(Value::Map(map))) => map,
        _ => OrderedMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(properties: &[(&str, SimpleValue)], body: Value) -> Result<Response, BusError> {
        let mut builder = ApplicationProperties::builder();
        for (name, value) in properties {
            builder = builder.insert(*name, value.clone());
        }
        let message = Message::builder().application_properties(builder.build()).value(body);
        response(message.build().map_body(Body::Value))
    }

    #[test]
    fn both_spellings_of_the_status_are_understood() {
        for key in ["statusCode", "status-code"] {
            assert!(answer(&[(key, SimpleValue::Int(202))], Value::Null).unwrap().is_empty());
        }
        let refused = answer(
            &[
                ("status-code", SimpleValue::Int(401)),
                ("status-description", SimpleValue::String("bad signature".into())),
            ],
            Value::Null,
        );
        let Err(BusError::Unauthorized { description }) = refused else { panic!("{refused:?}") };
        assert_eq!(description, "bad signature");
        let lost = answer(
            &[
                ("statusCode", SimpleValue::Int(410)),
                ("errorCondition", SimpleValue::Symbol("com.microsoft:message-lock-lost".into())),
            ],
            Value::Null,
        );
        assert!(matches!(lost, Err(BusError::LockLost)));
        assert!(matches!(answer(&[], Value::Null), Err(BusError::Protocol { .. })));
    }
}
