//! The administration API: entities and rules as Atom documents over HTTP.
//!
//! Paths, verbs and documents are those of
//! <https://learn.microsoft.com/rest/api/servicebus/entity>. Every request carries a shared access
//! signature with the right to manage.

mod describe;
mod rules;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use journal::Position;
use percent_encoding::percent_decode_str;

use super::access::Rights;
use super::clock;
use super::hub::Hub;
use crate::broker::{
    Broker, Entity, EntityError, QueueId, Registered, Rule, RuleError, Timestamp, normalise,
};
use crate::limits::{ADMIN_PAGE_ENTRIES_MAX, XML_BOUNDS};
use crate::topology::{Definition, Queue, Subscription, Topic};
use describe::Surroundings;
use writer::Writer;
use xml::{Element, Unwritable};

const ATOM: &str = "http://www.w3.org/2005/Atom";

/// The name under which the one namespace is reported, the official emulator's.
const NAMESPACE: &str = "sbemulatorns";

/// An answer that ends a request early.
struct Refusal(StatusCode, String);

impl From<Unwritable> for Refusal {
    fn from(error: Unwritable) -> Refusal {
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("The description: {error}."))
    }
}

type Outcome = Result<(StatusCode, String), Refusal>;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Namespace,
    Queues,
    Topics,
    /// A queue or topic.
    Entity(String),
    Subscriptions(String),
    /// Path of a subscription.
    Subscription(String),
    Rules(String),
    Rule(String, String),
}

impl Target {
    fn of(path: &str) -> Option<Target> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let path = path.trim_matches('/');
        match path.to_ascii_lowercase().as_str() {
            "" => return None,
            "$namespaceinfo" => return Some(Target::Namespace),
            "$resources/queues" => return Some(Target::Queues),
            "$resources/topics" => return Some(Target::Topics),
            _ => {}
        }
        // Names keep their case; the words between them have any.
        let parts: Vec<&str> = path.split('/').collect();
        let is = |part: &&str, word: &str| part.eq_ignore_ascii_case(word);
        let Some(at) = parts.iter().position(|part| is(part, "subscriptions")).filter(|at| *at > 0)
        else {
            return Some(Target::Entity(path.to_owned()));
        };
        let topic = parts[..at].join("/");
        Some(match &parts[at + 1..] {
            [] => Target::Subscriptions(topic),
            [name] => Target::Subscription(format!("{topic}/Subscriptions/{name}")),
            [name, word] if is(word, "rules") => {
                Target::Rules(format!("{topic}/Subscriptions/{name}"))
            }
            [name, word, rule] if is(word, "rules") => {
                Target::Rule(format!("{topic}/Subscriptions/{name}"), (*rule).to_owned())
            }
            _ => return None,
        })
    }
}

/// One request, as far as it matters here.
struct Asked<'a> {
    method: &'a Method,
    body: &'a [u8],
    /// Whether the entity must be there: an update.
    updates: bool,
    skip: usize,
    top: usize,
    /// Path as it was asked for.
    path: &'a str,
    /// `http://host:port`.
    base: String,
    host: String,
}

/// Answers one request, and says up to where the journal must be durable before the answer is given.
pub(super) fn answer(
    hub: &Hub,
    head: &Parts,
    body: &Bytes,
    tls: bool,
) -> (Response<Full<Bytes>>, Position) {
    let path = head.uri.path();
    if path == "/health" {
        let text = "{\"status\":\"healthy\",\"message\":\"Service is healthy.\"}";
        return (respond(StatusCode::OK, "application/json", text.into()), Position::default());
    }
    let mut position = Position::default();
    let outcome = authorize(hub, head).and_then(|()| {
        let target = Target::of(path).ok_or_else(|| {
            Refusal(StatusCode::NOT_FOUND, format!("There is nothing at {path}."))
        })?;
        let text = |name| head.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let host = text(header::HOST).unwrap_or(NAMESPACE).to_owned();
        let number = |name: &str| {
            let query = head.uri.query().unwrap_or_default().replace("%24", "$");
            query.split('&').find_map(|pair| {
                pair.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok()
            })
        };
        let asked = Asked {
            method: &head.method,
            path,
            body,
            updates: head.headers.contains_key(header::IF_MATCH),
            skip: number("$skip").unwrap_or(0),
            top: number("$top").unwrap_or(usize::MAX).clamp(1, ADMIN_PAGE_ENTRIES_MAX),
            base: format!("{}://{host}", if tls { "https" } else { "http" }),
            host,
        };
        let (outcome, until) = carry_out(hub, &target, &asked);
        position = until;
        outcome
    });
    let response = match outcome {
        Ok((status, text)) => {
            respond(status, "application/atom+xml;type=entry;charset=utf-8", text)
        }
        Err(Refusal(status, detail)) => problem(status, &detail),
    };
    (response, position)
}

