//! What `host.json` and `function.json` say about Storage queues.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue>.
//! Defaults are those of `QueuesOptions` in the Storage extension.

use std::thread::available_parallelism;
use std::time::Duration;

use super::function_json::data_type;
use super::json::Section;
use super::{Settings, storage};
use crate::bindings::QueueTrigger;
use crate::error::Problem;
use crate::storage::is_queue_name;

/// Most messages the service gives out at once.
const BATCH_MAX: u32 = 32;

/// Longest a message may be invisible.
const VISIBILITY_TIMEOUT_MAX: Duration = Duration::from_hours(7 * 24);

/// The shortest `maxPollingInterval`; also the first pause after an empty answer.
pub(crate) const POLLING_MIN: Duration = Duration::from_millis(100);

/// `maxPollingInterval` when none is given.
const POLLING_MAX_DEFAULT: Duration = Duration::from_mins(1);

/// The same in development: nobody wants to wait for a minute.
const POLLING_MAX_DEVELOPMENT: Duration = Duration::from_secs(2);

/// `extensions.queues`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueOptions {
    /// Messages received at once.
    pub(crate) batch_size: u32,
    /// More are received when no more than this many are being worked on.
    pub(crate) new_batch_threshold: u32,
    pub(crate) max_polling_interval: Duration,
    /// How long a message whose invocation failed stays invisible.
    pub(crate) visibility_timeout: Duration,
    /// A message is poison when it has failed for this many times.
    pub(crate) max_dequeue_count: u32,
    pub(crate) encoding: MessageEncoding,
}

/// How message texts are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageEncoding {
    Base64,
    None,
}

impl QueueOptions {
    /// The extension does this when the environment is called Development, as `func` calls it.
    pub(super) fn poll_faster_in_development(&mut self, settings: &Settings) {
        let environment = settings.get("AZURE_FUNCTIONS_ENVIRONMENT").unwrap_or("Development");
        if environment.eq_ignore_ascii_case("Development")
            && self.max_polling_interval == POLLING_MAX_DEFAULT
        {
            self.max_polling_interval = POLLING_MAX_DEVELOPMENT;
        }
    }
}

/// Reads `extensions.queues` of `host.json`.
pub(super) fn options(extensions: &Section<'_>, problems: &mut Vec<Problem>) -> QueueOptions {
    let section = extensions.child("queues", "extensions.queues", problems);
    let mut wrong = |what: &str, why: &str, fix: &str| {
        problems.push(Problem::new(format!("host.json: extensions.queues.{what}"), why, fix));
    };
    let encoding = match section.get("messageEncoding").map(|value| value.as_str()) {
        None => MessageEncoding::Base64,
        Some(Some(text)) if text.eq_ignore_ascii_case("base64") => MessageEncoding::Base64,
        Some(Some(text)) if text.eq_ignore_ascii_case("none") => MessageEncoding::None,
        Some(_) => {
            let what = "messageEncoding is neither \"base64\" nor \"none\"";
            wrong(what, "it says how message texts are written", "write \"base64\", or remove it");
            MessageEncoding::Base64
        }
    };
    let batch_size = section.count("batchSize", 16, 1, problems);
    if batch_size > BATCH_MAX {
        problems.push(Problem::new(
            format!("host.json: extensions.queues.batchSize is {batch_size}"),
            format!("the queue service gives out at most {BATCH_MAX} messages at once"),
            format!("write a number from 1 to {BATCH_MAX}"),
        ));
    }
    let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let max_polling_interval =
        section.duration("maxPollingInterval", POLLING_MAX_DEFAULT, problems);
    if max_polling_interval < POLLING_MIN {
        problems.push(Problem::new(
            format!("host.json: extensions.queues.maxPollingInterval is {max_polling_interval:?}"),
            format!("an empty queue is polled every {POLLING_MIN:?} at most"),
            "write e.g. \"00:00:02\"",
        ));
    }
    let visibility_timeout = section.duration("visibilityTimeout", Duration::ZERO, problems);
    if visibility_timeout > VISIBILITY_TIMEOUT_MAX {
        problems.push(Problem::new(
            format!("host.json: extensions.queues.visibilityTimeout is {visibility_timeout:?}"),
            "a message can be invisible for seven days at most",
            "write e.g. \"00:00:30\"",
        ));
    }
    QueueOptions {
        batch_size,
        new_batch_threshold: section.count(
            "newBatchThreshold",
            batch_size / 2 * cores,
            0,
            problems,
        ),
        max_polling_interval,
        visibility_timeout,
        max_dequeue_count: section.count("maxDequeueCount", 5, 1, problems),
        encoding,
    }
}

