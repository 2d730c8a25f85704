//! The declared entities: queues, topics, subscriptions and their rules.
//!
//! Deserialised from the `serviceBus` section of a topology file. Names follow the Service Bus
//! resource manager API in camelCase, durations are ISO 8601. Unknown fields are refused, because
//! a misspelt `maxDeliverycount` that is ignored costs more than an error.

mod span;

use std::collections::HashSet;

use serde::Deserialize;

pub use span::Span;

use crate::broker::{Rule, Timestamp};
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};
use crate::limits::{
    DELIVERY_COUNT_MAX, DUPLICATE_WINDOW_MAX_MS, ENTITY_NAME_CHARS_MAX, LOCK_DURATION_MAX_MS,
    LOCK_DURATION_MIN_MS,
};

/// Everything one namespace contains.
#[derive(Debug, Clone, Default, Deserialize)]
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
}

/// A queue. Defaults are those of the service.
#[derive(Debug, Clone, Deserialize)]
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
    /// Must be false: sessions are not implemented.
    #[serde(default)]
    pub requires_session: bool,
}

/// A topic.
#[derive(Debug, Clone, Deserialize)]
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
    /// Who gets copies.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// A subscription.
#[derive(Debug, Clone, Deserialize)]
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
    /// Must be false: sessions are not implemented.
    #[serde(default)]
    pub requires_session: bool,
    /// Which messages it gets; none at all means every message, as with `$Default`.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
}

/// A rule: a SQL filter, a correlation filter, or neither for every message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// Unique within the subscription.
    pub name: String,
    /// A condition in the Service Bus filter language.
    #[serde(default)]
    pub sql_expression: Option<String>,
    /// Fields that must be equal.
    #[serde(default)]
    pub correlation_filter: Option<CorrelationSpec>,
    /// What to change in the copy: `SET …; REMOVE …`.
    #[serde(default)]
    pub action: Option<String>,
}

/// The fields of a correlation filter; those given must all be equal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the message property of the same name")]
pub struct CorrelationSpec {
    pub correlation_id: Option<String>,
    pub message_id: Option<String>,
    pub to: Option<String>,
    pub reply_to: Option<String>,
    pub label: Option<String>,
    pub session_id: Option<String>,
    pub reply_to_session_id: Option<String>,
    pub content_type: Option<String>,
    pub properties: serde_json::Map<String, serde_json::Value>,
}

/// What is wrong with a namespace, all of it at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Service Bus topology is not usable: {}", problems.join("; "))]
pub struct NamespaceError {
    /// One sentence per problem, each naming the entity.
    pub problems: Vec<String>,
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

fn gibibyte() -> u32 {
    1_024
}

impl Namespace {
    /// Checks names, ranges and filters.
    ///
    /// # Errors
    /// Every problem there is; a filter's with the position of the mistake.
    pub fn validate(&self) -> Result<(), NamespaceError> {
        let mut check = Check::default();
        for queue in &self.queues {
            let what = format!("queue `{}`", queue.name);
            check.name(&what, &queue.name, &queue.name);
            check.receiving(&what, queue.lock_duration, queue.max_delivery_count);
            check.session(&what, queue.requires_session);
            check.window(
                &what,
                queue.requires_duplicate_detection,
                queue.duplicate_detection_history_time_window,
            );
            check.limits(&what, queue.default_message_time_to_live, queue.max_size_in_megabytes);
        }
        for topic in &self.topics {
            let what = format!("topic `{}`", topic.name);
            check.name(&what, &topic.name, &topic.name);
            check.window(
                &what,
                topic.requires_duplicate_detection,
                topic.duplicate_detection_history_time_window,
            );
            check.limits(&what, topic.default_message_time_to_live, topic.max_size_in_megabytes);
            for subscription in &topic.subscriptions {
                let path = format!("{}/Subscriptions/{}", topic.name, subscription.name);
                check.subscription(&path, subscription);
            }
        }
        if check.problems.is_empty() {
            Ok(())
        } else {
            Err(NamespaceError { problems: check.problems })
        }
    }
}

/// Collects problems.
#[derive(Default)]
struct Check {
    problems: Vec<String>,
    paths: HashSet<String>,
}

impl Check {
    fn problem(&mut self, what: &str, problem: impl std::fmt::Display) {
        self.problems.push(format!("{what}: {problem}"));
    }

    fn name(&mut self, what: &str, name: &str, path: &str) {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !name.chars().all(inside) || !end(name.chars().next()) || !end(name.chars().last()) {
            self.problem(
                what,
                "a name has letters, digits and `_ - . /`, and starts and ends with a letter or digit",
            );
        }
        if path.chars().count() > ENTITY_NAME_CHARS_MAX {
            self.problem(what, format!("the path exceeds {ENTITY_NAME_CHARS_MAX} characters"));
        }
        if !self.paths.insert(path.to_lowercase()) {
            self.problem(what, "there is another entity with this path");
        }
    }