/// An answer that says what is wrong, as the service does.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    // What was asked for may be quoted in it.
    let detail = detail.replace(|character| !xml::is_char(character), "\u{fffd}");
    let mut out = Writer::bare();
    out.open("Error").element("Code", status.as_u16()).element("Detail", detail).close("Error");
    respond(status, "application/xml; charset=utf-8", out.finish().unwrap_or_default())
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn authorize(hub: &Hub, head: &Parts) -> Result<(), Refusal> {
    let refuse = |detail: &str| {
        let detail = format!("InvalidSignature: {detail}.");
        Err(Refusal(StatusCode::UNAUTHORIZED, detail))
    };
    let token = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = token else { return refuse("the Authorization header is missing") };
    let rules = |path: &str| hub.with(None, |broker| broker.access_rules(path));
    let host = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    match hub.keys.verify(token, head.uri.path(), host, clock::now(), rules) {
        Ok((_, rights)) if rights == Rights::ALL => Ok(()),
        Ok(_) => refuse("Manage claim is required for this operation"),
        Err(error) => refuse(&error.to_string()),
    }
}

fn carry_out(hub: &Hub, target: &Target, asked: &Asked<'_>) -> (Outcome, Position) {
    let of = Surroundings { host: &asked.host, max_message_bytes: hub.max_message_bytes };
    hub.with_position(None, |broker| {
        let now = clock::now();
        broker.advance(now);
        match (target, asked.method) {
            (Target::Namespace, &Method::GET) => {
                Ok((StatusCode::OK, namespace(broker, now, asked)?))
            }
            (Target::Queues, &Method::GET) => {
                entity_feed(broker, asked, &of, |one| matches!(one, Definition::Queue(_)))
            }
            (Target::Topics, &Method::GET) => {
                entity_feed(broker, asked, &of, |one| matches!(one, Definition::Topic(_)))
            }
            (Target::Subscriptions(topic), &Method::GET) => {
                if !matches!(broker.resolve(&normalise(topic)), Some(Entity::Topic(_))) {
                    return Err(not_found(topic));
                }
                entity_feed(broker, asked, &of, |one| {
                    let Definition::Subscription { topic: of, .. } = one else { return false };
                    of.eq_ignore_ascii_case(topic)
                })
            }
            (Target::Entity(path) | Target::Subscription(path), &Method::GET) => {
                let entity = registered(broker, path)?.clone();
                Ok((StatusCode::OK, entry_document(broker, &entity, asked, &of)?))
            }
            (Target::Entity(path) | Target::Subscription(path), &Method::DELETE) => {
                registered(broker, path)?;
                broker.delete(now, path).map_err(|error| refused(&error))?;
                Ok((StatusCode::OK, String::new()))
            }
            (Target::Entity(path), &Method::PUT) => put_entity(broker, now, path, asked, &of),
            (Target::Subscription(path), &Method::PUT) => {
                put_subscription(broker, now, path, asked, &of)
            }
            (Target::Rules(path), &Method::GET) => {
                let rules = broker.rules(subscription(broker, path)?);
                let put = |out: &mut Writer, rule: &Arc<Rule>| {
                    put_rule_entry(out, path, rule, asked);
                };
                Ok((StatusCode::OK, feed(asked, "Rules", rules.iter(), put)?))
            }
            (Target::Rule(path, name), &Method::GET) => {
                let queue = subscription(broker, path)?;
                let rules = broker.rules(queue);
                let rule = rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name));
                let rule = rule.ok_or_else(|| not_found(&format!("{path}/Rules/{name}")))?;
                Ok((StatusCode::OK, rule_document(path, rule, asked)?))
            }
            (Target::Rule(path, name), &Method::DELETE) => {
                let queue = subscription(broker, path)?;
                broker.remove_rule(now, queue, name).map_err(|error| rule_refused(&error))?;
                Ok((StatusCode::OK, String::new()))
            }
            (Target::Rule(path, name), &Method::PUT) => put_rule(broker, now, path, name, asked),
            _ => {
                let detail = format!("{} is not possible here.", asked.method);
                Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, detail))
            }
        }
    })
}

