//! Hosts that get SIGKILL at any moment, as processes of their own: whatever was in flight is done
//! by the next one. What is done is what the handlers wrote into a ledger that they share.
//!
//! The moments come from a seed, which a failure prints.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use host::{Clock, Host, LogLine, Options};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::{App, PATIENCE};
use crate::cosmos_db::store::Store;
use crate::service_bus::{Broker, Publisher};
use crate::storage::Storage;

/// Hosts that are killed in each test.
const KILLS: usize = 5;

/// A host is killed at most this much later than it has begun to work.
const LIFE_MAX: Duration = Duration::from_millis(300);

/// Leases of dead hosts end soon.
const QUEUE_LEASE: Duration = Duration::from_secs(2);

/// Not a test: the host that the tests kill. Settings come from its environment, as everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "this is the host that the other tests kill"]
async fn host_process() {
    let settings: std::collections::BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let root = PathBuf::from(&settings["KILLS_ROOT"]);
    let log = Arc::new(|line: LogLine| println!("{:?} {}", line.level, line.text));
    let mut options = Options::new(&root, ([127, 0, 0, 1], 0).into(), settings, log);
    options.queue_lease = QUEUE_LEASE;
    options.state = Some(root.join("state"));
    if root.join("clock").exists() {
        options.clock = clock_of(root.join("clock"));
    }
    let host = Host::bind(options).await.unwrap();
    std::fs::write(root.join("address.new"), host.local_addr().to_string()).unwrap();
    std::fs::rename(root.join("address.new"), root.join("address")).unwrap();
    host.run(CancellationToken::new()).await.unwrap();
}

/// A clock that stands at what the file says, in epoch seconds.
fn clock_of(file: PathBuf) -> Clock {
    let last = std::sync::Mutex::new(0);
    Arc::new(move || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut last = last.lock().unwrap();
        // It may be read while it is written.
        *last = text.trim().parse().unwrap_or(*last);
        OffsetDateTime::from_unix_timestamp(*last).unwrap()
    })
}

/// A host process. It is killed when dropped.
pub(crate) struct Doomed(Child);

impl Doomed {
    fn start(app: &App) -> Self {
        let log = || {
            let name = app.path().join("log");
            let file = std::fs::File::options().create(true).append(true).open(name);
            Stdio::from(file.unwrap())
        };
        Self::logging(app, log(), log())
    }

    /// One whose log nobody keeps.
    pub(crate) fn quietly(app: &App) -> Self {
        Self::logging(app, Stdio::null(), Stdio::null())
    }

