//! Entities come and go: declared at the start, created, changed and deleted while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::duplicates::Duplicates;
use super::queue::{Queue, Settings};
use super::receive::Lost;
use super::record::{QueueId, Record};
use super::rule::Rule;
use super::sessions::Sessions;
use super::time::Timestamp;
use super::{Broker, Entity, Topic, TopicId, index, normalise};
use crate::limits::{ENTITIES_MAX, SUBSCRIPTIONS_PER_TOPIC_MAX};
use crate::topology::{self, AuthorizationRule, Definition, NamespaceError, Span};

/// Why an entity is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntityError {
    #[error("the messaging entity '{0}' exists already")]
    Exists(String),
    #[error("the messaging entity '{0}' could not be found")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("there are as many entities as a namespace can have")]
    TooMany,
}

/// What is known of an entity beside its messages.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) definition: Arc<Definition>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// Counts of one entity, as an administrator sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Runtime {
    pub(crate) active: usize,
    pub(crate) dead_letter: usize,
    pub(crate) scheduled: usize,
    pub(crate) transfer_dead_letter: usize,
    pub(crate) size_bytes: u64,
    pub(crate) subscriptions: usize,
    pub(crate) accessed_at: Option<Timestamp>,
}

/// All entities by lower-case path.
pub(super) type Registry = BTreeMap<String, Registered>;

impl Broker {
    /// The entity with this path, however it is spelt.
    pub(crate) fn registered(&self, path: &str) -> Option<&Registered> {
        self.registry.get(&normalise(path))
    }

    /// All entities in the order of their paths.
    pub(crate) fn all_registered(&self) -> impl Iterator<Item = &Registered> {
        self.registry.values()
    }

    /// Dates what the topology file declares: it is as old as this run, which begins now.
    pub(crate) fn date_declared(&mut self, now: Timestamp) {
        // It was read before there was a time.
        let undated = Timestamp::from_millis(0);
        for known in self.registry.values_mut() {
            for at in [&mut known.created_at, &mut known.updated_at] {
                if *at <= undated {
                    *at = now;
                }
            }
        }
    }

    /// Creates an entity.
    pub(crate) fn create(
        &mut self,
        now: Timestamp,
        definition: Definition,
    ) -> Result<(), EntityError> {
        self.advance(now);
        let path = definition.path();
        self.check_definition(&definition)?;
        if self.registry.contains_key(&normalise(&path)) {
            return Err(EntityError::Exists(path));
        }
        if let Definition::Subscription { topic, .. } = &definition {
            let Some(Entity::Topic(id)) = self.resolve(&normalise(topic)) else {
                return Err(EntityError::NotFound(topic.clone()));
            };
            if self.topic(id).subscriptions.len() >= SUBSCRIPTIONS_PER_TOPIC_MAX {
                return Err(EntityError::TooMany);
            }
        } else if self.registry.len() >= ENTITIES_MAX && self.top_entities() >= ENTITIES_MAX {
            return Err(EntityError::TooMany);
        }
        self.commit(Record::Defined { definition: Arc::new(definition), at: self.now });
        Ok(())
    }

    /// Queues and topics, without subscriptions.
    fn top_entities(&self) -> usize {
        let below =
            |known: &&Registered| matches!(*known.definition, Definition::Subscription { .. });
        self.registry.len() - self.registry.values().filter(below).count()
    }

    /// Changes an entity. What cannot be changed once it exists is refused.
    pub(crate) fn update(
        &mut self,
        now: Timestamp,
        definition: Definition,
    ) -> Result<(), EntityError> {
        self.advance(now);
        let path = definition.path();
        let key = normalise(&path);
        self.check_definition(&definition)?;
        let known = self.registry.get(&key).ok_or_else(|| EntityError::NotFound(path.clone()))?;
        if let Some(fixed) = fixed_difference(&known.definition, &definition) {
            let text = format!("the value of {fixed} of '{path}' cannot be changed");
            return Err(EntityError::Invalid(text));
        }
        self.commit(Record::Defined { definition: Arc::new(definition), at: self.now });
        if let Some(entity) = self.resolve(&key) {
            self.enforce(entity);
        }
        Ok(())
    }