fn not_found(path: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("The messaging entity '{path}' could not be found."))
}

fn refused(error: &EntityError) -> Refusal {
    let status = match error {
        EntityError::Exists(_) => StatusCode::CONFLICT,
        EntityError::NotFound(_) => StatusCode::NOT_FOUND,
        EntityError::Invalid(_) => StatusCode::BAD_REQUEST,
        EntityError::TooMany => StatusCode::FORBIDDEN,
    };
    Refusal(status, format!("{error}."))
}

fn rule_refused(error: &RuleError) -> Refusal {
    let status = match error {
        RuleError::Exists(_) => StatusCode::CONFLICT,
        RuleError::NotFound(_) => StatusCode::NOT_FOUND,
        RuleError::TooMany => StatusCode::FORBIDDEN,
    };
    Refusal(status, format!("{error}."))
}

fn bad_request(detail: impl std::fmt::Display) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, format!("{detail}."))
}

fn registered<'a>(broker: &'a Broker, path: &str) -> Result<&'a Registered, Refusal> {
    broker.registered(path).ok_or_else(|| not_found(path))
}

fn subscription(broker: &Broker, path: &str) -> Result<QueueId, Refusal> {
    match broker.resolve(&normalise(path)) {
        Some(Entity::Subscription(queue)) => Ok(queue),
        _ => Err(not_found(path)),
    }
}

fn put_entity(
    broker: &mut Broker,
    now: Timestamp,
    path: &str,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
) -> Outcome {
    let root = Element::parse(asked.body, XML_BOUNDS).map_err(bad_request)?;
    let known = broker.registered(path).map(|known| (*known.definition).clone());
    let known = known.filter(|_| asked.updates);
    let definition = if let Some(element) = root.find("QueueDescription") {
        let base = match known {
            Some(Definition::Queue(queue)) => queue,
            _ => Queue::named(path.to_owned()),
        };
        Definition::Queue(describe::queue(element, base).map_err(bad_request)?)
    } else if let Some(element) = root.find("TopicDescription") {
        let base = match known {
            Some(Definition::Topic(topic)) => topic,
            _ => Topic::named(path.to_owned()),
        };
        Definition::Topic(describe::topic(element, base).map_err(bad_request)?)
    } else {
        return Err(bad_request("the body describes neither a queue nor a topic"));
    };
    define(broker, now, definition, asked, of)
}

fn define(
    broker: &mut Broker,
    now: Timestamp,
    definition: Definition,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
) -> Outcome {
    let path = definition.path();
    let status = if asked.updates {
        broker.update(now, definition).map_err(|error| refused(&error))?;
        StatusCode::OK
    } else {
        broker.create(now, definition).map_err(|error| refused(&error))?;
        StatusCode::CREATED
    };
    let entity = registered(broker, &path)?.clone();
    Ok((status, entry_document(broker, &entity, asked, of)?))
}