    /// Where it listens, once it does.
    pub(crate) async fn address(&self, app: &App) -> std::net::SocketAddr {
        let file = app.path().join("address");
        wait_until(app, "an address", async || file.exists()).await;
        std::fs::read_to_string(file).unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn logging(app: &App, stdout: Stdio, stderr: Stdio) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kills::host_process", "--nocapture"])
            .env("KILLS_ROOT", app.path())
            .env("FIXTURE_LEDGER", app.path().join("ledger"))
            .envs(&app.settings)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the handlers have done so far.
fn done(app: &App) -> Vec<Value> {
    let text = std::fs::read_to_string(app.path().join("ledger")).unwrap_or_default();
    // The last line may have been cut off with its handler.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn wait_until(app: &App, what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached().await {
        if Instant::now() >= deadline {
            let log = std::fs::read_to_string(app.path().join("log")).unwrap_or_default();
            panic!("{what} not reached:\n{log}");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Small, seeded, and good enough for moments.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let moment = Duration::from_micros(self.0 % u64::try_from(limit.as_micros()).unwrap());
        println!("killed after {moment:?}");
        moment
    }
}

/// Starts a host, and kills it some time after it has begun to work.
async fn start_and_kill(app: &App, dice: &mut Dice) {
    let before = done(app).len();
    let _host = Doomed::start(app);
    wait_until(app, "the first item", async || done(app).len() > before).await;
    sleep(dice.below(LIFE_MAX)).await;
}

fn job(number: usize) -> Value {
    json!({ "n": number, "delayMs": 20 + number % 7 * 20 })
}

/// The numbers of [`job`]s in what was done. `name` is that of the trigger binding.
fn numbers(app: &App, name: &str) -> BTreeSet<u64> {
    let number = |envelope: &Value| {
        let text: String = serde_json::from_str(envelope["Data"][name].as_str()?).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["n"].as_u64()
    };
    done(app).iter().filter_map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_queue_message_is_lost() {
    let storage = Storage::with(&["jobs"]).await;
    let trigger = json!([{ "type": "queueTrigger", "name": "job", "direction": "in",
        "queueName": "jobs" }]);
    // A delivery to a host that is killed counts, as in Azure.
    let app =
        App::new(|host| host["extensions"] = json!({ "queues": { "maxDequeueCount": 1000 } }))
            .function("Work", &trigger)
            .setting("AzureWebJobsStorage", storage.connection_string());
    let (mut dice, mut sent) = (Dice::new(11), 0);
    for _ in 0..KILLS {
        for _ in 0..40 {
            storage.put("jobs", &job(sent)).await;
            sent += 1;
        }
        start_and_kill(&app, &mut dice).await;
    }
    let _host = Doomed::start(&app);
    wait_until(&app, "an empty queue", async || storage.count("jobs").await == 0).await;
    assert_eq!(numbers(&app, "job"), (0..sent as u64).collect());
    assert_eq!(storage.peek("jobs-poison").await.unwrap_or_default(), [""; 0]);
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_of_service_bus_is_lost() {
    let broker = Broker::anywhere().await;
    let trigger = json!([{ "type": "serviceBusTrigger", "name": "job", "direction": "in",
        "queueName": "lasting", "connection": "Bus" }]);
    let app =
        App::new(|_| {}).function("Work", &trigger).setting("Bus", broker.connection_string());
    let mut publisher = Publisher::connect(broker.address, "lasting").await;
    let (mut dice, mut sent) = (Dice::new(12), 0);
    for _ in 0..KILLS {
        for _ in 0..40 {
            publisher.send(&format!("m-{sent}"), &job(sent)).await;
            sent += 1;
        }
        start_and_kill(&app, &mut dice).await;
    }
    let _host = Doomed::start(&app);
    wait_until(&app, "an empty queue", async || broker.queue("lasting") == (0, 0)).await;
    let all = (0..sent as u64).collect();
    wait_until(&app, "every message", async || numbers(&app, "job") == all).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_of_the_feed_is_lost() {
    let store = Store::start().await;
    let function = json!({ "bindings": [{
        "type": "cosmosDBTrigger", "name": "docs", "direction": "in", "databaseName": "shop",
        "containerName": "orders", "connection": "Store", "createLeaseContainerIfNotExists": true,
        "startFromBeginning": true, "feedPollDelay": 20, "maxItemsPerInvocation": 3,
        "leaseAcquireInterval": 100, "leaseRenewInterval": 300, "leaseExpirationInterval": 1_000
    }] });
    let app = App::new(|_| {})
        .function_json("Relay", &function)
        .setting("Store", store.connection_string());
    let ids = || -> BTreeSet<String> {
        let page = |envelope: &Value| -> Option<Vec<Value>> {
            let text: String = serde_json::from_str(envelope["Data"]["docs"].as_str()?).ok()?;
            serde_json::from_str(&text).ok()
        };
        let documents = done(&app).iter().filter_map(page).flatten().collect::<Vec<Value>>();
        documents.iter().map(|document| document["id"].as_str().unwrap().to_owned()).collect()
    };
    let (mut dice, mut created) = (Dice::new(13), BTreeSet::new());
    for round in 0..KILLS {
        for number in 0..30 {
            let id = format!("o-{round}-{number}");
            let key = format!("k-{}", number % 4);
            store.create(json!({ "id": id, "pk": key, "delayMs": 30 })).await;
            created.insert(id);
        }
        start_and_kill(&app, &mut dice).await;
    }
    let _host = Doomed::start(&app);
    wait_until(&app, "every document", async || ids() == created).await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_occurrence_of_a_timer_is_lost() {
    let timer = json!([{ "type": "timerTrigger", "name": "tick", "direction": "in",
        "schedule": "0 */5 * * * *" }]);
    // Takes a second and a half.
    let app = App::new(|_| {}).function("Slow", &timer);
    let set = |time: OffsetDateTime| {
        let file = app.path().join("clock");
        std::fs::write(&file, time.unix_timestamp().to_string()).unwrap();
    };
    let ticks = || -> Vec<Value> {
        done(&app).iter().map(|envelope| envelope["Data"]["tick"].clone()).collect()
    };
    let next = |tick: &Value| -> OffsetDateTime {
        let text = tick["ScheduleStatus"]["Next"].as_str().unwrap().to_owned();
        let format = &time::format_description::well_known::Iso8601::DEFAULT;
        OffsetDateTime::parse(&text, format).unwrap()
    };
    let status = app.path().join("state/timers/Slow.json");
    let pause = time::Duration::minutes(5);
    let mut dice = Dice::new(14);
    // Just before an occurrence.
    let mut due = datetime!(2026-03-01 10:05 UTC);
    set(due - time::Duration::seconds(30));
    let mut host = Doomed::start(&app);
    for _ in 0..KILLS {
        wait_until(&app, "a schedule", async || status.exists()).await;
        set(due);
        // Before it is noticed, while it runs, or when it is done.
        sleep(dice.below(Duration::from_secs(3))).await;
        drop(host);
        let before = ticks();
        // Another occurrence passes while nobody is there; both are made up for by one run.
        set(due + pause * 2 - time::Duration::seconds(30));
        host = Doomed::start(&app);
        wait_until(&app, "a run", async || ticks().len() > before.len()).await;
        let made_up = ticks().pop().unwrap();
        assert_eq!(made_up["IsPastDue"], true, "{made_up}");
        let missed = next(&made_up);
        let was_done = before.iter().any(|tick| next(tick) == due);
        assert!(missed == due || missed == due + pause && was_done, "{due}: {made_up}");
        // The run that made up is recorded before the clock goes on.
        let recorded = async || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let stored: Value = serde_json::from_str(&text).unwrap_or_default();
            stored["Next"]
                .as_str()
                .is_some_and(|_| next(&json!({ "ScheduleStatus": stored })) == due + pause * 2)
        };
        wait_until(&app, "the record of the run", recorded).await;
        due += pause * 2;
    }
}