    /// Deletes an entity with its messages; a topic with its subscriptions.
    pub(crate) fn delete(&mut self, now: Timestamp, path: &str) -> Result<(), EntityError> {
        self.advance(now);
        let key = normalise(path);
        if !self.registry.contains_key(&key) {
            return Err(EntityError::NotFound(path.to_owned()));
        }
        self.drop_entity(&key);
        Ok(())
    }

    pub(super) fn drop_entity(&mut self, key: &str) {
        let places = self.places_of(key);
        self.commit(Record::Dropped { path: Arc::from(key) });
        for place in places {
            self.lose_receivers(place, Lost::Deleted);
        }
    }

    fn check_definition(&self, definition: &Definition) -> Result<(), EntityError> {
        let invalid = |error: NamespaceError| EntityError::Invalid(error.problems.join("; "));
        definition.validate().map_err(invalid)?;
        let targets = match definition {
            Definition::Queue(queue) => {
                [&queue.forward_to, &queue.forward_dead_lettered_messages_to]
            }
            Definition::Topic(_) => [&None, &None],
            Definition::Subscription { subscription, .. } => {
                [&subscription.forward_to, &subscription.forward_dead_lettered_messages_to]
            }
        };
        for target in targets.into_iter().flatten() {
            let entity = self.resolve(&normalise(target));
            if !matches!(entity, Some(Entity::Queue(_) | Entity::Topic(_))) {
                let text = format!("there is no queue or topic '{target}' to forward to");
                return Err(EntityError::Invalid(text));
            }
        }
        Ok(())
    }

    /// Makes what was there before a change follow it: receivers, and messages to forward.
    fn enforce(&mut self, entity: Entity) {
        let (Entity::Queue(id) | Entity::Subscription(id)) = entity else { return };
        let forwards = self.queue(id).settings.forward_to.is_some();
        if forwards || !self.queue(id).settings.status.can_receive() {
            self.lose_receivers(id, Lost::Disabled);
        }
        if forwards {
            let sequences: Vec<i64> = self.queue(id).available().collect();
            for sequence in sequences {
                self.activate(id, sequence);
            }
        }
    }

    /// Creates or changes without asking; how the file's entities come, and those of a journal.
    pub(super) fn define(&mut self, definition: &Arc<Definition>, at: Timestamp) {
        let path = definition.path();
        let key = normalise(&path);
        let known = self.resolve(&key);
        match (&**definition, known) {
            (Definition::Queue(spec), None) => {
                let id =
                    self.declare_with_dead_letter(&path, Settings::of_queue(spec), Entity::Queue);
                if spec.requires_duplicate_detection {
                    let window_ms = spec.duplicate_detection_history_time_window.as_millis();
                    self.queue_mut(id).duplicates = Some(Duplicates::new(window_ms));
                }
            }
            (Definition::Queue(spec), Some(Entity::Queue(id))) => {
                self.set(id, Settings::of_queue(spec));
                self.set_window(id, spec.duplicate_detection_history_time_window);
            }
            (Definition::Topic(spec), None) => {
                let shelf = self.declare(&path, Settings::of_topic(spec));
                if spec.requires_duplicate_detection {
                    let window_ms = spec.duplicate_detection_history_time_window.as_millis();
                    self.queue_mut(shelf).duplicates = Some(Duplicates::new(window_ms));
                }
                let topic = TopicId(index(self.topics.len()));
                let path = Arc::from(path.as_str());
                self.topics.push(Topic { path, shelf, subscriptions: Vec::new() });
                self.directory.insert(key.clone(), Entity::Topic(topic));
            }
            (Definition::Topic(spec), Some(Entity::Topic(topic))) => {
                let shelf = self.topic(topic).shelf;
                self.set(shelf, Settings::of_topic(spec));
                self.set_window(shelf, spec.duplicate_detection_history_time_window);
                // What subscriptions inherit may have changed.
                for (_, id) in self.topic(topic).subscriptions.clone() {
                    let key = normalise(&self.queue(id).path);
                    let known = self.registry.get(&key).map(|known| Arc::clone(&known.definition));
                    if let Some(Definition::Subscription { subscription, .. }) = known.as_deref() {
                        let ttl_ms = self.queue(shelf).settings.ttl_ms;
                        self.set(id, Settings::of_subscription(subscription, ttl_ms));
                    }
                }
            }
            (Definition::Subscription { topic, subscription }, known) => {
                let Some(Entity::Topic(topic)) = self.resolve(&normalise(topic)) else { return };
                let ttl_ms = self.queue(self.topic(topic).shelf).settings.ttl_ms;
                let settings = Settings::of_subscription(subscription, ttl_ms);
                match known {
                    Some(Entity::Subscription(id)) => self.set(id, settings),
                    Some(_) => return,
                    None => {
                        let id =
                            self.declare_with_dead_letter(&path, settings, Entity::Subscription);
                        let specs = subscription.rules.iter();
                        // Every rule was compiled once when the definition was checked.
                        let mut rules: Vec<_> =
                            specs.filter_map(|rule| rule.compile().ok()).map(Arc::new).collect();
                        if subscription.rules.is_empty() {
                            rules.push(Arc::new(Rule { created_at: at, ..Rule::default_rule() }));
                        }
                        let shelf = self.topic(topic).shelf;
                        self.queue_mut(id).declared_rules.clone_from(&rules);
                        self.queue_mut(id).rules = rules;
                        self.queue_mut(id).shelf = Some(shelf);
                        let name = Arc::from(subscription.name.as_str());
                        self.topics[topic.0 as usize].subscriptions.push((name, id));
                    }
                }
            }
            // A queue does not become a topic.
            (Definition::Queue(_) | Definition::Topic(_), Some(_)) => return,
        }
        let created_at = self.registry.get(&key).map_or(at, |known| known.created_at);
        let definition = Arc::clone(definition);
        self.registry.insert(key, Registered { definition, created_at, updated_at: at });
    }

