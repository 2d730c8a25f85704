//! The management node of an entity: everything that goes by sequence number or lock token.
//!
//! Settling by lock token works for messages that another process received, which is how a
//! function dead-letters a message that the Functions host holds. Operations:
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>.

use std::{fmt, sync::Arc};

use fe2o3_amqp::link::ErrorRecovery;
use fe2o3_amqp_types::{
    messaging::ApplicationProperties,
    primitives::{Array, Binary, OrderedMap, SimpleValue, Value},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    client::BusClient,
    connection::Connection,
    error::BusError,
    message::{Message, Received, dead_letter_text, decode, encode, instant},
    request::{RequestLink, Response},
    slot::{Attach, Slot},
};

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Done: removed.
    Completed,
    /// Not done: delivered again, and counted.
    Abandoned,
    /// Put aside: only its sequence number leads to it from now on.
    Deferred,
    /// Given up on: moved to the dead-letter queue.
    DeadLettered {
        /// Short and machine-readable, e.g. `Poison`.
        reason: String,
        /// For people.
        description: String,
    },
}

/// The management node of one queue, topic or subscription. Cheap to clone.
#[derive(Clone)]
pub struct Management {
    client: BusClient,
    entity: Arc<str>,
    slot: Arc<Slot<ManagementLink>>,
}

