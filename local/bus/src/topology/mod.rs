//! The declared entities: queues, topics, subscriptions and their rules.
//!
//! Deserialised from the `serviceBus` section of a topology file. Names follow the Service Bus
//! resource manager API in camelCase, durations are ISO 8601. Unknown fields are refused, because
//! a misspelt `maxDeliverycount` that is ignored costs more than an error.

mod access;
mod check;
mod emulator;
mod place;
mod rule;
mod span;

use serde::{Deserialize, Serialize};

pub use access::{AuthorizationRule, Right};
pub use rule::{CorrelationSpec, RuleSpec};
pub use span::Span;

/// Everything one namespace contains.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespace {
    /// Name of the setting under which apps find this namespace; of no meaning to the broker.
    #[serde(default)]
    pub connection: Option<String>,
    /// Topics with their subscriptions.
    #[serde(default)]
    pub topics: Vec<Topic>,
    /// Queues.
    #[serde(default)]
    pub queues: Vec<Queue>,
    /// Keys beside the root one, good for every entity.
    #[serde(default)]
    pub authorization_rules: Vec<AuthorizationRule>,
}

/// A queue. Defaults are those of the service.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Path of the entity, compared case-insensitively.
    pub name: String,
    /// How long a receiver has a message to itself; 1 s to 5 min.
    #[serde(default = "minute")]
    pub lock_duration: Span,
    /// Failed deliveries after which a message is dead-lettered.
    #[serde(default = "ten")]
    pub max_delivery_count: u32,
    /// Upper bound of every message's time to live; absent is unlimited.
    #[serde(default)]
    pub default_message_time_to_live: Option<Span>,
    /// Whether expired messages are dead-lettered rather than dropped.
    #[serde(default)]
    pub dead_lettering_on_message_expiration: bool,
    /// Whether a message-id that was seen within the window is accepted and dropped.
    #[serde(default)]
    pub requires_duplicate_detection: bool,
    /// How long a message-id is remembered.
    #[serde(default = "ten_minutes")]
    pub duplicate_detection_history_time_window: Span,
    /// Quota; a full entity refuses messages.
    #[serde(default = "gibibyte")]
    pub max_size_in_megabytes: u32,
    /// Accepted and reported; nothing here is spread over machines.
    #[serde(default)]
    pub enable_partitioning: bool,
    /// Accepted and reported; what comes together shares one write anyway.
    #[serde(default = "yes")]
    pub enable_batched_operations: bool,
    /// Accepted and reported; a message is on the disk before it is accepted.
    #[serde(default)]
    pub enable_express: bool,
    /// Keys for this entity alone.
    #[serde(default)]
    pub authorization_rules: Vec<AuthorizationRule>,
    /// Whether messages are delivered by session, to one receiver each.
    #[serde(default)]
    pub requires_session: bool,
    /// The queue or topic that arriving messages are moved to.
    #[serde(default)]
    pub forward_to: Option<String>,
    /// The queue or topic that dead-lettered messages are moved to.
    #[serde(default)]
    pub forward_dead_lettered_messages_to: Option<String>,
    /// Without use for this long, the entity goes; absent is never.
    #[serde(default)]
    pub auto_delete_on_idle: Option<Span>,
    /// Whether it takes and hands out messages.
    #[serde(default)]
    pub status: EntityStatus,
    /// Kept for whoever wrote it.
    #[serde(default)]
    pub user_metadata: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topic {
    /// Path of the entity, compared case-insensitively.
    pub name: String,
    /// Whether a message-id that was seen within the window is accepted and dropped.
    #[serde(default)]
    pub requires_duplicate_detection: bool,
    /// How long a message-id is remembered.
    #[serde(default = "ten_minutes")]
    pub duplicate_detection_history_time_window: Span,
    /// Upper bound of every message's time to live; absent is unlimited.
    #[serde(default)]
    pub default_message_time_to_live: Option<Span>,
    /// Quota over all subscriptions; a full topic refuses messages.
    #[serde(default = "gibibyte")]
    pub max_size_in_megabytes: u32,
    /// Without use for this long, the entity goes; absent is never.
    #[serde(default)]
    pub auto_delete_on_idle: Option<Span>,
    /// Whether it takes messages.
    #[serde(default)]
    pub status: EntityStatus,
    /// Accepted and reported; order is kept anyway.
    #[serde(default)]
    pub support_ordering: bool,
    /// Accepted and reported; nothing here is spread over machines.
    #[serde(default)]
    pub enable_partitioning: bool,
    /// Accepted and reported; what comes together shares one write anyway.
    #[serde(default = "yes")]
    pub enable_batched_operations: bool,
    /// Accepted and reported; a message is on the disk before it is accepted.
    #[serde(default)]
    pub enable_express: bool,
    /// Keys for this entity and its subscriptions.
    #[serde(default)]
    pub authorization_rules: Vec<AuthorizationRule>,
    /// Kept for whoever wrote it.
    #[serde(default)]
    pub user_metadata: Option<String>,
    /// Who gets copies.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Name below `<topic>/Subscriptions/`.
    pub name: String,
    /// How long a receiver has a message to itself; 1 s to 5 min.
    #[serde(default = "minute")]
    pub lock_duration: Span,
    /// Failed deliveries after which a message is dead-lettered.
    #[serde(default = "ten")]
    pub max_delivery_count: u32,
    /// Upper bound of every message's time to live; absent is the topic's.
    #[serde(default)]
    pub default_message_time_to_live: Option<Span>,
    /// Whether expired messages are dead-lettered rather than dropped.
    #[serde(default)]
    pub dead_lettering_on_message_expiration: bool,
    /// Whether a message on which a filter fails is dead-lettered rather than not delivered.
    #[serde(default)]
    pub dead_lettering_on_filter_evaluation_exceptions: bool,
    /// Whether messages are delivered by session, to one receiver each.
    #[serde(default)]
    pub requires_session: bool,
    /// The queue or topic that arriving messages are moved to.
    #[serde(default)]
    pub forward_to: Option<String>,
    /// The queue or topic that dead-lettered messages are moved to.
    #[serde(default)]
    pub forward_dead_lettered_messages_to: Option<String>,
    /// Without use for this long, the entity goes; absent is never.
    #[serde(default)]
    pub auto_delete_on_idle: Option<Span>,
    /// Whether it takes and hands out messages.
    #[serde(default)]
    pub status: EntityStatus,
    /// Kept for whoever wrote it.
    #[serde(default)]
    pub user_metadata: Option<String>,
    /// Accepted and reported; what comes together shares one write anyway.
    #[serde(default = "yes")]
    pub enable_batched_operations: bool,
    /// Which messages it gets; none at all means every message, as with `$Default`.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
}