    /// Removes an entity with everything in it.
    pub(super) fn undefine(&mut self, key: &str) {
        let places = self.places_of(key);
        if let Some(Entity::Subscription(id)) = self.resolve(key) {
            for topic in &mut self.topics {
                topic.subscriptions.retain(|(_, subscription)| *subscription != id);
            }
        }
        if let Some(Entity::Topic(topic)) = self.resolve(key) {
            for (_, id) in std::mem::take(&mut self.topics[topic.0 as usize].subscriptions) {
                self.registry.remove(&normalise(&self.queue(id).path));
            }
        }
        for place in places {
            let path = Arc::clone(&self.queue(place).path);
            self.directory.remove(&path.to_lowercase());
            let settings = self.queue(place).settings.clone();
            let waiting = std::mem::take(&mut self.queue_mut(place).waiting);
            let mut empty = Queue::new(path, settings);
            empty.gone = true;
            empty.waiting = waiting;
            *self.queue_mut(place) = empty;
        }
        self.registry.remove(key);
    }

    /// Every place that belongs to an entity.
    fn places_of(&self, key: &str) -> Vec<QueueId> {
        let with_sub_queues = |id: QueueId| {
            let queue = self.queue(id);
            [Some(id), queue.dead_letter, queue.transfer_dead_letter].into_iter().flatten()
        };
        match self.resolve(key) {
            Some(Entity::Queue(id) | Entity::Subscription(id)) => with_sub_queues(id).collect(),
            Some(Entity::Topic(topic)) => {
                let topic = self.topic(topic);
                let subscriptions =
                    topic.subscriptions.iter().flat_map(|(_, id)| with_sub_queues(*id));
                std::iter::once(topic.shelf).chain(subscriptions).collect()
            }
            Some(Entity::DeadLetter(_)) | None => Vec::new(),
        }
    }

    fn set(&mut self, id: QueueId, settings: Settings) {
        let queue = self.queue(id);
        for sub in [queue.dead_letter, queue.transfer_dead_letter].into_iter().flatten() {
            self.queue_mut(sub).settings = settings.of_sub_queue();
        }
        self.queue_mut(id).settings = settings;
        let deadline = self.queue(id).next_deadline();
        self.wake_at(deadline);
    }