fn put_subscription(
    broker: &mut Broker,
    now: Timestamp,
    path: &str,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
) -> Outcome {
    let root = Element::parse(asked.body, XML_BOUNDS).map_err(bad_request)?;
    let element = root
        .find("SubscriptionDescription")
        .ok_or_else(|| bad_request("the body does not describe a subscription"))?;
    let (topic, name) = path.split_once("/Subscriptions/").ok_or_else(|| not_found(path))?;
    let known = broker.registered(path).map(|known| (*known.definition).clone());
    let base = match known.filter(|_| asked.updates) {
        Some(Definition::Subscription { subscription, .. }) => subscription,
        _ => Subscription::named(name.to_owned()),
    };
    let first = element.child("DefaultRuleDescription").filter(|_| !asked.updates);
    let first = first.map(|rule| {
        rules::rule(rule, rule.child_value("Name").unwrap_or("$Default")).map_err(bad_request)
    });
    let first = first.transpose()?;
    let subscription = describe::subscription(element, base).map_err(bad_request)?;
    let definition = Definition::Subscription { topic: topic.to_owned(), subscription };
    let answer = define(broker, now, definition, asked, of)?;
    if let Some(rule) = first {
        let queue = self::subscription(broker, path)?;
        broker.remove_rule(now, queue, "$Default").map_err(|error| rule_refused(&error))?;
        broker.add_rule(now, queue, rule).map_err(|error| rule_refused(&error))?;
    }
    Ok(answer)
}

fn put_rule(
    broker: &mut Broker,
    now: Timestamp,
    path: &str,
    name: &str,
    asked: &Asked<'_>,
) -> Outcome {
    let queue = subscription(broker, path)?;
    let root = Element::parse(asked.body, XML_BOUNDS).map_err(bad_request)?;
    let element = root
        .find("RuleDescription")
        .ok_or_else(|| bad_request("the body does not describe a rule"))?;
    let rule = rules::rule(element, name).map_err(bad_request)?;
    let status = if asked.updates { StatusCode::OK } else { StatusCode::CREATED };
    if asked.updates {
        broker.remove_rule(now, queue, name).map_err(|error| rule_refused(&error))?;
    }
    broker.add_rule(now, queue, rule).map_err(|error| rule_refused(&error))?;
    let rules = broker.rules(queue);
    let rule = rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name));
    let rule = rule.ok_or_else(|| not_found(name))?;
    Ok((status, rule_document(path, rule, asked)?))
}

fn namespace(broker: &Broker, now: Timestamp, asked: &Asked<'_>) -> Result<String, Unwritable> {
    // It is as old as what has been there longest.
    let created = broker.all_registered().map(|entity| entity.created_at).min().unwrap_or(now);
    let modified = broker.all_registered().map(|entity| entity.updated_at).max().unwrap_or(now);
    let mut out = Writer::document();
    begin_entry(&mut out, NAMESPACE, "$namespaceinfo", created, modified, asked, true);
    out.open(&describe::description("NamespaceInfo"))
        .element("CreatedTime", created)
        .element("MessagingSKU", "Standard")
        .element("ModifiedTime", modified)
        .element("Name", NAMESPACE)
        .element("NamespaceType", "Messaging")
        .close("NamespaceInfo");
    end_entry(&mut out);
    out.finish()
}

fn entity_feed(
    broker: &Broker,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
    wanted: impl Fn(&Definition) -> bool,
) -> Outcome {
    let entities = broker.all_registered().filter(|entity| wanted(&entity.definition));
    let put = |out: &mut Writer, entity: &Registered| {
        put_entry(out, broker, entity, asked, of, false);
    };
    Ok((StatusCode::OK, feed(asked, "Entities", entities, put)?))
}

