//! Entities as the administration API writes them, and as its clients send them.
//!
//! The order of the elements matters to some clients. Members that mean nothing here are accepted
//! and reported as what they always are.

use xml::Element;

use super::writer::Writer;
use crate::broker::{Registered, Runtime, Timestamp};
use crate::topology::{
    AuthorizationRule, Definition, EntityStatus, Queue, Right, Span, Subscription, Topic,
};

const CONNECT: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The start tag of a description.
pub(super) fn description(name: &str) -> String {
    format!("{name} xmlns=\"{CONNECT}\" xmlns:i=\"{INSTANCE}\"")
}

/// What is the same for every answer about an entity.
pub(super) struct Surroundings<'a> {
    /// `host:port` as the client knows it.
    pub(super) host: &'a str,
    pub(super) max_message_bytes: u64,
}

/// Writes the description of an entity.
pub(super) fn put(out: &mut Writer, entity: &Registered, runtime: &Runtime, of: &Surroundings<'_>) {
    match &*entity.definition {
        Definition::Queue(queue) => put_queue(out, queue, entity, runtime, of),
        Definition::Topic(topic) => put_topic(out, topic, entity, runtime, of),
        Definition::Subscription { subscription, .. } => {
            put_subscription(out, subscription, entity, runtime, of);
        }
    }
}

fn unlimited(span: Option<Span>) -> Span {
    span.unwrap_or(Span::from_millis(i64::MAX))
}

fn status(status: EntityStatus) -> &'static str {
    match status {
        EntityStatus::Active => "Active",
        EntityStatus::Disabled => "Disabled",
        EntityStatus::SendDisabled => "SendDisabled",
        EntityStatus::ReceiveDisabled => "ReceiveDisabled",
    }
}

fn target(to: Option<&str>, of: &Surroundings<'_>) -> Option<String> {
    to.map(|to| format!("sb://{}/{to}", of.host))
}

fn put_times(out: &mut Writer, entity: &Registered, runtime: &Runtime) {
    out.element("CreatedAt", entity.created_at)
        .element("UpdatedAt", entity.updated_at)
        .element("AccessedAt", runtime.accessed_at.unwrap_or(entity.created_at));
}

fn put_counts(out: &mut Writer, runtime: &Runtime) {
    out.open(&format!("CountDetails xmlns:d2p1=\"{COUNTS}\""))
        .element("d2p1:ActiveMessageCount", runtime.active)
        .element("d2p1:DeadLetterMessageCount", runtime.dead_letter)
        .element("d2p1:ScheduledMessageCount", runtime.scheduled)
        .element("d2p1:TransferDeadLetterMessageCount", runtime.transfer_dead_letter)
        .element("d2p1:TransferMessageCount", 0)
        .close("CountDetails");
}

fn messages(runtime: &Runtime) -> usize {
    runtime.active + runtime.dead_letter + runtime.scheduled + runtime.transfer_dead_letter
}

fn put_rules(out: &mut Writer, rules: &[AuthorizationRule], at: Timestamp) {
    out.open("AuthorizationRules");
    for rule in rules {
        out.open("AuthorizationRule i:type=\"SharedAccessAuthorizationRule\"")
            .element("ClaimType", "SharedAccessKey")
            .element("ClaimValue", "None")
            .open("Rights");
        for right in &rule.rights {
            out.element("AccessRights", format!("{right:?}"));
        }
        out.close("Rights")
            .element("CreatedTime", at)
            .element("ModifiedTime", at)
            .element("KeyName", &rule.name)
            .element("PrimaryKey", &rule.primary_key)
            .element("SecondaryKey", rule.secondary_key.as_deref().unwrap_or_default())
            .close("AuthorizationRule");
    }
    out.close("AuthorizationRules");
}

