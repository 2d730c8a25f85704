//! What is declared: topics and their subscriptions. Names follow the resource model
//! (<https://learn.microsoft.com/azure/templates/microsoft.eventgrid/eventsubscriptions>), flattened.

use http::Uri;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Event, Schema};
use crate::filter::AdvancedFilter;
use crate::limits;

/// The section `eventGrid` of a topology.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Declaration {
    /// Name of the setting under which apps find the topic; of no meaning to the service.
    #[serde(default, rename = "connection")]
    _connection: Option<String>,
    /// The topics.
    pub topics: Vec<Topic>,
}

/// A custom topic.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topic {
    /// Its name; the first segment of its path here.
    pub name: String,
    /// What it takes; CloudEvents unless it says otherwise.
    #[serde(default)]
    pub input_schema: Schema,
    /// Its subscriptions.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
}

/// A queue that takes events, each as a message in Base64.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageQueue {
    /// Its name.
    pub queue_name: String,
    /// How long a message lives there, in seconds; seven days if left out, -1 for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_time_to_live_in_seconds: Option<i64>,
}

/// An event subscription with a webhook or a Storage queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its name, unique within the topic.
    pub name: String,
    /// Where events are posted: an `http://` address of this machine. `%NAME%` is replaced by what
    /// the service is told at its start.
    pub endpoint: String,
    /// With it, `endpoint` is that of an emulated Storage account, such as
    /// `http://127.0.0.1:10001/devstoreaccount1`, and this the queue there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_queue: Option<StorageQueue>,
    /// How events are written; that of the topic if left out. CloudEvents stay CloudEvents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_delivery_schema: Option<Schema>,
    /// Types of the events that are wanted; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included_event_types: Option<Vec<String>>,
    /// How the subject of an event has to begin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject_begins_with: String,
    /// How the subject of an event has to end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject_ends_with: String,
    /// Whether case matters in the two.
    #[serde(default)]
    pub is_subject_case_sensitive: bool,
    /// Conditions on the values in an event; all have to hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advanced_filters: Vec<AdvancedFilter>,
    /// Whether they look into lists.
    #[serde(default)]
    pub enable_advanced_filtering_on_arrays: bool,
    /// Attempts to deliver an event, within [`limits::DELIVERY_ATTEMPTS`].
    #[serde(default = "attempts_default")]
    pub max_delivery_attempts: u32,
    /// Minutes after which an event is not delivered any more, within
    /// [`limits::TIME_TO_LIVE_MINUTES`].
    #[serde(default = "minutes_default")]
    pub event_time_to_live_in_minutes: u32,
    /// The folder that takes what cannot be delivered; without one it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_destination: Option<String>,
}

fn attempts_default() -> u32 {
    *limits::DELIVERY_ATTEMPTS.end()
}

fn minutes_default() -> u32 {
    *limits::TIME_TO_LIVE_MINUTES.end()
}

/// A declaration that cannot be used: which part, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {why}")]
pub struct InvalidDeclaration {
    /// The topic or subscription.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl Declaration {
    /// Replaces every `%NAME%` in the endpoints by what `look_up` knows; unknown ones stay, and
    /// are refused by [`Declaration::check`].
    #[must_use]
    pub fn filled(mut self, look_up: impl Fn(&str) -> Option<String>) -> Self {
        for subscription in self.topics.iter_mut().flat_map(|topic| &mut topic.subscriptions) {
            subscription.endpoint = fill(&subscription.endpoint, &look_up);
        }
        self
    }

    /// Checks names and limits.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub fn check(&self) -> Result<(), InvalidDeclaration> {
        let invalid = |what: &str, why: &str| InvalidDeclaration {
            what: what.to_owned(),
            why: why.to_owned(),
        };
        if self.topics.len() > limits::TOPICS_MAX {
            return Err(invalid("topics", "there are too many"));
        }
        let mut topics = std::collections::BTreeSet::new();
        for topic in &self.topics {
            let Topic { name, subscriptions, .. } = topic;
            check_name(name).map_err(|why| invalid(name, why))?;
            // It would hide the control routes.
            if name == "admin" {
                return Err(invalid(name, "is no name for a topic here"));
            }
            if !topics.insert(name) {
                return Err(invalid(name, "is declared twice"));
            }
            if subscriptions.len() > limits::SUBSCRIPTIONS_MAX {
                return Err(invalid(name, "has too many subscriptions"));
            }
            let mut names = std::collections::BTreeSet::new();
            for subscription in subscriptions {
                let what = format!("{name}/{}", subscription.name);
                if !names.insert(&subscription.name) {
                    return Err(invalid(&what, "is declared twice"));
                }
                let checked = subscription.check().and_then(|()| subscription.check_in(topic));
                checked.map_err(|why| InvalidDeclaration { what, why })?;
            }
        }
        Ok(())
    }
}

