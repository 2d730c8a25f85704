//! Puts a real service, or a local stand-in, through everything this crate asks of it.
//!
//! ```text
//! cargo run -p azure --example probe -- \
//!     --cosmos "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=…" \
//!     --container <database>/<container>/<partition key property> \
//!     --bus "Endpoint=sb://127.0.0.1:5672;…;UseDevelopmentEmulator=true" \
//!     --topic <topic> --subscription <subscription> --property <name>=<value> \
//!     [--rate <seconds>]
//! ```
//!
//! Every line of output is one thing that held. The first one that does not ends the run with its
//! cause. With `--rate`, the pace and the cost of each operation are measured instead, and failures
//! are counted: break the service meanwhile to see how long callers are kept waiting.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use azure::{
    bus::{
        BusClient, BusError, BusOptions, Disposition, Message, MessageState, Received, Receiver,
        ReceiverOptions, SubQueue,
    },
    connection::{BusConnection, CosmosConnection},
    cosmos::{
        BatchOperation, BatchOutcome, Container, Patch, PatchOutcome, Query, Scope, Store,
        StoreError, StoreOptions, literal,
    },
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long an event may take to show.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a caller whose operation failed stays away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Callers at a time when measuring under load.
const CALLERS: usize = 16;

macro_rules! hold {
    ($condition:expr, $($what:tt)+) => {
        if $condition {
            println!("ok   {}", format!($($what)+));
        } else {
            return Err(format!("does not hold: {} ({})", format!($($what)+), stringify!($condition)).into());
        }
    };
}

#[derive(Default)]
struct Arguments {
    cosmos: Option<String>,
    container: Option<String>,
    bus: Option<String>,
    topic: Option<String>,
    subscription: Option<String>,
    property: Option<String>,
    rate: Option<u64>,
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--cosmos" => arguments.cosmos = Some(value),
            "--container" => arguments.container = Some(value),
            "--bus" => arguments.bus = Some(value),
            "--topic" => arguments.topic = Some(value),
            "--subscription" => arguments.subscription = Some(value),
            "--property" => arguments.property = Some(value),
            "--rate" => arguments.rate = Some(value.parse()?),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok(arguments)
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = arguments()?;
    if let Some(text) = &arguments.cosmos {
        let place = arguments.container.as_deref().ok_or("--container is needed")?;
        let [database, container, key] = place.split('/').collect::<Vec<_>>()[..] else {
            return Err("--container a/b/c".into());
        };
        let connection = CosmosConnection::from_connection_string(text)?;
        let store = Store::new(connection, database, StoreOptions::default());
        let started = Instant::now();
        store.ping().await.map_err(chain)?;
        println!("ok   connected to the store in {:?}", started.elapsed());
        let probe =
            StoreProbe { container: store.container(container), store, key: key.to_owned() };
        match arguments.rate {
            None => probe.check().await.map_err(|error| format!("store: {error}"))?,
            Some(seconds) => probe.measure(Duration::from_secs(seconds)).await?,
        }
    }
    if let Some(text) = &arguments.bus {
        let connection = BusConnection::from_connection_string(text)?;
        let client = BusClient::new(connection, BusOptions::default());
        let started = Instant::now();
        client.ping().await.map_err(chain)?;
        println!("ok   connected to the broker in {:?}", started.elapsed());
        let probe = BusProbe {
            client,
            topic: arguments.topic.clone().ok_or("--topic is needed")?,
            subscription: arguments.subscription.clone().ok_or("--subscription is needed")?,
            property: arguments
                .property
                .as_deref()
                .and_then(|text| text.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        };
        match arguments.rate {
            None => probe.check().await.map_err(|error| format!("bus: {error}"))?,
            Some(seconds) => probe.measure(Duration::from_secs(seconds)).await?,
        }
    }
    Ok(())
}

/// An error with its causes, on one line.
fn chain(error: impl Error) -> Box<dyn Error + Send + Sync> {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.into()
}

struct StoreProbe {
    store: Store,
    container: Container,
    key: String,
}

impl StoreProbe {
    fn document(&self, key: &str, id: &str, rest: Value) -> Value {
        let mut document = rest;
        document["id"] = id.into();
        document[&self.key] = key.into();
        document
    }