fn put_queue(
    out: &mut Writer,
    queue: &Queue,
    entity: &Registered,
    runtime: &Runtime,
    of: &Surroundings<'_>,
) {
    out.open(&description("QueueDescription"))
        .element("LockDuration", queue.lock_duration)
        .element("MaxSizeInMegabytes", queue.max_size_in_megabytes)
        .element("RequiresDuplicateDetection", queue.requires_duplicate_detection)
        .element("RequiresSession", queue.requires_session)
        .element("DefaultMessageTimeToLive", unlimited(queue.default_message_time_to_live))
        .element("DeadLetteringOnMessageExpiration", queue.dead_lettering_on_message_expiration)
        .element(
            "DuplicateDetectionHistoryTimeWindow",
            queue.duplicate_detection_history_time_window,
        )
        .element("MaxDeliveryCount", queue.max_delivery_count)
        .element("EnableBatchedOperations", queue.enable_batched_operations)
        .element("SizeInBytes", runtime.size_bytes)
        .element("MessageCount", messages(runtime))
        .element("IsAnonymousAccessible", false);
    put_rules(out, &queue.authorization_rules, entity.created_at);
    out.element("Status", status(queue.status))
        .optional("ForwardTo", target(queue.forward_to.as_deref(), of))
        .optional("UserMetadata", queue.user_metadata.as_ref());
    put_times(out, entity, runtime);
    out.element("SupportOrdering", true);
    put_counts(out, runtime);
    let dead = queue.forward_dead_lettered_messages_to.as_deref();
    out.element("AutoDeleteOnIdle", unlimited(queue.auto_delete_on_idle))
        .element("EnablePartitioning", queue.enable_partitioning)
        .element("EntityAvailabilityStatus", "Available")
        .optional("ForwardDeadLetteredMessagesTo", target(dead, of))
        .element("EnableExpress", queue.enable_express)
        .element("MaxMessageSizeInKilobytes", of.max_message_bytes / 1_024)
        .close("QueueDescription");
}

fn put_topic(
    out: &mut Writer,
    topic: &Topic,
    entity: &Registered,
    runtime: &Runtime,
    of: &Surroundings<'_>,
) {
    out.open(&description("TopicDescription"))
        .element("DefaultMessageTimeToLive", unlimited(topic.default_message_time_to_live))
        .element("MaxSizeInMegabytes", topic.max_size_in_megabytes)
        .element("RequiresDuplicateDetection", topic.requires_duplicate_detection)
        .element(
            "DuplicateDetectionHistoryTimeWindow",
            topic.duplicate_detection_history_time_window,
        )
        .element("EnableBatchedOperations", topic.enable_batched_operations)
        .element("SizeInBytes", runtime.size_bytes)
        .element("FilteringMessagesBeforePublishing", false)
        .element("IsAnonymousAccessible", false);
    put_rules(out, &topic.authorization_rules, entity.created_at);
    out.element("Status", status(topic.status))
        .optional("UserMetadata", topic.user_metadata.as_ref());
    put_times(out, entity, runtime);
    out.element("SupportOrdering", topic.support_ordering);
    put_counts(out, runtime);
    out.element("SubscriptionCount", runtime.subscriptions)
        .element("AutoDeleteOnIdle", unlimited(topic.auto_delete_on_idle))
        .element("EnablePartitioning", topic.enable_partitioning)
        .element("EntityAvailabilityStatus", "Available")
        .element("EnableSubscriptionPartitioning", false)
        .element("EnableExpress", topic.enable_express)
        .element("MaxMessageSizeInKilobytes", of.max_message_bytes / 1_024)
        .close("TopicDescription");
}

fn put_subscription(
    out: &mut Writer,
    subscription: &Subscription,
    entity: &Registered,
    runtime: &Runtime,
    of: &Surroundings<'_>,
) {
    let expired = subscription.dead_lettering_on_message_expiration;
    out.open(&description("SubscriptionDescription"))
        .element("LockDuration", subscription.lock_duration)
        .element("RequiresSession", subscription.requires_session)
        .element("DefaultMessageTimeToLive", unlimited(subscription.default_message_time_to_live))
        .element("DeadLetteringOnMessageExpiration", expired)
        .element(
            "DeadLetteringOnFilterEvaluationExceptions",
            subscription.dead_lettering_on_filter_evaluation_exceptions,
        )
        .element("MessageCount", messages(runtime))
        .element("MaxDeliveryCount", subscription.max_delivery_count)
        .element("EnableBatchedOperations", subscription.enable_batched_operations)
        .element("Status", status(subscription.status))
        .optional("ForwardTo", target(subscription.forward_to.as_deref(), of));
    put_times(out, entity, runtime);
    out.optional("UserMetadata", subscription.user_metadata.as_ref());
    put_counts(out, runtime);
    let dead = subscription.forward_dead_lettered_messages_to.as_deref();
    out.element("AutoDeleteOnIdle", unlimited(subscription.auto_delete_on_idle))
        .optional("ForwardDeadLetteredMessagesTo", target(dead, of))
        .element("EntityAvailabilityStatus", "Available")
        .close("SubscriptionDescription");
}