/// What an entity does at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum EntityStatus {
    /// It takes and hands out messages.
    #[default]
    Active,
    /// It does neither.
    Disabled,
    /// It takes none.
    SendDisabled,
    /// It hands none out.
    ReceiveDisabled,
}

impl EntityStatus {
    pub(crate) fn can_send(self) -> bool {
        matches!(self, EntityStatus::Active | EntityStatus::ReceiveDisabled)
    }

    pub(crate) fn can_receive(self) -> bool {
        matches!(self, EntityStatus::Active | EntityStatus::SendDisabled)
    }
}

/// One entity by itself, as it is created or changed while the broker runs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Definition {
    Queue(Queue),
    /// Its subscriptions are definitions of their own.
    Topic(Topic),
    Subscription {
        topic: String,
        subscription: Subscription,
    },
}

impl Definition {
    /// The path in the spelling of whoever declared it.
    pub(crate) fn path(&self) -> String {
        match self {
            Definition::Queue(queue) => queue.name.clone(),
            Definition::Topic(topic) => topic.name.clone(),
            Definition::Subscription { topic, subscription } => {
                format!("{topic}/Subscriptions/{}", subscription.name)
            }
        }
    }
}

/// What is wrong with a namespace, all of it at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Service Bus topology is not usable: {}", problems.join("; "))]
pub struct NamespaceError {
    /// One sentence per problem, each naming the entity.
    pub problems: Vec<String>,
}

impl Queue {
    /// A queue as the service declares one of which only the name is given.
    pub(crate) fn named(name: String) -> Queue {
        Queue {
            name,
            lock_duration: minute(),
            max_delivery_count: ten(),
            default_message_time_to_live: None,
            dead_lettering_on_message_expiration: false,
            requires_duplicate_detection: false,
            duplicate_detection_history_time_window: ten_minutes(),
            max_size_in_megabytes: gibibyte(),
            enable_partitioning: false,
            enable_batched_operations: true,
            enable_express: false,
            authorization_rules: Vec::new(),
            requires_session: false,
            forward_to: None,
            forward_dead_lettered_messages_to: None,
            auto_delete_on_idle: None,
            status: EntityStatus::Active,
            user_metadata: None,
        }
    }
}