impl Subscription {
    /// Checks it by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_endpoint(&self.endpoint)?;
        let types = self.included_event_types.as_deref().unwrap_or_default();
        if types.len() > limits::INCLUDED_TYPES_MAX {
            return Err("includedEventTypes has too many entries".to_owned());
        }
        let texts = [&self.subject_begins_with, &self.subject_ends_with];
        if types.iter().chain(texts).any(|text| text.len() > limits::TEXT_BYTES_MAX) {
            return Err("a filter is too long".to_owned());
        }
        if self.advanced_filters.len() > limits::ADVANCED_FILTERS_MAX {
            return Err("advancedFilters has too many entries".to_owned());
        }
        self.advanced_filters.iter().try_for_each(AdvancedFilter::check)?;
        let values: usize = self.advanced_filters.iter().map(AdvancedFilter::values).sum();
        if values > limits::FILTER_VALUES_MAX {
            return Err("advancedFilters: there are too many values in all of them".to_owned());
        }
        if let Some(queue) = &self.storage_queue {
            check_name(&queue.queue_name).map_err(|why| format!("queueName {why}"))?;
        }
        if !limits::DELIVERY_ATTEMPTS.contains(&self.max_delivery_attempts) {
            return Err(format!("maxDeliveryAttempts is not in {:?}", limits::DELIVERY_ATTEMPTS));
        }
        if !limits::TIME_TO_LIVE_MINUTES.contains(&self.event_time_to_live_in_minutes) {
            let range = limits::TIME_TO_LIVE_MINUTES;
            return Err(format!("eventTimeToLiveInMinutes is not in {range:?}"));
        }
        match &self.dead_letter_destination {
            Some(folder) => {
                check_name(folder).map_err(|why| format!("deadLetterDestination {why}"))
            }
            None => Ok(()),
        }
    }

    /// Checks it against its topic.
    ///
    /// # Errors
    /// What does not go together.
    pub fn check_in(&self, topic: &Topic) -> Result<(), String> {
        let asked = self.event_delivery_schema;
        if topic.input_schema == Schema::CloudEvents && asked == Some(Schema::EventGrid) {
            return Err("eventDeliverySchema: CloudEvents are delivered as CloudEvents".to_owned());
        }
        Ok(())
    }

    /// Whether it wants an event.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let types = self.included_event_types.as_ref();
        // Types are compared without case, as the service does.
        types.is_none_or(|types| types.iter().any(|kind| kind.eq_ignore_ascii_case(&event.kind)))
            && self.wants_subject(&event.subject)
            && self.wants_values(event)
    }

    fn wants_values(&self, event: &Event) -> bool {
        let Self { advanced_filters: filters, enable_advanced_filtering_on_arrays: arrays, .. } =
            self;
        if filters.is_empty() {
            return true;
        }
        let members = event.members();
        filters.iter().all(|filter| filter.holds(&members, *arrays))
    }

    fn wants_subject(&self, subject: &str) -> bool {
        let (begin, end) = (&self.subject_begins_with, &self.subject_ends_with);
        if self.is_subject_case_sensitive {
            return subject.starts_with(begin.as_str()) && subject.ends_with(end.as_str());
        }
        let subject = subject.to_lowercase();
        subject.starts_with(&begin.to_lowercase()) && subject.ends_with(&end.to_lowercase())
    }
}