    fn set_window(&mut self, id: QueueId, window: Span) {
        if let Some(duplicates) = &mut self.queue_mut(id).duplicates {
            duplicates.set_window(window.as_millis());
        }
    }

    fn declare(&mut self, path: &str, settings: Settings) -> QueueId {
        let id = QueueId(index(self.queues.len()));
        let path: Arc<str> = Arc::from(path);
        let sessions = settings.requires_session.then(Sessions::default);
        let mut queue = Queue::new(Arc::clone(&path), settings);
        queue.sessions = sessions;
        queue.last_used = self.now;
        self.wake_at(queue.next_deadline());
        self.queues.push(queue);
        self.commit(Record::Declared { queue: id, path });
        id
    }

    fn declare_with_dead_letter(
        &mut self,
        path: &str,
        settings: Settings,
        entity: fn(QueueId) -> Entity,
    ) -> QueueId {
        let sub_queue_settings = settings.of_sub_queue();
        let id = self.declare(path, settings);
        self.directory.insert(path.to_lowercase(), entity(id));
        let mut sub_queue = |suffix: &str| {
            let path = format!("{path}/{suffix}");
            let id = self.declare(&path, sub_queue_settings.clone());
            self.directory.insert(path.to_lowercase(), Entity::DeadLetter(id));
            id
        };
        let dead_letter = sub_queue("$DeadLetterQueue");
        let transfer = sub_queue("$Transfer/$DeadLetterQueue");
        self.queue_mut(id).dead_letter = Some(dead_letter);
        self.queue_mut(id).transfer_dead_letter = Some(transfer);
        id
    }

    /// Notes that an entity is used, for those that go when they are not.
    pub(super) fn touch(&mut self, id: QueueId) {
        let now = self.now;
        let queue = self.queue_mut(id);
        queue.last_used = now;
        // What happens to a subscription keeps its topic as well.
        if let Some(shelf) = queue.shelf {
            self.queue_mut(shelf).last_used = now;
        }
    }

    /// Deletes an entity whose idle time is over, unless somebody is attached to it or a message
    /// of it waits for its time.
    pub(super) fn end_idle(&mut self, id: QueueId) {
        let now = self.now;
        let queue = self.queue(id);
        let never_used = queue.last_used.as_millis() == i64::MIN;
        if never_used || queue.attached > 0 || queue.counts().3 > 0 {
            self.queue_mut(id).last_used = now;
            return;
        }
        let key = normalise(&queue.path);
        tracing::info!(entity = %queue.path, "deleted, idle for longer than it may be");
        self.drop_entity(&key);
    }

    /// The access rules of the queue or topic that a path is or belongs to.
    pub(crate) fn access_rules(&self, path: &str) -> Vec<AuthorizationRule> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let rules = ends.filter_map(|end| match &*self.registry.get(&path[..end])?.definition {
            Definition::Queue(queue) => Some(queue.authorization_rules.clone()),
            Definition::Topic(topic) => Some(topic.authorization_rules.clone()),
            Definition::Subscription { .. } => None,
        });
        rules.flatten().collect()
    }

    /// Counts of one entity.
    pub(crate) fn runtime(&self, path: &str) -> Option<Runtime> {
        let counts = |id: QueueId| {
            let queue = self.queue(id);
            let (total, _, _, scheduled) = queue.counts();
            let of = |sub: Option<QueueId>| sub.map_or(0, |sub| self.queue(sub).counts().0);
            Runtime {
                active: total - scheduled,
                dead_letter: of(queue.dead_letter),
                scheduled,
                transfer_dead_letter: of(queue.transfer_dead_letter),
                size_bytes: queue.bytes(),
                subscriptions: 0,
                accessed_at: Some(queue.last_used).filter(|at| at.as_millis() != i64::MIN),
            }
        };
        Some(match self.resolve(&normalise(path))? {
            Entity::Queue(id) | Entity::Subscription(id) => counts(id),
            Entity::Topic(topic) => {
                let topic = self.topic(topic);
                let copies = topic.subscriptions.iter().map(|(_, id)| self.queue(*id).bytes());
                let shelf = counts(topic.shelf);
                Runtime {
                    active: 0,
                    size_bytes: shelf.size_bytes + copies.sum::<u64>(),
                    subscriptions: topic.subscriptions.len(),
                    ..shelf
                }
            }
            Entity::DeadLetter(_) => return None,
        })
    }
}