/// Reads a `queueTrigger`.
pub(super) fn trigger(
    section: &Section<'_>,
    path: &str,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<QueueTrigger> {
    // The extension is so kind.
    let queue = section.text("queueName", problems).unwrap_or_default().to_lowercase();
    if !is_queue_name(&queue) {
        problems.push(name_problem(path, &queue));
    }
    let setting = section.text("connection", problems).unwrap_or_default();
    let connection = match storage::queues(&setting, settings) {
        Ok(connection) => connection,
        Err(mut problem) => {
            problem.what = format!("{path}: {}", problem.what);
            problems.push(problem);
            return None;
        }
    };
    Some(QueueTrigger { queue, connection, data_type: data_type(section, problems) })
}

pub(super) fn name_problem(path: &str, queue: &str) -> Problem {
    Problem::new(
        format!("{path}: \"{queue}\" cannot be the name of a queue"),
        "a name is 3 to 63 lower-case letters, digits and single hyphens between them",
        "correct \"queueName\"",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(queues: &serde_json::Value) -> (QueueOptions, Vec<Problem>) {
        let extensions = json!({ "queues": queues });
        let mut problems = Vec::new();
        let section = Section::root("host.json", extensions.as_object().unwrap());
        (options(&section, &mut problems), problems)
    }

    #[test]
    fn defaults_are_those_of_the_extension() {
        let (mut options, problems) = read(&json!({}));
        assert_eq!(problems, []);
        let cores = u32::try_from(available_parallelism().unwrap().get()).unwrap();
        assert_eq!((options.batch_size, options.new_batch_threshold), (16, 8 * cores));
        assert_eq!((options.max_dequeue_count, options.visibility_timeout), (5, Duration::ZERO));
        assert_eq!(options.encoding, MessageEncoding::Base64);
        let environment = |name: &str| {
            let value = [("AZURE_FUNCTIONS_ENVIRONMENT".to_owned(), name.to_owned())];
            Settings::new(value.into_iter().collect())
        };
        options.poll_faster_in_development(&environment("Production"));
        assert_eq!(options.max_polling_interval, Duration::from_mins(1));
        options.poll_faster_in_development(&environment("development"));
        assert_eq!(options.max_polling_interval, Duration::from_secs(2));
    }

    #[test]
    fn values_are_read_and_limits_are_said() {
        let (options, problems) = read(&json!({
            "batchSize": 8, "maxPollingInterval": "00:00:05", "visibilityTimeout": "00:00:30",
            "maxDequeueCount": 2, "messageEncoding": "None"
        }));
        assert_eq!(problems, []);
        assert_eq!((options.batch_size, options.max_dequeue_count), (8, 2));
        assert_eq!(options.max_polling_interval, Duration::from_secs(5));
        assert_eq!(options.visibility_timeout, Duration::from_secs(30));
        assert_eq!(options.encoding, MessageEncoding::None);
        for wrong in [
            json!({ "batchSize": 33 }),
            json!({ "batchSize": 0 }),
            json!({ "maxDequeueCount": 0 }),
            json!({ "maxPollingInterval": "00:00:00.05" }),
            json!({ "visibilityTimeout": "8.00:00:00" }),
            json!({ "messageEncoding": "utf8" }),
        ] {
            let (_, problems) = read(&wrong);
            assert_eq!(problems.len(), 1, "{wrong}: {problems:?}");
        }
    }
}