/// Letters, digits and hyphens: what is used in paths of URLs and of files.
fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = limits::NAME_CHARS.contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits { Ok(()) } else { Err("a name is 3 to 64 letters, digits and hyphens") }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let expected = "the endpoint must be an http:// address of this machine; events are delivered \
                    nowhere else, and without TLS";
    if endpoint.len() > limits::TEXT_BYTES_MAX {
        return Err("the endpoint is too long".to_owned());
    }
    if let Some(name) = endpoint.split('%').nth(1).filter(|_| endpoint.starts_with('%')) {
        return Err(format!("nobody said what %{name}% stands for"));
    }
    let uri: Uri = endpoint.parse().map_err(|_| expected.to_owned())?;
    let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let plain = uri.scheme_str() == Some("http");
    // User information would end up in logs.
    let bare = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if local && plain && bare { Ok(()) } else { Err(expected.to_owned()) }
}

fn fill(text: &str, look_up: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        filled.push_str(before);
        match after.split_once('%').and_then(|(name, after)| Some((look_up(name)?, after))) {
            Some((value, after)) => {
                filled.push_str(&value);
                rest = after;
            }
            None => {
                filled.push('%');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subscription(more: &serde_json::Value) -> Subscription {
        let mut whole = json!({"name": "sample", "endpoint": "http://127.0.0.1:1/events"});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn event(kind: &str, subject: &str) -> Event {
        let text = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": kind,
            "subject": subject});
        Event::parse(&text.to_string()).unwrap()
    }

    #[test]
    fn filters_select_by_type_and_by_both_ends_of_the_subject() {
        let all = subscription(&json!({}));
        assert!(all.wants(&event("a.b", "")));
        let typed = subscription(&json!({"includedEventTypes": ["order.done", "x"]}));
        assert!(typed.wants(&event("Order.Done", "s")) && !typed.wants(&event("order.don", "s")));
        let ends = json!({"subjectBeginsWith": "/Blob/", "subjectEndsWith": ".TXT"});
        let mut both = subscription(&ends);
        assert!(both.wants(&event("t", "/blob/a.txt")) && !both.wants(&event("t", "/blob/a.png")));
        assert!(!both.wants(&event("t", "")), "an event without a subject matches no filter");
        both.is_subject_case_sensitive = true;
        assert!(!both.wants(&event("t", "/blob/a.txt")) && both.wants(&event("t", "/Blob/a.TXT")));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (more, why) in [
            (json!({"name": "a"}), "a name is"),
            (json!({"endpoint": "https://127.0.0.1/"}), "http:// address of this machine"),
            (json!({"endpoint": "http://example.com/"}), "http:// address of this machine"),
            (json!({"endpoint": "http://u:p@127.0.0.1/"}), "http:// address of this machine"),
            (json!({"endpoint": "%WHERE%/events"}), "%WHERE%"),
            (json!({"maxDeliveryAttempts": 31}), "maxDeliveryAttempts"),
            (json!({"eventTimeToLiveInMinutes": 0}), "eventTimeToLiveInMinutes"),
            (json!({"deadLetterDestination": "../up"}), "deadLetterDestination"),
            (json!({"storageQueue": {"queueName": "a b"}}), "queueName"),
            (
                json!({"advancedFilters": [{"key": "data.n", "operatorType": "NumberIn"}]}),
                "numbers as its values",
            ),
            (
                json!({"advancedFilters": [
                    {"key": "data.n", "operatorType": "NumberIn", "values": vec![1; 20]},
                    {"key": "data.m", "operatorType": "NumberIn", "values": vec![1; 6]},
                ]}),
                "too many values in all",
            ),
        ] {
            let found = subscription(&more).check().unwrap_err();
            assert!(found.contains(why), "{more}: {found}");
        }
        assert_eq!(subscription(&json!({"deadLetterDestination": "dead"})).check(), Ok(()));
    }

    #[test]
    fn placeholders_are_filled_and_unknown_ones_are_refused() {
        let declaration: Declaration = serde_json::from_value(json!({"topics": [{"name": "orders",
            "subscriptions": [{"name": "one", "endpoint": "%BASE%/events"}]}]}))
        .unwrap();
        let error = declaration.clone().filled(|_| None).check().unwrap_err();
        assert!(error.to_string().contains("%BASE%"), "{error}");
        let known = |name: &str| (name == "BASE").then(|| "http://127.0.0.1:7".to_owned());
        let filled = declaration.filled(known);
        assert_eq!(filled.topics[0].subscriptions[0].endpoint, "http://127.0.0.1:7/events");
        assert_eq!(filled.check(), Ok(()));
    }
}