impl Topic {
    /// A topic as the service declares one of which only the name is given.
    pub(crate) fn named(name: String) -> Topic {
        Topic {
            name,
            requires_duplicate_detection: false,
            duplicate_detection_history_time_window: ten_minutes(),
            default_message_time_to_live: None,
            max_size_in_megabytes: gibibyte(),
            auto_delete_on_idle: None,
            status: EntityStatus::Active,
            support_ordering: false,
            enable_partitioning: false,
            enable_batched_operations: true,
            enable_express: false,
            authorization_rules: Vec::new(),
            user_metadata: None,
            subscriptions: Vec::new(),
        }
    }
}

impl Subscription {
    /// A subscription as the service declares one of which only the name is given.
    pub(crate) fn named(name: String) -> Subscription {
        Subscription {
            name,
            lock_duration: minute(),
            max_delivery_count: ten(),
            default_message_time_to_live: None,
            dead_lettering_on_message_expiration: false,
            dead_lettering_on_filter_evaluation_exceptions: false,
            requires_session: false,
            forward_to: None,
            forward_dead_lettered_messages_to: None,
            auto_delete_on_idle: None,
            status: EntityStatus::Active,
            user_metadata: None,
            enable_batched_operations: true,
            rules: Vec::new(),
        }
    }
}

fn minute() -> Span {
    Span::from_millis(60_000)
}

fn ten_minutes() -> Span {
    Span::from_millis(600_000)
}

fn ten() -> u32 {
    10
}

fn yes() -> bool {
    true
}

fn gibibyte() -> u32 {
    1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(json: &str) -> Namespace {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn defaults_are_the_services() {
        let namespace = namespace(
            r#"{"connection": "Bus", "queues": [{"name": "q"}],
                "topics": [{"name": "t", "subscriptions": [{"name": "s"}]}]}"#,
        );
        namespace.validate().unwrap();
        let queue = &namespace.queues[0];
        assert_eq!(queue.lock_duration.as_millis(), 60_000);
        assert_eq!((queue.max_delivery_count, queue.max_size_in_megabytes), (10, 1_024));
        assert!(namespace.topics[0].subscriptions[0].rules.is_empty());
    }

    #[test]
    fn every_problem_is_named() {
        let error = namespace(
            r#"{"queues": [{"name": "q", "lockDuration": "PT0.5S"},
                           {"name": "Q", "maxDeliveryCount": 0}],
                "topics": [{"name": "-t", "subscriptions": [{"name": "s", "rules": [
                    {"name": "r", "sqlExpression": "a = "}, {"name": "R", "action": "x"},
                    {"name": "c", "correlationFilter": {}}]}]}]}"#,
        )
        .validate()
        .unwrap_err();
        assert_eq!(
            error.problems,
            [
                "queue `q`: lockDuration is between PT1S and PT5M",
                "queue `Q`: there is another entity with this path",
                "queue `Q`: maxDeliveryCount is between 1 and 2000",
                "topic `-t`: a name has letters, digits and `_ - . /`, and starts and ends with a \
                 letter or digit",
                "subscription `-t/Subscriptions/s`, rule `r`: sqlExpression, character 5: expected \
                 an expression, found the end",
                "subscription `-t/Subscriptions/s`: rule name `R` is empty or not unique",
                "subscription `-t/Subscriptions/s`, rule `R`: action, character 1: expected SET or \
                 REMOVE, found `x`",
                "subscription `-t/Subscriptions/s`, rule `c`: a correlationFilter has at least one \
                 field",
            ]
        );
    }

    #[test]
    fn unknown_fields_and_bad_durations_are_refused() {
        let refuse = |json: &str| serde_json::from_str::<Namespace>(json).unwrap_err().to_string();
        assert!(
            refuse(r#"{"queues": [{"name": "q", "lockduration": "PT1M"}]}"#)
                .contains("unknown field `lockduration`")
        );
        assert!(
            refuse(r#"{"queues": [{"name": "q", "lockDuration": "1 minute"}]}"#)
                .contains("ISO 8601")
        );
    }
}
