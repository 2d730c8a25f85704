//! The official emulator's `Config.json`, read as a topology.
//!
//! Members and defaults are those of
//! <https://learn.microsoft.com/azure/service-bus-messaging/test-locally-with-service-bus-emulator>.
//! Comments are allowed, because the file that is shipped with the emulator has some.

use serde::Deserialize;
use serde_json::Value;

use super::place::read;
use super::{
    CorrelationSpec, Namespace, NamespaceError, Queue, RuleSpec, Span, Subscription, Topic,
};

/// Time to live of every entity that names none.
const TTL_MS: i64 = 3_600_000;
/// Duplicate detection window of every entity that names none.
const WINDOW_MS: i64 = 20_000;
/// Lock duration of every entity that names none.
const LOCK_MS: i64 = 60_000;
/// Failed deliveries before a message is dead-lettered.
const DELIVERY_COUNT: u32 = 3;
/// Quota of every entity.
const MEGABYTES: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Config {
    /// Where editors find what may stand in the file.
    #[serde(default, rename = "$schema")]
    #[allow(dead_code, reason = "accepted and of no meaning here")]
    schema: Option<Value>,
    user_config: UserConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct UserConfig {
    namespaces: Vec<EmulatorNamespace>,
    /// Where the emulator logs; ours logs as its command line says.
    #[serde(default)]
    #[allow(dead_code, reason = "accepted and of no meaning here")]
    logging: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EmulatorNamespace {
    /// Clients do not name it.
    #[serde(default)]
    #[allow(dead_code, reason = "accepted and of no meaning here")]
    name: Option<String>,
    #[serde(default)]
    queues: Vec<Named<QueueProperties>>,
    #[serde(default)]
    topics: Vec<EmulatorTopic>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, bound = "P: Deserialize<'de> + Default")]
struct Named<P> {
    name: String,
    #[serde(default)]
    properties: P,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct QueueProperties {
    dead_lettering_on_message_expiration: bool,
    default_message_time_to_live: Option<Span>,
    duplicate_detection_history_time_window: Option<Span>,
    forward_dead_lettered_messages_to: Option<String>,
    forward_to: Option<String>,
    lock_duration: Option<Span>,
    max_delivery_count: Option<u32>,
    requires_duplicate_detection: bool,
    requires_session: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EmulatorTopic {
    name: String,
    #[serde(default)]
    properties: TopicProperties,
    #[serde(default)]
    subscriptions: Vec<EmulatorSubscription>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct TopicProperties {
    default_message_time_to_live: Option<Span>,
    duplicate_detection_history_time_window: Option<Span>,
    requires_duplicate_detection: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EmulatorSubscription {
    name: String,
    #[serde(default)]
    properties: QueueProperties,
    #[serde(default)]
    rules: Vec<Named<RuleProperties>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct RuleProperties {
    filter_type: Option<String>,
    sql_filter: Option<SqlExpression>,
    correlation_filter: Option<CorrelationProperties>,
    action: Option<SqlExpression>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SqlExpression {
    sql_expression: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct CorrelationProperties {
    content_type: Option<String>,
    correlation_id: Option<String>,
    label: Option<String>,
    message_id: Option<String>,
    reply_to: Option<String>,
    reply_to_session_id: Option<String>,
    session_id: Option<String>,
    to: Option<String>,
    properties: serde_json::Map<String, Value>,
}

impl Namespace {
    /// Reads a topology file: one with a section `serviceBus`, or the official emulator's
    /// `Config.json`.
    ///
    /// # Errors
    /// The text is neither, or has members that mean nothing here.
    pub fn from_file_text(text: &str) -> Result<Namespace, NamespaceError> {
        let problem = |problem: String| NamespaceError { problems: vec![problem] };
        // Editors on Windows put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let json: Value = serde_json::from_str(&without_comments(text))
            .map_err(|error| problem(error.to_string()))?;
        if json.get("UserConfig").is_some() {
            return read::<Config>(json, "")?.namespace().map_err(problem);
        }
        let section = json.get("serviceBus").cloned();
        let section = section.ok_or_else(|| {
            problem("there is neither a section `serviceBus` nor a `UserConfig`".into())
        })?;
        read(section, "serviceBus")
    }
}

impl Config {
    fn namespace(self) -> Result<Namespace, String> {
        let mut namespaces = self.user_config.namespaces;
        let Some(only) = namespaces.pop().filter(|_| namespaces.is_empty()) else {
            return Err("`UserConfig.Namespaces` has exactly one namespace".into());
        };
        let topics = only.topics.into_iter().map(topic).collect::<Result<_, _>>()?;
        let queues = only.queues.into_iter().map(queue).collect();
        Ok(Namespace { topics, queues, ..Namespace::default() })
    }
}

fn span(given: Option<Span>, ms: i64) -> Span {
    given.unwrap_or(Span::from_millis(ms))
}

/// The emulator writes "to nowhere" as an empty text.
fn target(given: Option<String>) -> Option<String> {
    given.filter(|target| !target.is_empty())
}

fn queue(named: Named<QueueProperties>) -> Queue {
    let given = named.properties;
    Queue {
        lock_duration: span(given.lock_duration, LOCK_MS),
        max_delivery_count: given.max_delivery_count.unwrap_or(DELIVERY_COUNT),
        default_message_time_to_live: Some(span(given.default_message_time_to_live, TTL_MS)),
        dead_lettering_on_message_expiration: given.dead_lettering_on_message_expiration,
        requires_duplicate_detection: given.requires_duplicate_detection,
        duplicate_detection_history_time_window: span(
            given.duplicate_detection_history_time_window,
            WINDOW_MS,
        ),
        max_size_in_megabytes: MEGABYTES,
        requires_session: given.requires_session,
        forward_to: target(given.forward_to),
        forward_dead_lettered_messages_to: target(given.forward_dead_lettered_messages_to),
        ..Queue::named(named.name)
    }
}

fn topic(given: EmulatorTopic) -> Result<Topic, String> {
    let properties = given.properties;
    let subscriptions = given.subscriptions.into_iter().map(|one| subscription(&given.name, one));
    let subscriptions = subscriptions.collect::<Result<_, _>>()?;
    Ok(Topic {
        requires_duplicate_detection: properties.requires_duplicate_detection,
        duplicate_detection_history_time_window: span(
            properties.duplicate_detection_history_time_window,
            WINDOW_MS,
        ),
        default_message_time_to_live: Some(span(properties.default_message_time_to_live, TTL_MS)),
        max_size_in_megabytes: MEGABYTES,
        subscriptions,
        ..Topic::named(given.name)
    })
}

fn subscription(topic: &str, given: EmulatorSubscription) -> Result<Subscription, String> {
    let properties = given.properties;
    let path = format!("{topic}/Subscriptions/{}", given.name);
    let rules = given.rules.into_iter();
    let rules = rules.map(|named| rule(named).map_err(|p| format!("subscription `{path}`, {p}")));
    Ok(Subscription {
        lock_duration: span(properties.lock_duration, LOCK_MS),
        max_delivery_count: properties.max_delivery_count.unwrap_or(DELIVERY_COUNT),
        default_message_time_to_live: Some(span(properties.default_message_time_to_live, TTL_MS)),
        dead_lettering_on_message_expiration: properties.dead_lettering_on_message_expiration,
        requires_session: properties.requires_session,
        forward_to: target(properties.forward_to),
        forward_dead_lettered_messages_to: target(properties.forward_dead_lettered_messages_to),
        rules: rules.collect::<Result<_, _>>()?,
        ..Subscription::named(given.name.clone())
    })
}

fn rule(named: Named<RuleProperties>) -> Result<RuleSpec, String> {
    let given = named.properties;
    let sql = given.sql_filter.and_then(|filter| filter.sql_expression);
    let correlation = given.correlation_filter.map(|fields| CorrelationSpec {
        correlation_id: fields.correlation_id,
        message_id: fields.message_id,
        to: fields.to,
        reply_to: fields.reply_to,
        label: fields.label,
        session_id: fields.session_id,
        reply_to_session_id: fields.reply_to_session_id,
        content_type: fields.content_type,
        properties: fields.properties,
    });
    let missing =
        |what: &str| format!("rule `{}`: the {what} of its FilterType is missing", named.name);
    // The member that the type does not name is left alone, as the emulator does.
    let (sql_expression, correlation_filter) = match given.filter_type.as_deref() {
        Some(kind) if kind.eq_ignore_ascii_case("sql") => {
            (Some(sql.ok_or_else(|| missing("SqlFilter"))?), None)
        }
        Some(kind) if kind.eq_ignore_ascii_case("correlation") => {
            (None, Some(correlation.ok_or_else(|| missing("CorrelationFilter"))?))
        }
        None => (sql, correlation),
        Some(kind) => return Err(format!("rule `{}`: unknown FilterType `{kind}`", named.name)),
    };
    let action = given.action.and_then(|action| action.sql_expression);
    Ok(RuleSpec { name: named.name, sql_expression, correlation_filter, action })
}

/// The text with `//` and `/* */` comments blanked out, line breaks kept so that errors still
/// point at the right line. Texts in quotes are left alone.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(_)) if quoted => {
                out.push(c);
                out.extend(chars.next());
            }
            ('"', _) => {
                quoted = !quoted;
                out.push(c);
            }
            ('/', Some('/')) if !quoted => while chars.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) if !quoted => {
                chars.next();
                let mut last = ' ';
                for c in chars.by_ref() {
                    if (last, c) == ('*', '/') {
                        break;
                    }
                    if c == '\n' {
                        out.push(c);
                    }
                    last = c;
                }
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
      "UserConfig": { // the emulator's own sample has comments
        "Namespaces": [{
          "Name": "sbemulatorns",
          "Queues": [{
            "Name": "queue.1",
            "Properties": {
              "DeadLetteringOnMessageExpiration": false, "DefaultMessageTimeToLive": "PT1H",
              "DuplicateDetectionHistoryTimeWindow": "PT20S",
              "ForwardDeadLetteredMessagesTo": "", "ForwardTo": "", "LockDuration": "PT1M",
              "MaxDeliveryCount": 3, "RequiresDuplicateDetection": false, "RequiresSession": false
            }
          }],
          "Topics": [{
            "Name": "topic.1",
            "Properties": { "RequiresDuplicateDetection": true },
            "Subscriptions": [
              { "Name": "subscription.1", "Properties": { "RequiresSession": true }, "Rules": [
                { "Name": "app-prop-filter-1", "Properties": {
                  "FilterType": "Correlation",
                  "CorrelationFilter": {
                    "ContentType": "application/text", "Label": "a // b",
                    "Properties": { "prop1": "value1" } } } }] },
              { "Name": "subscription.2", "Rules": [
                { "Name": "sql", "Properties": { "FilterType": "Sql",
                  "SqlFilter": { "SqlExpression": "sys.MessageId = '1'" },
                  "Action": { "SqlExpression": "SET sys.To = 'Entity'" } } }] }
            ]
          }]
        }],
        /* where it
           logs */
        "Logging": { "Type": "File" }
      }
    }"#;

    #[test]
    fn a_config_of_the_emulator_is_a_topology() {
        let namespace = Namespace::from_file_text(CONFIG).unwrap();
        namespace.validate().unwrap();
        let queue = &namespace.queues[0];
        assert_eq!((queue.name.as_str(), queue.max_delivery_count), ("queue.1", 3));
        assert_eq!((&queue.forward_to, queue.lock_duration.as_millis()), (&None, 60_000));
        let topic = &namespace.topics[0];
        assert!(topic.requires_duplicate_detection);
        assert_eq!(topic.duplicate_detection_history_time_window.as_millis(), 20_000);
        let [first, second] = &topic.subscriptions[..] else { panic!("two subscriptions") };
        assert!(first.requires_session && !second.requires_session);
        let filter = first.rules[0].correlation_filter.as_ref().unwrap();
        assert_eq!(filter.label.as_deref(), Some("a // b"));
        assert_eq!(filter.properties["prop1"], "value1");
        assert_eq!(second.rules[0].action.as_deref(), Some("SET sys.To = 'Entity'"));
        assert_eq!(second.max_delivery_count, 3);
    }

    #[test]
    fn what_editors_add_is_passed_over() {
        let text = "\u{feff}{\"$schema\": \"Config-schema.json\", // one\n\
                    \"UserConfig\": {\"Namespaces\": [{\"Queues\": [{\"Name\": \"q\"}]}]}}";
        assert_eq!(Namespace::from_file_text(text).unwrap().queues[0].name, "q");
    }

    #[test]
    fn a_rule_has_the_filter_that_its_type_names() {
        for (kind, other) in [("Sql", "CorrelationFilter"), ("Correlation", "SqlFilter")] {
            let rule = format!(
                r#"{{"Name": "r", "Properties": {{"FilterType": "{kind}", "{other}": {{}}}}}}"#
            );
            let text = format!(
                r#"{{"UserConfig": {{"Namespaces": [{{"Topics": [{{"Name": "t", "Subscriptions": [
                    {{"Name": "s", "Rules": [{rule}]}}]}}]}}]}}}}"#
            )
            .replace(r#""SqlFilter": {}"#, r#""SqlFilter": {"SqlExpression": "1 = 1"}"#);
            let said = Namespace::from_file_text(&text).unwrap_err().problems.remove(0);
            let expected = format!(
                "subscription `t/Subscriptions/s`, rule `r`: the {kind}Filter of its FilterType is \
                 missing"
            );
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn what_is_neither_format_is_refused() {
        let refuse = |text: &str| Namespace::from_file_text(text).unwrap_err().problems.remove(0);
        assert!(refuse("{}").contains("neither a section"));
        assert!(refuse(r#"{"UserConfig": {"Namespaces": []}}"#).contains("exactly one"));
        assert!(
            refuse(r#"{"UserConfig": {"Namespaces": [{"Queues": [{"Nmae": "q"}]}]}}"#)
                .contains("unknown field `Nmae`")
        );
        assert!(refuse(r#"{"serviceBus": {"queus": []}}"#).contains("unknown field `queus`"));
    }
}