/// One member of a description, read over what was there.
struct Members<'a>(&'a Element);

impl Members<'_> {
    fn span(&self, name: &str, into: &mut Span) -> Result<(), String> {
        if let Some(text) = self.0.child_value(name) {
            let bad = || format!("{name} `{text}` is not an ISO 8601 duration");
            *into = Span::parse(text).ok_or_else(bad)?;
        }
        Ok(())
    }

    fn limit(&self, name: &str, into: &mut Option<Span>) -> Result<(), String> {
        let mut span = unlimited(*into);
        self.span(name, &mut span)?;
        *into = Some(span).filter(|span| !span.is_unlimited());
        Ok(())
    }

    fn number(&self, name: &str, into: &mut u32) -> Result<(), String> {
        if let Some(text) = self.0.child_value(name) {
            *into = text.parse().map_err(|_| format!("{name} `{text}` is not a number"))?;
        }
        Ok(())
    }

    fn flag(&self, name: &str, into: &mut bool) -> Result<(), String> {
        match self.0.child_value(name) {
            None => {}
            Some(text) if text.eq_ignore_ascii_case("true") => *into = true,
            Some(text) if text.eq_ignore_ascii_case("false") => *into = false,
            Some(text) => return Err(format!("{name} `{text}` is neither true nor false")),
        }
        Ok(())
    }

    fn status(&self, into: &mut EntityStatus) -> Result<(), String> {
        *into = match self.0.child_value("Status") {
            None => return Ok(()),
            Some("Active") => EntityStatus::Active,
            Some("Disabled") => EntityStatus::Disabled,
            Some("SendDisabled") => EntityStatus::SendDisabled,
            Some("ReceiveDisabled") => EntityStatus::ReceiveDisabled,
            Some(text) => return Err(format!("Status `{text}` is not known")),
        };
        Ok(())
    }

    /// A whole description is sent, so a target that is not there is none.
    fn target(&self, name: &str, into: &mut Option<String>) {
        *into = self.0.child_value(name).map(|text| match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path).to_owned(),
            None => text.to_owned(),
        });
    }

    fn metadata(&self, into: &mut Option<String>) {
        *into = self.0.child_value("UserMetadata").map(str::to_owned);
    }

    fn rules(&self, into: &mut Vec<AuthorizationRule>) -> Result<(), String> {
        let Some(rules) = self.0.child("AuthorizationRules") else { return Ok(()) };
        *into = rules.children.iter().map(rule).collect::<Result<_, _>>()?;
        Ok(())
    }
}

fn rule(element: &Element) -> Result<AuthorizationRule, String> {
    let rights = element.child("Rights").map(|rights| rights.children.as_slice());
    let right = |right: &Element| match right.text.trim() {
        "Send" => Ok(Right::Send),
        "Listen" => Ok(Right::Listen),
        "Manage" => Ok(Right::Manage),
        other => Err(format!("the right `{other}` is not known")),
    };
    let text = |name: &str| element.child_value(name).map(str::to_owned);
    Ok(AuthorizationRule {
        name: text("KeyName").unwrap_or_default(),
        primary_key: text("PrimaryKey").unwrap_or_default(),
        secondary_key: text("SecondaryKey"),
        rights: rights.unwrap_or_default().iter().map(right).collect::<Result<_, _>>()?,
    })
}

