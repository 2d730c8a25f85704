//! `extensions.serviceBus` of `host.json`: how many messages, sessions and batches at a time.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus>.
//! The sections of version 4 of the extension still count where the new names are not given.

use std::time::Duration;

use super::host_json::FILE;
use super::json::Section;
use crate::error::Problem;

/// `tryTimeout` of the .NET client: so long one attempt to receive lasts.
const TRY_TIMEOUT: Duration = Duration::from_mins(1);

/// `extensions.serviceBus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceBusOptions {
    pub(crate) auto_complete: bool,
    pub(crate) max_auto_lock_renewal: Duration,
    pub(crate) max_concurrent_calls: u32,
    pub(crate) max_batch_messages: u32,
    pub(crate) min_batch_messages: u32,
    pub(crate) max_batch_wait: Duration,
    /// Sessions that one instance holds at a time, per function.
    pub(crate) max_concurrent_sessions: u32,
    pub(crate) max_calls_per_session: u32,
    /// A session that has brought nothing for this long is given back.
    pub(crate) session_idle_timeout: Duration,
}

/// Reads the section.
pub(super) fn options(
    extensions: &Section<'_>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> ServiceBusOptions {
    let section = extensions.child("serviceBus", "extensions.serviceBus", problems);
    let child = |name, path, problems: &mut Vec<Problem>| section.child(name, path, problems);
    let messages =
        child("messageHandlerOptions", "extensions.serviceBus.messageHandlerOptions", problems);
    let sessions =
        child("sessionHandlerOptions", "extensions.serviceBus.sessionHandlerOptions", problems);
    let batches = child("batchOptions", "extensions.serviceBus.batchOptions", problems);
    let retries = child("clientRetryOptions", "extensions.serviceBus.clientRetryOptions", problems);
    for old in [&messages, &sessions, &batches].into_iter().filter(|old| old.exists()) {
        notes.push(format!(
            "{FILE}: {} has names of version 4 of the extension; they count where \
             extensions.serviceBus does not say otherwise",
            old.path()
        ));
    }
    if section.count("prefetchCount", 0, 0, problems) > 0 {
        notes.push(format!(
            "{FILE}: extensions.serviceBus.prefetchCount is taken as 0 by this host: messages \
             are received when a slot is free"
        ));
    }
    let mut auto_complete = true;
    let mut renewal = Duration::from_mins(5);
    for old in [&messages, &sessions, &batches] {
        auto_complete = old.flag("autoComplete", auto_complete, problems);
        renewal = old.duration("maxAutoRenewDuration", renewal, problems);
    }
    let calls = messages.count("maxConcurrentCalls", 16, 1, problems);
    let held = sessions.count("maxConcurrentSessions", 8, 1, problems);
    let batch = batches.count("maxMessageCount", 1_000, 1, problems);
    let idle = retries.duration("tryTimeout", TRY_TIMEOUT, problems);
    let idle = sessions.duration("messageWaitTimeout", idle, problems);
    ServiceBusOptions {
        auto_complete: section.flag("autoCompleteMessages", auto_complete, problems),
        max_auto_lock_renewal: section.duration("maxAutoLockRenewalDuration", renewal, problems),
        max_concurrent_calls: section.count("maxConcurrentCalls", calls, 1, problems),
        max_batch_messages: section.count("maxMessageBatchSize", batch, 1, problems),
        min_batch_messages: section.count("minMessageBatchSize", 1, 1, problems),
        max_batch_wait: section.duration("maxBatchWaitTime", Duration::from_secs(30), problems),
        max_concurrent_sessions: section.count("maxConcurrentSessions", held, 1, problems),
        max_calls_per_session: section.count("maxConcurrentCallsPerSession", 1, 1, problems),
        session_idle_timeout: section.duration("sessionIdleTimeout", idle, problems),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn read(section: Value) -> (ServiceBusOptions, Vec<Problem>, Vec<String>) {
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        let extensions = Map::from_iter([("serviceBus".to_owned(), section)]);
        let section = Section::root(FILE, &extensions);
        (options(&section, &mut problems, &mut notes), problems, notes)
    }

    #[test]
    fn defaults_are_those_of_the_extension() {
        let (options, problems, notes) = read(json!({}));
        assert_eq!((problems, notes), (vec![], vec![]));
        assert_eq!((options.max_concurrent_calls, options.max_batch_messages), (16, 1_000));
        assert_eq!((options.max_concurrent_sessions, options.max_calls_per_session), (8, 1));
        assert_eq!(options.session_idle_timeout, Duration::from_mins(1));
        assert!(options.auto_complete);
    }

    #[test]
    fn old_sections_count_where_the_new_names_are_not_given() {
        let (options, problems, notes) = read(json!({
            "sessionHandlerOptions": {
                "maxConcurrentSessions": 3, "messageWaitTimeout": "00:00:05", "autoComplete": false
            },
            "messageHandlerOptions": { "maxConcurrentCalls": 2, "maxAutoRenewDuration": "00:01:00" },
            "batchOptions": { "maxMessageCount": 7 },
            "maxConcurrentCalls": 4
        }));
        assert_eq!(problems, []);
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert_eq!((options.max_concurrent_calls, options.max_concurrent_sessions), (4, 3));
        assert_eq!(options.session_idle_timeout, Duration::from_secs(5));
        assert_eq!(options.max_auto_lock_renewal, Duration::from_mins(1));
        assert!(!options.auto_complete && options.max_batch_messages == 7);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let (_, problems, _) = read(json!({
            "maxConcurrentSessions": 0, "sessionHandlerOptions": { "messageWaitTimeout": 5 }
        }));
        let all = problems.iter().map(ToString::to_string).collect::<String>();
        for part in [
            "extensions.serviceBus.maxConcurrentSessions is 0",
            "extensions.serviceBus.sessionHandlerOptions.messageWaitTimeout is 5",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
    }
}