    fn receiving(&mut self, what: &str, lock: Span, max_delivery_count: u32) {
        if !(LOCK_DURATION_MIN_MS..=LOCK_DURATION_MAX_MS).contains(&lock.as_millis()) {
            self.problem(what, "lockDuration is between PT1S and PT5M");
        }
        if !(1..=DELIVERY_COUNT_MAX).contains(&max_delivery_count) {
            self.problem(what, format!("maxDeliveryCount is between 1 and {DELIVERY_COUNT_MAX}"));
        }
    }

    fn session(&mut self, what: &str, requires_session: bool) {
        if requires_session {
            self.problem(what, "requiresSession is not supported");
        }
    }

    fn window(&mut self, what: &str, used: bool, window: Span) {
        if used && !(1..=DUPLICATE_WINDOW_MAX_MS).contains(&window.as_millis()) {
            self.problem(what, "duplicateDetectionHistoryTimeWindow is above zero and at most P7D");
        }
    }

    fn limits(&mut self, what: &str, ttl: Option<Span>, megabytes: u32) {
        if ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            self.problem(what, "defaultMessageTimeToLive is above zero");
        }
        if megabytes == 0 {
            self.problem(what, "maxSizeInMegabytes is at least 1");
        }
    }

    fn subscription(&mut self, path: &str, subscription: &Subscription) {
        let what = format!("subscription `{path}`");
        self.name(&what, &subscription.name, path);
        self.receiving(&what, subscription.lock_duration, subscription.max_delivery_count);
        self.session(&what, subscription.requires_session);
        self.limits(&what, subscription.default_message_time_to_live, 1);
        let mut names = HashSet::new();
        for rule in &subscription.rules {
            if rule.name.is_empty() || !names.insert(rule.name.to_lowercase()) {
                self.problem(&what, format!("rule name `{}` is empty or not unique", rule.name));
            }
            if let Err(problem) = rule.compile() {
                self.problem(&format!("{what}, rule `{}`", rule.name), problem);
            }
        }
    }
}

impl RuleSpec {
    /// The rule as the broker evaluates it.
    pub(crate) fn compile(&self) -> Result<Rule, String> {
        let filter = match (&self.sql_expression, &self.correlation_filter) {
            (Some(_), Some(_)) => {
                return Err("a rule has a sqlExpression or a correlationFilter, not both".into());
            }
            (Some(sql), None) => Filter::Sql(
                SqlFilter::parse(sql).map_err(|error| format!("sqlExpression, {error}"))?,
            ),
            (None, Some(spec)) => Filter::Correlation(spec.compile()?),
            (None, None) => Filter::True,
        };
        let action = self.action.as_deref().map(Action::parse).transpose();
        Ok(Rule {
            name: self.name.clone(),
            filter,
            action: action.map_err(|error| format!("action, {error}"))?,
            created_at: Timestamp::from_millis(0),
        })
    }
}

impl CorrelationSpec {
    fn compile(&self) -> Result<Correlation, String> {
        let fields = [
            ("CorrelationId", &self.correlation_id),
            ("MessageId", &self.message_id),
            ("To", &self.to),
            ("ReplyTo", &self.reply_to),
            ("Label", &self.label),
            ("SessionId", &self.session_id),
            ("ReplyToSessionId", &self.reply_to_session_id),
            ("ContentType", &self.content_type),
        ];
        let system = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect::<Vec<_>>();
        let mut user = Vec::new();
        for (name, value) in &self.properties {
            let value = match value {
                serde_json::Value::Bool(v) => Scalar::Bool(*v),
                serde_json::Value::String(v) => Scalar::Text(v.clone().into()),
                serde_json::Value::Number(v) => match (v.as_i64(), v.as_f64()) {
                    (Some(v), _) => Scalar::Int(v),
                    (None, Some(v)) => Scalar::Float(v),
                    (None, None) => return Err(format!("property `{name}`: number out of range")),
                },
                _ => return Err(format!("property `{name}` is a string, a number or a boolean")),
            };
            user.push((name.clone(), value));
        }
        if system.is_empty() && user.is_empty() {
            return Err("a correlationFilter has at least one field".into());
        }
        Ok(Correlation { system, user })
    }
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
            r#"{"queues": [{"name": "q", "lockDuration": "PT0.5S", "requiresSession": true},
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
                "queue `q`: requiresSession is not supported",
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
