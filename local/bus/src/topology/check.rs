//! What a declaration must fulfil, each entity by itself and all of them together.

use std::collections::HashSet;

use super::{
    AuthorizationRule, Definition, Namespace, NamespaceError, Queue, Span, Subscription, Topic,
};
use crate::limits::{
    AUTHORIZATION_RULES_MAX, AUTO_DELETE_ON_IDLE_MIN_MS, DELIVERY_COUNT_MAX,
    DUPLICATE_WINDOW_MAX_MS, ENTITY_NAME_CHARS_MAX, LOCK_DURATION_MAX_MS, LOCK_DURATION_MIN_MS,
};

impl Namespace {
    /// Checks names, ranges, filters and what entities say of each other.
    ///
    /// # Errors
    /// Every problem there is; a filter's with the position of the mistake.
    pub fn validate(&self) -> Result<(), NamespaceError> {
        let mut check = Check::default();
        check.rules("the namespace", &self.authorization_rules);
        for queue in &self.queues {
            check.queue(queue);
        }
        for topic in &self.topics {
            check.topic(topic);
            for subscription in &topic.subscriptions {
                check.subscription(&topic.name, subscription);
            }
        }
        let names = self.queues.iter().map(|queue| &queue.name);
        let names: HashSet<String> = names
            .chain(self.topics.iter().map(|topic| &topic.name))
            .map(|name| name.to_lowercase())
            .collect();
        for (what, target) in std::mem::take(&mut check.targets) {
            if !names.contains(&target.to_lowercase()) {
                check
                    .problem(&what, format!("there is no queue or topic `{target}` to forward to"));
            }
        }
        check.verdict()
    }
}

impl Definition {
    /// Checks one entity by itself; where it forwards to is for the broker to look up.
    ///
    /// # Errors
    /// Every problem there is.
    pub(crate) fn validate(&self) -> Result<(), NamespaceError> {
        let mut check = Check::default();
        match self {
            Definition::Queue(queue) => check.queue(queue),
            Definition::Topic(topic) => check.topic(topic),
            Definition::Subscription { topic, subscription } => {
                check.subscription(topic, subscription);
            }
        }
        check.verdict()
    }
}

/// Collects problems.
#[derive(Default)]
struct Check {
    problems: Vec<String>,
    paths: HashSet<String>,
    /// Who forwards to whom.
    targets: Vec<(String, String)>,
}

impl Check {
    fn verdict(self) -> Result<(), NamespaceError> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(NamespaceError { problems: self.problems }),
        }
    }

    fn queue(&mut self, queue: &Queue) {
        let what = format!("queue `{}`", queue.name);
        self.name(&what, &queue.name, &queue.name);
        self.receiving(&what, queue.lock_duration, queue.max_delivery_count);
        self.window(
            &what,
            queue.requires_duplicate_detection,
            queue.duplicate_detection_history_time_window,
        );
        self.limits(&what, queue.default_message_time_to_live, queue.max_size_in_megabytes);
        self.idle(&what, queue.auto_delete_on_idle);
        self.rules(&what, &queue.authorization_rules);
        let dead = queue.forward_dead_lettered_messages_to.as_deref();
        self.forwarding(&what, &queue.name, queue.forward_to.as_deref(), dead);
        if queue.requires_session && queue.forward_to.is_some() {
            self.problem(&what, "an entity with sessions cannot forward its messages");
        }
    }

    fn topic(&mut self, topic: &Topic) {
        let what = format!("topic `{}`", topic.name);
        self.name(&what, &topic.name, &topic.name);
        self.window(
            &what,
            topic.requires_duplicate_detection,
            topic.duplicate_detection_history_time_window,
        );
        self.limits(&what, topic.default_message_time_to_live, topic.max_size_in_megabytes);
        self.idle(&what, topic.auto_delete_on_idle);
        self.rules(&what, &topic.authorization_rules);
    }

    fn idle(&mut self, what: &str, idle: Option<Span>) {
        if idle.is_some_and(|idle| idle.as_millis() < AUTO_DELETE_ON_IDLE_MIN_MS) {
            self.problem(what, "autoDeleteOnIdle is at least PT1S");
        }
    }

    fn forwarding(&mut self, what: &str, own: &str, to: Option<&str>, dead: Option<&str>) {
        for target in [to, dead].into_iter().flatten() {
            if target.eq_ignore_ascii_case(own) {
                self.problem(what, "an entity cannot forward to itself");
            }
            self.targets.push((what.to_owned(), target.to_owned()));
        }
    }

    fn rules(&mut self, what: &str, rules: &[AuthorizationRule]) {
        if rules.len() > AUTHORIZATION_RULES_MAX {
            let problem = format!("there are more than {AUTHORIZATION_RULES_MAX} access rules");
            self.problem(what, problem);
        }
        let mut names = HashSet::new();
        for rule in rules {
            if rule.name.is_empty() || !names.insert(rule.name.to_lowercase()) {
                let problem = format!("the access rule `{}` is unnamed or not unique", rule.name);
                self.problem(what, problem);
            }
            if rule.primary_key.is_empty() || rule.secondary_key.as_deref() == Some("") {
                self.problem(what, format!("the access rule `{}` has an empty key", rule.name));
            }
        }
    }

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

    fn subscription(&mut self, topic: &str, subscription: &Subscription) {
        let path = &format!("{topic}/Subscriptions/{}", subscription.name);
        let what = format!("subscription `{path}`");
        self.name(&what, &subscription.name, path);
        self.receiving(&what, subscription.lock_duration, subscription.max_delivery_count);
        self.idle(&what, subscription.auto_delete_on_idle);
        let dead = subscription.forward_dead_lettered_messages_to.as_deref();
        self.forwarding(&what, topic, subscription.forward_to.as_deref(), dead);
        if subscription.requires_session && subscription.forward_to.is_some() {
            self.problem(&what, "an entity with sessions cannot forward its messages");
        }
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