/// A queue as `element` describes it; what it does not say stays.
pub(super) fn queue(element: &Element, mut queue: Queue) -> Result<Queue, String> {
    let members = Members(element);
    members.span("LockDuration", &mut queue.lock_duration)?;
    members.number("MaxSizeInMegabytes", &mut queue.max_size_in_megabytes)?;
    members.flag("RequiresDuplicateDetection", &mut queue.requires_duplicate_detection)?;
    members.flag("RequiresSession", &mut queue.requires_session)?;
    members.limit("DefaultMessageTimeToLive", &mut queue.default_message_time_to_live)?;
    members.flag(
        "DeadLetteringOnMessageExpiration",
        &mut queue.dead_lettering_on_message_expiration,
    )?;
    members.span(
        "DuplicateDetectionHistoryTimeWindow",
        &mut queue.duplicate_detection_history_time_window,
    )?;
    members.number("MaxDeliveryCount", &mut queue.max_delivery_count)?;
    members.rules(&mut queue.authorization_rules)?;
    members.status(&mut queue.status)?;
    members.target("ForwardTo", &mut queue.forward_to);
    members.target("ForwardDeadLetteredMessagesTo", &mut queue.forward_dead_lettered_messages_to);
    members.metadata(&mut queue.user_metadata);
    members.limit("AutoDeleteOnIdle", &mut queue.auto_delete_on_idle)?;
    members.flag("EnablePartitioning", &mut queue.enable_partitioning)?;
    members.flag("EnableBatchedOperations", &mut queue.enable_batched_operations)?;
    members.flag("EnableExpress", &mut queue.enable_express)?;
    Ok(queue)
}

/// A topic as `element` describes it; what it does not say stays.
pub(super) fn topic(element: &Element, mut topic: Topic) -> Result<Topic, String> {
    let members = Members(element);
    members.limit("DefaultMessageTimeToLive", &mut topic.default_message_time_to_live)?;
    members.number("MaxSizeInMegabytes", &mut topic.max_size_in_megabytes)?;
    members.flag("RequiresDuplicateDetection", &mut topic.requires_duplicate_detection)?;
    members.span(
        "DuplicateDetectionHistoryTimeWindow",
        &mut topic.duplicate_detection_history_time_window,
    )?;
    members.rules(&mut topic.authorization_rules)?;
    members.status(&mut topic.status)?;
    members.metadata(&mut topic.user_metadata);
    members.flag("SupportOrdering", &mut topic.support_ordering)?;
    members.limit("AutoDeleteOnIdle", &mut topic.auto_delete_on_idle)?;
    members.flag("EnablePartitioning", &mut topic.enable_partitioning)?;
    members.flag("EnableBatchedOperations", &mut topic.enable_batched_operations)?;
    members.flag("EnableExpress", &mut topic.enable_express)?;
    Ok(topic)
}

/// A subscription as `element` describes it; what it does not say stays.
pub(super) fn subscription(
    element: &Element,
    mut subscription: Subscription,
) -> Result<Subscription, String> {
    let members = Members(element);
    members.span("LockDuration", &mut subscription.lock_duration)?;
    members.flag("RequiresSession", &mut subscription.requires_session)?;
    members.limit("DefaultMessageTimeToLive", &mut subscription.default_message_time_to_live)?;
    members.flag(
        "DeadLetteringOnMessageExpiration",
        &mut subscription.dead_lettering_on_message_expiration,
    )?;
    members.flag(
        "DeadLetteringOnFilterEvaluationExceptions",
        &mut subscription.dead_lettering_on_filter_evaluation_exceptions,
    )?;
    members.number("MaxDeliveryCount", &mut subscription.max_delivery_count)?;
    members.status(&mut subscription.status)?;
    members.target("ForwardTo", &mut subscription.forward_to);
    members.target(
        "ForwardDeadLetteredMessagesTo",
        &mut subscription.forward_dead_lettered_messages_to,
    );
    members.metadata(&mut subscription.user_metadata);
    members.limit("AutoDeleteOnIdle", &mut subscription.auto_delete_on_idle)?;
    members.flag("EnableBatchedOperations", &mut subscription.enable_batched_operations)?;
    Ok(subscription)
}