/// The links that all handles to one entity share.
pub(crate) struct ManagementLink(RequestLink);

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl Management {
    pub(crate) fn new(client: BusClient, entity: &str, slot: Arc<Slot<ManagementLink>>) -> Self {
        Self { client, entity: entity.into(), slot }
    }

    /// Sends messages that become visible at their [`Message::scheduled_enqueue_time`]. Returns
    /// their sequence numbers, in order, by which they can be cancelled.
    ///
    /// # Errors
    ///
    /// [`BusError::Protocol`] when a message has no time, and any other [`BusError`].
    pub async fn schedule(&self, messages: &[Message]) -> Result<Vec<i64>, BusError> {
        let mut entries = Vec::with_capacity(messages.len());
        for message in messages {
            if message.scheduled_enqueue_time.is_none() {
                return Err(BusError::protocol("a scheduled message needs a time"));
            }
            let mut entry = vec![("message", Value::Binary(Binary::from(encode(message)?)))];
            if let Some(id) = &message.message_id {
                entry.push(("message-id", Value::String(id.clone())));
            }
            entries.push(map(entry));
        }
        let body = map(vec![("messages", Value::List(entries))]);
        let answer = self.call("com.microsoft:schedule-message", body).await?;
        let numbers = longs(answer.get(&key("sequence-numbers")));
        if numbers.len() == messages.len() {
            Ok(numbers)
        } else {
            Err(BusError::protocol("not every scheduled message got a sequence number"))
        }
    }

    /// Cancels scheduled messages.
    ///
    /// # Errors
    ///
    /// [`BusError::MessageNotFound`] when one is not there or visible already, and any other
    /// [`BusError`].
    pub async fn cancel(&self, sequence_numbers: &[i64]) -> Result<(), BusError> {
        let numbers = sequence_numbers.iter().copied().map(Value::Long).collect();
        let body = map(vec![("sequence-numbers", Value::Array(Array(numbers)))]);
        self.call("com.microsoft:cancel-scheduled-message", body).await.map(drop)
    }

    /// Shows up to `count` messages from a sequence number on, without locking them. Includes
    /// deferred and scheduled ones.
    ///
    /// # Errors
    ///
    /// Any [`BusError`].
    pub async fn peek(
        &self,
        from_sequence_number: i64,
        count: u32,
    ) -> Result<Vec<Received>, BusError> {
        self.show(from_sequence_number, count, false).await
    }

    /// As [`Self::peek`], asking the broker to leave the bodies out: for counting and grouping
    /// many messages. A broker that does not know the wish sends them all the same.
    ///
    /// # Errors
    ///
    /// Any [`BusError`].
    pub async fn peek_without_body(
        &self,
        from_sequence_number: i64,
        count: u32,
    ) -> Result<Vec<Received>, BusError> {
        self.show(from_sequence_number, count, true).await
    }

    async fn show(
        &self,
        from_sequence_number: i64,
        count: u32,
        without_body: bool,
    ) -> Result<Vec<Received>, BusError> {
        let mut entries = vec![
            ("from-sequence-number", Value::Long(from_sequence_number)),
            ("message-count", Value::Int(i32::try_from(count).unwrap_or(i32::MAX))),
        ];
        if without_body {
            entries.push(("omit-message-body", Value::Bool(true)));
        }
        let body = map(entries);
        let answer = match self.call("com.microsoft:peek-message", body).await {
            Ok(answer) => answer,
            // The end of the entity is told by 204 or by this, depending on the broker.
            Err(BusError::MessageNotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let Some(Value::List(entries)) = answer.get(&key("messages")) else {
            return Ok(Vec::new());
        };
        entries
            .iter()
            .map(|entry| match entry {
                Value::Map(entry) => match entry.get(&key("message")) {
                    Some(Value::Binary(bytes)) => decode(bytes),
                    _ => Err(BusError::protocol("a peeked message without its bytes")),
                },
                _ => Err(BusError::protocol("a peeked message that is not a map")),
            })
            .collect()
    }

    /// Takes deferred messages under a lock, by their sequence numbers. They stay deferred until
    /// they are settled.
    ///
    /// # Errors
    ///
    /// [`BusError::MessageNotFound`] when one is not there, not deferred or locked, and any other
    /// [`BusError`].
    pub async fn receive_deferred(
        &self,
        sequence_numbers: &[i64],
    ) -> Result<Vec<Received>, BusError> {
        /// The receiver settles second, that is, under a lock.
        const PEEK_LOCK: u32 = 1;
        let numbers = sequence_numbers.iter().copied().map(Value::Long).collect();
        let body = map(vec![
            ("sequence-numbers", Value::Array(Array(numbers))),
            ("receiver-settle-mode", Value::Uint(PEEK_LOCK)),
        ]);
        let answer = self.call("com.microsoft:receive-by-sequence-number", body).await?;
        let entries = list(answer.get(&key("messages"))).iter();
        entries
            .map(|entry| {
                let Value::Map(entry) = entry else {
                    return Err(BusError::protocol("a deferred message that is not a map"));
                };
                match (entry.get(&key("message")), entry.get(&key("lock-token"))) {
                    (Some(Value::Binary(bytes)), Some(Value::Uuid(token))) => {
                        let lock_token = Some(Uuid::from_bytes(*token.as_inner()));
                        Ok(Received { lock_token, ..decode(bytes)? })
                    }
                    _ => Err(BusError::protocol("a deferred message without bytes or lock")),
                }
            })
            .collect()
    }

    /// Settles messages that somebody received, by their lock tokens.
    ///
    /// # Errors
    ///
    /// [`BusError::LockLost`] when one of the locks is over, and any other [`BusError`].
    pub async fn update_disposition(
        &self,
        lock_tokens: &[Uuid],
        disposition: &Disposition,
    ) -> Result<(), BusError> {
        let status = match disposition {
            Disposition::Completed => "completed",
            Disposition::Abandoned => "abandoned",
            Disposition::Deferred => "defered",
            Disposition::DeadLettered { .. } => "suspended",
        };
        let mut body = vec![
            ("disposition-status", Value::String(status.to_owned())),
            ("lock-tokens", uuids(lock_tokens)),
        ];
        if let Disposition::DeadLettered { reason, description } = disposition {
            body.push(("deadletter-reason", Value::String(dead_letter_text(reason))));
            body.push(("deadletter-description", Value::String(dead_letter_text(description))));
        }
        self.call("com.microsoft:update-disposition", map(body)).await.map(drop)
    }

    /// Extends the locks of messages by the entity's lock duration. Returns when they end now, in
    /// order.
    ///
    /// # Errors
    ///
    /// [`BusError::LockLost`] when one of the locks is over, and any other [`BusError`].
    pub async fn renew_lock(&self, lock_tokens: &[Uuid]) -> Result<Vec<OffsetDateTime>, BusError> {
        let body = map(vec![("lock-tokens", uuids(lock_tokens))]);
        let answer = self.call("com.microsoft:renew-lock", body).await?;
        let ends = list(answer.get(&key("expirations")));
        Ok(ends
            .iter()
            .filter_map(|end| match end {
                Value::Timestamp(at) => instant(at.milliseconds()),
                _ => None,
            })
            .collect())
    }

    async fn call(&self, operation: &str, body: Value) -> Result<Response, BusError> {
        self.client.run(|| self.call_once(operation, body.clone())).await
    }

    async fn call_once(&self, operation: &str, body: Value) -> Result<Response, BusError> {
        let mut slot = self.slot.lock().await;
        let link = slot.link(&self.client, &self.entity).await?;
        let timeout_millis = self.client.options().deadline.as_millis();
        let timeout_millis = u32::try_from(timeout_millis).unwrap_or(u32::MAX);
        let properties = ApplicationProperties::builder()
            .insert("operation", operation)
            .insert("com.microsoft:server-timeout", SimpleValue::Uint(timeout_millis))
            .build();
        let result = link.0.call(properties, body).await;
        if result.as_ref().is_err_and(BusError::deserves_another_link) {
            slot.give_up(ErrorRecovery::NewLink);
        }
        result
    }
}

impl Attach for ManagementLink {
    async fn attach(connection: &Connection, entity: &str) -> Result<Self, BusError> {
        let session = connection.session().await?;
        let node = format!("{entity}/$management");
        RequestLink::attach(session, &node, connection.tasks()).await.map(Self)
    }

    fn is_alive(&self) -> bool {
        self.0.is_alive()
    }
}

fn key(name: &str) -> Value {
    Value::String(name.to_owned())
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    let mut map = OrderedMap::new();
    for (name, value) in entries {
        map.insert(key(name), value);
    }
    Value::Map(map)
}

fn uuids(tokens: &[Uuid]) -> Value {
    Value::Array(Array(
        tokens.iter().map(|token| Value::Uuid((*token.as_bytes()).into())).collect(),
    ))
}

/// Brokers answer with arrays, but a list is as clear.
fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(array)) => &array.0,
        Some(Value::List(list)) => list,
        _ => &[],
    }
}

fn longs(value: Option<&Value>) -> Vec<i64> {
    list(value)
        .iter()
        .filter_map(|value| match value {
            Value::Long(number) => Some(*number),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_encoded_with_the_widths_that_brokers_insist_on() {
        // array8, 18 bytes, 2 elements of 8-byte longs (0x81).
        let numbers = Value::Array(Array(vec![Value::Long(1), Value::Long(2)]));
        assert_eq!(
            serde_amqp::to_vec(&numbers).unwrap(),
            [0xe0, 18, 2, 0x81, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
        );
        // array8, 18 bytes, 1 element of uuid (0x98), in the byte order of AMQP.
        let token = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let encoded = serde_amqp::to_vec(&uuids(&[token])).unwrap();
        assert_eq!(encoded[..4], [0xe0, 18, 1, 0x98]);
        assert_eq!(encoded[4..], *token.as_bytes());
    }

    #[test]
    fn answers_are_read_from_arrays_and_lists() {
        let values = vec![Value::Long(7), Value::Long(8)];
        assert_eq!(longs(Some(&Value::Array(Array(values.clone())))), [7, 8]);
        assert_eq!(longs(Some(&Value::List(values))), [7, 8]);
        assert_eq!(longs(None), Vec::<i64>::new());
    }
}