    async fn check(&self) -> Outcome {
        let items = &self.container;
        let key = format!("probe {}", Uuid::new_v4());
        let id = format!("event:{}:1 ä+%", Uuid::new_v4());
        let document = self.document(&key, &id, json!({"n": 1, "status": {"a": "pending"}}));

        let etag = items.create(&key, &document).await.map_err(chain)?;
        hold!(!etag.as_str().is_empty(), "create answers a version");
        let again = items.create(&key, &document).await;
        hold!(matches!(again, Err(StoreError::Conflict)), "creating again is a conflict");
        let read = items.read::<Value>(&key, &id).await.map_err(chain)?.ok_or("not there")?;
        hold!(read.value["n"] == 1 && read.etag == etag, "read finds it, at its version");
        hold!(
            items.read::<Value>(&key, "nothing").await.map_err(chain)?.is_none(),
            "absence is None"
        );

        let claim = Patch::new()
            .set("/status/a", "processing")
            .increment("/attempt", 1)
            .when(format!("FROM c WHERE c.status.a = {}", literal("pending")));
        let outcome = items.patch::<Value>(&key, &id, &claim).await.map_err(chain)?;
        let PatchOutcome::Applied(patched) = outcome else {
            return Err(format!("{outcome:?}").into());
        };
        hold!(patched.value["attempt"] == 1, "a conditional patch applies, and creates a counter");
        hold!(patched.etag != etag, "a patch makes a new version");
        let outcome = items.patch::<Value>(&key, &id, &claim).await.map_err(chain)?;
        hold!(outcome == PatchOutcome::ConditionFailed, "the same claim fails the second time");
        let outcome = items.patch::<Value>(&key, "nothing", &claim).await.map_err(chain)?;
        hold!(outcome == PatchOutcome::NotFound, "patching nothing is told apart");
        let lost = Patch::new().set("/no/such/parent", 1);
        let outcome = items.patch::<Value>(&key, &id, &lost).await;
        hold!(
            matches!(outcome, Err(StoreError::BadRequest { .. })),
            "a path to nowhere is a bad request"
        );

        let stale = items.replace(&key, &id, &document, Some(&etag)).await;
        hold!(
            matches!(stale, Err(StoreError::PreconditionFailed)),
            "an old version replaces nothing"
        );
        let fresh =
            items.replace(&key, &id, &document, Some(&patched.etag)).await.map_err(chain)?;
        hold!(fresh != patched.etag, "the current version does");
        items.upsert(&key, &document, None).await.map_err(chain)?;

        self.check_batches(&key, &id).await?;
        self.check_queries(&key).await?;

        items.delete(&key, &id, None).await.map_err(chain)?;
        let gone = items.delete(&key, &id, None).await;
        hold!(matches!(gone, Err(StoreError::ItemNotFound)), "deleting twice is told apart");
        let missing = self.store.container("no-such-container").read::<Value>("a", "b").await;
        hold!(
            matches!(missing, Err(StoreError::NotFound { .. })),
            "a missing container is told apart"
        );
        self.check_round_trips(&key).await
    }