/// The member that differs although it is decided when the entity is created.
fn fixed_difference(old: &Definition, new: &Definition) -> Option<&'static str> {
    match (old, new) {
        (Definition::Queue(old), Definition::Queue(new)) => {
            if old.requires_session != new.requires_session {
                return Some("RequiresSession");
            }
            (old.requires_duplicate_detection != new.requires_duplicate_detection)
                .then_some("RequiresDuplicateDetection")
        }
        (Definition::Topic(old), Definition::Topic(new)) => (old.requires_duplicate_detection
            != new.requires_duplicate_detection)
            .then_some("RequiresDuplicateDetection"),
        (
            Definition::Subscription { subscription: old, .. },
            Definition::Subscription { subscription: new, .. },
        ) => (old.requires_session != new.requires_session).then_some("RequiresSession"),
        _ => Some("the kind of entity"),
    }
}

impl Settings {
    fn of_queue(spec: &topology::Queue) -> Settings {
        Settings {
            lock_ms: spec.lock_duration.as_millis(),
            max_delivery_count: Some(spec.max_delivery_count),
            ttl_ms: limited(spec.default_message_time_to_live),
            dead_letter_expired: spec.dead_lettering_on_message_expiration,
            dead_letter_filter_errors: false,
            max_bytes: megabytes(spec.max_size_in_megabytes),
            requires_session: spec.requires_session,
            status: spec.status,
            forward_to: spec.forward_to.as_deref().map(target),
            forward_dead: spec.forward_dead_lettered_messages_to.as_deref().map(target),
            idle_ms: limited(spec.auto_delete_on_idle),
        }
    }

    fn of_topic(spec: &topology::Topic) -> Settings {
        Settings {
            lock_ms: 0,
            max_delivery_count: None,
            ttl_ms: limited(spec.default_message_time_to_live),
            dead_letter_expired: false,
            dead_letter_filter_errors: false,
            max_bytes: megabytes(spec.max_size_in_megabytes),
            requires_session: false,
            status: spec.status,
            forward_to: None,
            forward_dead: None,
            idle_ms: limited(spec.auto_delete_on_idle),
        }
    }

    fn of_subscription(spec: &topology::Subscription, topic_ttl_ms: Option<i64>) -> Settings {
        let own_ttl_ms = limited(spec.default_message_time_to_live);
        Settings {
            lock_ms: spec.lock_duration.as_millis(),
            max_delivery_count: Some(spec.max_delivery_count),
            ttl_ms: own_ttl_ms.into_iter().chain(topic_ttl_ms).min(),
            dead_letter_expired: spec.dead_lettering_on_message_expiration,
            dead_letter_filter_errors: spec.dead_lettering_on_filter_evaluation_exceptions,
            max_bytes: u64::MAX,
            requires_session: spec.requires_session,
            status: spec.status,
            forward_to: spec.forward_to.as_deref().map(target),
            forward_dead: spec.forward_dead_lettered_messages_to.as_deref().map(target),
            idle_ms: limited(spec.auto_delete_on_idle),
        }
    }

    /// A dead-letter sub-queue: nothing ends, moves or needs a session there.
    fn of_sub_queue(&self) -> Settings {
        Settings {
            max_delivery_count: None,
            ttl_ms: None,
            dead_letter_expired: false,
            max_bytes: u64::MAX,
            requires_session: false,
            forward_to: None,
            forward_dead: None,
            idle_ms: None,
            ..self.clone()
        }
    }
}

fn target(path: &str) -> Arc<str> {
    Arc::from(normalise(path))
}

fn limited(span: Option<Span>) -> Option<i64> {
    span.filter(|span| !span.is_unlimited()).map(Span::as_millis)
}

fn megabytes(n: u32) -> u64 {
    u64::from(n) * 1_048_576
}