/// The page that is asked for, with the address of the one after it. Both clients go on by that
/// address, and both look for it beside one of the page itself.
fn feed<T>(
    asked: &Asked<'_>,
    title: &str,
    all: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Writer, T),
) -> Result<String, Unwritable> {
    let address = |skip| {
        let Asked { base, path, top, .. } = asked;
        format!("{base}{path}?$skip={skip}&$top={top}")
    };
    let mut out = Writer::document();
    out.open(&format!("feed xmlns=\"{ATOM}\""))
        .element("title type=\"text\"", title)
        .element("id", &asked.base)
        .element("updated", clock::now())
        .link("self", &address(asked.skip));
    let mut rest = all.skip(asked.skip);
    let page: Vec<T> = rest.by_ref().take(asked.top).collect();
    if !page.is_empty() && rest.next().is_some() {
        out.link("next", &address(asked.skip + page.len()));
    }
    for one in page {
        put(&mut out, one);
    }
    out.close("feed");
    out.finish()
}

/// The name of an entity within what contains it.
fn title(definition: &Definition) -> &str {
    match definition {
        Definition::Queue(queue) => &queue.name,
        Definition::Topic(topic) => &topic.name,
        Definition::Subscription { subscription, .. } => &subscription.name,
    }
}

fn entry_document(
    broker: &Broker,
    entity: &Registered,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
) -> Result<String, Unwritable> {
    let mut out = Writer::document();
    put_entry(&mut out, broker, entity, asked, of, true);
    out.finish()
}

fn put_entry(
    out: &mut Writer,
    broker: &Broker,
    entity: &Registered,
    asked: &Asked<'_>,
    of: &Surroundings<'_>,
    alone: bool,
) {
    let path = entity.definition.path();
    let (created, updated) = (entity.created_at, entity.updated_at);
    begin_entry(out, title(&entity.definition), &path, created, updated, asked, alone);
    let runtime = broker.runtime(&path).unwrap_or_default();
    describe::put(out, entity, &runtime, of);
    end_entry(out);
}

fn rule_document(path: &str, rule: &Rule, asked: &Asked<'_>) -> Result<String, Unwritable> {
    let mut out = Writer::document();
    let at = rule.created_at;
    let path = format!("{path}/Rules/{}", rule.name);
    begin_entry(&mut out, &rule.name, &path, at, at, asked, true);
    rules::put(&mut out, rule);
    end_entry(&mut out);
    out.finish()
}

fn put_rule_entry(out: &mut Writer, path: &str, rule: &Rule, asked: &Asked<'_>) {
    let at = rule.created_at;
    begin_entry(out, &rule.name, &format!("{path}/Rules/{}", rule.name), at, at, asked, false);
    rules::put(out, rule);
    end_entry(out);
}

fn begin_entry(
    out: &mut Writer,
    title: &str,
    path: &str,
    created: Timestamp,
    updated: Timestamp,
    asked: &Asked<'_>,
    alone: bool,
) {
    let tag = if alone { format!("entry xmlns=\"{ATOM}\"") } else { "entry".into() };
    out.open(&tag)
        .element("id", format!("{}/{path}", asked.base))
        .element("title type=\"text\"", title)
        .element("published", created)
        .element("updated", updated)
        .open("author")
        .element("name", NAMESPACE)
        .close("author")
        .open("content type=\"application/xml\"");
}

fn end_entry(out: &mut Writer) {
    out.close("content").close("entry");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_the_clients_mean() {
        let path = |text: &str| text.to_owned();
        for (text, target) in [
            ("/orders", Some(Target::Entity(path("orders")))),
            ("/a/b", Some(Target::Entity(path("a/b")))),
            ("/$Resources/queues", Some(Target::Queues)),
            ("/$Resources/Topics", Some(Target::Topics)),
            ("/$namespaceinfo", Some(Target::Namespace)),
            ("/t/subscriptions", Some(Target::Subscriptions(path("t")))),
            ("/t/Subscriptions/s", Some(Target::Subscription(path("t/Subscriptions/s")))),
            ("/t/subscriptions/s/rules", Some(Target::Rules(path("t/Subscriptions/s")))),
            (
                "/a%2Fb/subscriptions/s/Rules/%24Default",
                Some(Target::Rule(path("a/b/Subscriptions/s"), path("$Default"))),
            ),
            ("/", None),
            ("/t/subscriptions/s/other", None),
        ] {
            assert_eq!(Target::of(text), target, "{text}");
        }
    }
}