    async fn check_batches(&self, key: &str, id: &str) -> Outcome {
        let items = &self.container;
        let other = self.document(key, "other", json!({"n": 7}));
        let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 1");
        let batch = |patch: &Patch| {
            vec![
                BatchOperation::create(&other),
                BatchOperation::patch(id.to_owned(), patch),
                BatchOperation::read(id.to_owned()),
            ]
        };
        let rejected = items
            .batch(key, batch(&Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 99")))
            .await
            .map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { index: 1, status: 412, .. }),
            "a batch whose condition fails is rejected at that operation"
        );
        hold!(
            items.read::<Value>(key, "other").await.map_err(chain)?.is_none(),
            "nothing of a rejected batch is left"
        );
        let outcome = items.batch(key, batch(&patch)).await.map_err(chain)?;
        let BatchOutcome::Committed(results) = outcome else {
            return Err(format!("{outcome:?}").into());
        };
        let read = results[2].document::<Value>().map_err(chain)?.ok_or("read in a batch")?;
        hold!(read.value["n"] == 2, "a batch sees its own writes");
        let rejected =
            items.batch(key, vec![BatchOperation::create(&other)]).await.map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { index: 0, status: 409, .. }),
            "an existing id rejects a batch"
        );
        let stale = vec![BatchOperation::delete("other").if_match("\"old\"".into())];
        let rejected = items.batch(key, stale).await.map_err(chain)?;
        hold!(
            matches!(rejected, BatchOutcome::Rejected { status: 412, .. }),
            "a version in a batch is honoured"
        );
        hold!(
            items
                .batch(key, vec![BatchOperation::delete("other")])
                .await
                .map_err(chain)?
                .is_committed(),
            "a batch deletes"
        );
        Ok(())
    }

    async fn check_queries(&self, key: &str) -> Outcome {
        let items = &self.container;
        let marker = Uuid::new_v4().to_string();
        for n in 0..5 {
            let document = self.document(key, &format!("q{n}"), json!({"marker": marker, "n": n}));
            items.upsert(key, &document, None).await.map_err(chain)?;
        }
        let newest = Query::new("SELECT VALUE c.n FROM c WHERE c.marker = @m ORDER BY c.n DESC")
            .with("@m", marker.as_str());
        let scope = || Scope::Partition(key.to_owned());
        let found: Vec<i64> = items.query(&newest, scope(), 3).await.map_err(chain)?;
        hold!(found == [4, 3, 2], "a query in one partition is ordered and limited");
        let found: Vec<i64> = items.query(&newest, Scope::All, 10).await.map_err(chain)?;
        hold!(found == [4, 3, 2, 1, 0], "a query over all partitions is ordered");
        for (name, scope) in [("one partition", scope()), ("all partitions", Scope::All)] {
            let mut pages = Vec::new();
            let mut token = None;
            loop {
                let page = items
                    .query_page::<i64>(&newest, scope.clone(), 2, token.as_deref())
                    .await
                    .map_err(chain)?;
                pages.push(page.items);
                token = page.continuation;
                if token.is_none() {
                    break;
                }
            }
            hold!(
                pages.concat() == [4, 3, 2, 1, 0] && pages.iter().all(|page| page.len() <= 2),
                "pages over {name} fit together: {pages:?}"
            );
        }
        let count =
            Query::new("SELECT VALUE COUNT(1) FROM c WHERE c.marker = @m").with("@m", marker);
        let counted: Vec<i64> = items.query(&count, scope(), 1).await.map_err(chain)?;
        hold!(counted == [5], "one partition counts");
        let broken = items.query::<Value>(&Query::new("SELEKT"), scope(), 1).await;
        hold!(
            matches!(broken, Err(StoreError::BadRequest { .. })),
            "a broken query is a bad request"
        );
        Ok(())
    }

    async fn check_round_trips(&self, key: &str) -> Outcome {
        let items = &self.container;
        let document = self.document(key, "trips", json!({"n": 0}));
        items.upsert(key, &document, None).await.map_err(chain)?;
        let before = self.store.stats();
        items.read::<Value>(key, "trips").await.map_err(chain)?;
        let read = self.store.stats();
        let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n = 0");
        items.patch::<Value>(key, "trips", &patch).await.map_err(chain)?;
        let patched = self.store.stats();
        let batch = vec![
            BatchOperation::patch("trips", &Patch::new().set("/n", 5)),
            BatchOperation::delete("trips"),
        ];
        items.batch(key, batch).await.map_err(chain)?;
        let batched = self.store.stats();
        hold!(
            [
                read.requests - before.requests,
                patched.requests - read.requests,
                batched.requests - patched.requests
            ] == [1, 1, 1],
            "a read, a patch and a batch are one request each"
        );
        hold!(
            batched.request_units > before.request_units,
            "the cost is counted ({:.2} request units)",
            batched.request_units - before.request_units
        );
        Ok(())
    }

    async fn measure(&self, pace: Duration) -> Outcome {
        self.container.warm_up().await.map_err(chain)?;
        for callers in [1, CALLERS] {
            self.rate("read", callers, pace, |items, key, _| async move {
                items.read::<Value>(&key, "r").await.map(drop)
            })
            .await?;
            self.rate("patch", callers, pace, |items, key, _| async move {
                let patch = Patch::new().increment("/n", 1).when("FROM c WHERE c.n >= 0");
                items.patch::<Value>(&key, "r", &patch).await.map(drop)
            })
            .await?;
            let name = self.key.clone();
            self.rate("batch of two creates", callers, pace, move |items, key, n| {
                let documents = ["a", "b"]
                    .map(|part| json!({"id": format!("{part}{n}"), (&name): key, "ttl": 60}));
                async move {
                    let operations = documents.iter().map(BatchOperation::create).collect();
                    items.batch(&key, operations).await.map(drop)
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn rate<F, A>(&self, what: &str, callers: usize, pace: Duration, operation: F) -> Outcome
    where
        F: Fn(Container, String, u64) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<(), StoreError>> + Send,
    {
        let cpu = cpu_time()?;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (items, operation) = (self.container.clone(), operation.clone());
            let key = format!("rate {}", Uuid::new_v4());
            items
                .upsert(&key, &self.document(&key, "r", json!({"n": 0})), None)
                .await
                .map_err(chain)?;
            tasks.spawn(async move {
                let mut run = Run::default();
                let mut n = 0;
                while started.elapsed() < pace {
                    n += 1;
                    run.record(|| operation(items.clone(), key.clone(), n)).await;
                }
                run
            });
        }
        report(what, callers, started, cpu, tasks).await
    }
}

/// What one caller saw.
#[derive(Default)]
struct Run {
    times: Vec<Duration>,
    failures: usize,
    longest_failure: Duration,
    last_failure: String,
}

impl Run {
    async fn record<A, E>(&mut self, operation: impl FnOnce() -> A)
    where
        A: Future<Output = Result<(), E>>,
        E: Error,
    {
        let begun = Instant::now();
        match operation().await {
            Ok(()) => self.times.push(begun.elapsed()),
            Err(error) => {
                self.failures += 1;
                self.longest_failure = self.longest_failure.max(begun.elapsed());
                self.last_failure = chain(error).to_string();
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

async fn report(
    what: &str,
    callers: usize,
    started: Instant,
    cpu: Duration,
    mut tasks: JoinSet<Run>,
) -> Outcome {
    let mut total = Run::default();
    while let Some(run) = tasks.join_next().await {
        let run = run?;
        total.times.extend(run.times);
        total.failures += run.failures;
        total.longest_failure = total.longest_failure.max(run.longest_failure);
        if run.failures > 0 {
            total.last_failure = run.last_failure;
        }
    }
    let elapsed = started.elapsed();
    let cpu = cpu_time()?.saturating_sub(cpu);
    let mut times = total.times;
    times.sort();
    let count = times.len().max(1);
    println!(
        "{what:<24} {callers:>3} callers  {:>7.0}/s  p50 {:>9.3?}  p99 {:>9.3?}  {:>7.1?} CPU each",
        times.len() as f64 / elapsed.as_secs_f64(),
        times.get(count / 2).copied().unwrap_or_default(),
        times.get(count * 99 / 100).copied().unwrap_or_default(),
        cpu / count as u32,
    );
    if total.failures > 0 {
        let Run { failures, longest_failure, last_failure, .. } = total;
        println!("{:<24} {failures} failed, within {longest_failure:?}: {last_failure}", "");
    }
    Ok(())
}

/// Processor time of this process so far, from `/proc`; zero where there is none.
fn cpu_time() -> Outcome<Duration> {
    /// Clock ticks of `/proc`, in milliseconds: 100 per second on every Linux.
    const TICK_MILLIS: u64 = 10;
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let spent = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Ok(Duration::from_millis(spent * TICK_MILLIS))
}

struct BusProbe {
    client: BusClient,
    topic: String,
    subscription: String,
    property: Option<(String, String)>,
}

impl BusProbe {
    fn message(&self, body: &str) -> Message {
        let message = Message {
            message_id: Some(Uuid::new_v4().to_string()),
            content_type: Some("text/plain".to_owned()),
            correlation_id: Some("probe".to_owned()),
            ..Message::new(body.to_owned())
        };
        match &self.property {
            Some((name, value)) => message.with_property(name, value.as_str()),
            None => message,
        }
    }

    fn receiver(&self, sub_queue: SubQueue) -> Receiver {
        self.client.receiver(&self.topic, Some(&self.subscription), ReceiverOptions { sub_queue })
    }

    /// The one message with this body; others are left to others.
    async fn expect(&self, receiver: &Receiver, body: &str) -> Outcome<Received> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for received in receiver.receive(1, Duration::from_secs(1)).await.map_err(chain)? {
                if received.message.body == body {
                    return Ok(received);
                }
                receiver.complete(&received).await.map_err(chain)?;
            }
        }
        Err(format!("message {body:?} did not come").into())
    }

    async fn check(&self) -> Outcome {
        let sender = self.client.sender(&self.topic);
        let receiver = self.receiver(SubQueue::None);
        let (normal, dead) = (&receiver, &self.receiver(SubQueue::DeadLetter));

        let sent =
            self.message("first").with_property("long", 1i64 << 40).with_property("on", true);
        sender.send(&sent).await.map_err(chain)?;
        let got = self.expect(normal, "first").await?;
        hold!(
            got.message.application_properties == sent.application_properties,
            "properties keep their types"
        );
        hold!(
            got.message.message_id == sent.message_id
                && got.message.correlation_id == sent.correlation_id
                && got.message.content_type == sent.content_type,
            "broker properties arrive"
        );
        hold!(
            got.delivery_count == 0 && got.sequence_number > 0 && got.enqueued_at.is_some(),
            "the broker adds its own"
        );
        let until = got.locked_until.ok_or("no lock end")?;
        let renewed = normal.renew_lock(&got).await.map_err(chain)?;
        hold!(renewed >= until, "a lock is renewed");
        normal.abandon(&got).await.map_err(chain)?;
        let got = self.expect(normal, "first").await?;
        hold!(got.delivery_count == 1, "an abandoned message comes again, and is counted");
        normal.complete(&got).await.map_err(chain)?;
        let twice = normal.complete(&got).await;
        hold!(matches!(twice, Err(BusError::LockLost)), "completing twice is a lost lock");

        self.check_dead_letters(normal, dead).await?;
        self.check_batches(normal).await?;
        self.check_management(normal).await?;

        let nowhere = self.client.sender("no-such-entity").send(&self.message("x")).await;
        hold!(matches!(nowhere, Err(BusError::NotFound { .. })), "a missing entity is told apart");
        let empty = Instant::now();
        hold!(
            normal.receive(5, Duration::from_millis(300)).await.map_err(chain)?.is_empty(),
            "an empty entity is empty"
        );
        hold!(empty.elapsed() < Duration::from_secs(2), "after {:?}", empty.elapsed());
        sender.send(&self.message("after waiting")).await.map_err(chain)?;
        let got = self.expect(normal, "after waiting").await?;
        hold!(got.delivery_count == 0, "no credit was left behind to swallow the next message");
        normal.complete(&got).await.map_err(chain)?;
        Ok(())
    }

    async fn check_dead_letters(&self, normal: &Receiver, dead: &Receiver) -> Outcome {
        let sender = self.client.sender(&self.topic);
        sender.send(&self.message("poison")).await.map_err(chain)?;
        let got = self.expect(normal, "poison").await?;
        normal.dead_letter(&got, "Poison", "not what was expected").await.map_err(chain)?;
        let buried = self.expect(dead, "poison").await?;
        hold!(
            buried.dead_letter_reason.as_deref() == Some("Poison")
                && buried.dead_letter_description.as_deref() == Some("not what was expected"),
            "a dead letter says why"
        );
        hold!(buried.message.message_id == got.message.message_id, "and keeps its id");
        dead.complete(&buried).await.map_err(chain)?;

        // What a function does with a message that its host holds.
        sender.send(&self.message("held elsewhere")).await.map_err(chain)?;
        let got = self.expect(normal, "held elsewhere").await?;
        let token = got.lock_token.ok_or("no lock token")?;
        let other = BusClient::clone(&self.client);
        let disposition =
            Disposition::DeadLettered { reason: "Remote".into(), description: "by token".into() };
        other
            .management(normal.entity())
            .update_disposition(&[token], &disposition)
            .await
            .map_err(chain)?;
        let buried = self.expect(dead, "held elsewhere").await?;
        hold!(
            buried.dead_letter_reason.as_deref() == Some("Remote"),
            "a lock token is enough to dead-letter"
        );
        dead.complete(&buried).await.map_err(chain)?;
        let late = normal.complete(&got).await;
        hold!(matches!(late, Err(BusError::LockLost)), "the holder learns that its lock is gone");
        Ok(())
    }

    async fn check_batches(&self, normal: &Receiver) -> Outcome {
        let filler = "x".repeat(1000);
        let batch: Vec<Message> =
            (0..600).map(|n| self.message(&format!("{n:03}{filler}"))).collect();
        self.client.sender(&self.topic).send_batch(&batch).await.map_err(chain)?;
        let mut bodies = Vec::new();
        let end = Instant::now() + PATIENCE;
        while bodies.len() < batch.len() && Instant::now() < end {
            let got = normal.receive(200, Duration::from_secs(1)).await.map_err(chain)?;
            bodies.extend(got.iter().map(|m| m.message.body.clone()));
            normal
                .settle(&got.iter().collect::<Vec<_>>(), &Disposition::Completed)
                .await
                .map_err(chain)?;
        }
        hold!(
            bodies.iter().eq(batch.iter().map(|message| &message.body)),
            "600 messages in several transfers arrive once each, in order ({} did)",
            bodies.len()
        );
        let huge = self.client.sender(&self.topic).send(&self.message(&"x".repeat(2 << 20))).await;
        hold!(
            matches!(huge, Err(BusError::MessageTooLarge)),
            "a message that is too large is told apart"
        );
        Ok(())
    }

    async fn check_management(&self, normal: &Receiver) -> Outcome {
        let topic = self.client.management(&self.topic);
        let now = OffsetDateTime::from(std::time::UNIX_EPOCH + wall_clock()?);
        let later = |body: &str, after: Duration| Message {
            scheduled_enqueue_time: Some(now + after),
            ..self.message(body)
        };
        let numbers = topic
            .schedule(&[
                later("soon", Duration::from_secs(1)),
                later("never", Duration::from_secs(3600)),
            ])
            .await
            .map_err(chain)?;
        hold!(
            numbers.len() == 2 && numbers[0] != numbers[1],
            "scheduled messages get numbers: {numbers:?}"
        );
        topic.cancel(&numbers[1..]).await.map_err(chain)?;
        let again = topic.cancel(&numbers[1..]).await;
        hold!(matches!(again, Err(BusError::MessageNotFound)), "cancelling twice is told apart");
        let got = self.expect(normal, "soon").await?;
        hold!(
            got.enqueued_at.is_some_and(|at| at >= now + Duration::from_millis(900)),
            "a scheduled message comes when it is due"
        );
        normal.complete(&got).await.map_err(chain)?;

        self.client.sender(&self.topic).send(&self.message("seen")).await.map_err(chain)?;
        let subscription = self.client.management(normal.entity());
        let end = Instant::now() + PATIENCE;
        let peeked = loop {
            let peeked = subscription.peek(0, 10).await.map_err(chain)?;
            if !peeked.is_empty() || Instant::now() > end {
                break peeked;
            }
        };
        hold!(
            peeked
                .iter()
                .any(|message| message.message.body == "seen" && message.lock_token.is_none()),
            "a message can be peeked at"
        );
        let got = self.expect(normal, "seen").await?;
        hold!(got.delivery_count == 0, "peeking is not a delivery");
        normal.defer(&got).await.map_err(chain)?;
        let deferred = subscription.peek(got.sequence_number, 1).await.map_err(chain)?;
        hold!(
            deferred.first().is_some_and(|message| message.state == MessageState::Deferred),
            "a deferred message says so"
        );
        Ok(())
    }

    async fn measure(&self, pace: Duration) -> Outcome {
        for (callers, batch) in [(1, 1), (CALLERS, 1), (1, 100)] {
            let cpu = cpu_time()?;
            let started = Instant::now();
            let mut tasks = JoinSet::new();
            for _ in 0..callers {
                let sender = self.client.sender(&self.topic);
                let messages: Vec<Message> =
                    (0..batch).map(|_| self.message(&"x".repeat(1024))).collect();
                tasks.spawn(async move {
                    let mut run = Run::default();
                    while started.elapsed() < pace {
                        let mut messages = messages.clone();
                        for message in &mut messages {
                            message.message_id = Some(Uuid::new_v4().to_string());
                        }
                        run.record(|| sender.send_batch(&messages)).await;
                    }
                    run
                });
            }
            report(&format!("send {batch}"), callers, started, cpu, tasks).await?;
        }
        let receiver = self.receiver(SubQueue::None);
        let (mut count, started) = (0, Instant::now());
        loop {
            let got = receiver.receive(100, Duration::from_millis(500)).await.map_err(chain)?;
            if got.is_empty() {
                break;
            }
            count += got.len();
            receiver
                .settle(&got.iter().collect::<Vec<_>>(), &Disposition::Completed)
                .await
                .map_err(chain)?;
        }
        println!(
            "received and completed {count}: {:.0}/s",
            count as f64 / started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the probe is its own outermost shell")]
fn wall_clock() -> Outcome<Duration> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?)
}
