//! Random death under load: handlers, hosts, the bus, the store and the storage queues are killed
//! at random moments while orders of every kind come in. Afterwards every order that was accepted
//! is closed or in a dead-letter queue with its reason, nobody was charged twice, and every unit of
//! stock is where it belongs.
//!
//! The schedule follows from a seed, which is printed; `CHAOS_SEED` repeats it, `CHAOS_KILLS`
//! makes it longer. The bank is spared: its ledger is the witness. Its own tests kill it
//! (`local/stack/tests/it`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{TestStack, eventually_within, order, order_with, signal};
use crate::proof;

/// Kills of a run unless `CHAOS_KILLS` says otherwise.
const KILLS: u32 = 32;

/// Time between two kills, at most; at least a third of it.
const KILL_EVERY: Duration = Duration::from_millis(1_500);

/// Orders per second.
const ORDERS_PER_SECOND: u64 = 8;

/// After the last kill: a message lock (a minute), a retry or two, and slack.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);

/// Until everything that was killed runs again: restarts come one after another.
const BACK_WITHIN: Duration = Duration::from_secs(60);

const APPS: [&str; 6] = ["order-api", "inventory", "billing", "payments", "notification", "outbox"];

/// Who dies.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// The handler of some app.
    Handler,
    /// The host of some app, its handler with it.
    Host,
    /// A process that keeps data.
    Service(&'static str),
}

/// As many of each as die in [`DECK`]`.len()` kills. Handlers die more often than hosts, and hosts
/// more often than services, in life as well.
const DECK: [Target; 12] = [
    Target::Service("bus"),
    Target::Service("cosmos"),
    Target::Service("queue"),
    Target::Host,
    Target::Host,
    Target::Host,
    Target::Handler,
    Target::Handler,
    Target::Handler,
    Target::Handler,
    Target::Handler,
    Target::Handler,
];

/// A small generator (SplitMix64): the schedule must follow from the seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn below(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "how a schedule is repeated")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A process that was killed.
struct Killed {
    target: Target,
    /// As the ready file calls it; a handler by its app.
    name: String,
    pid: i32,
}

/// Kills processes as the dice say.
async fn kill_at_random(stack: &TestStack, mut dice: Dice, kills: u32) -> Vec<Killed> {
    let mut killed = Vec::new();
    let mut deck = Vec::new();
    while killed.len() < kills as usize {
        let pause = KILL_EVERY / 3 + KILL_EVERY * u32::try_from(dice.roll(1_000)).unwrap() / 1_500;
        tokio::time::sleep(pause).await;
        if deck.is_empty() {
            deck.extend(DECK);
        }
        let target = deck.swap_remove(dice.below(deck.len()));
        let app = APPS[dice.below(APPS.len())];
        let (name, pid) = match target {
            Target::Handler => (format!("handler of {app}"), stack.handler_pid(app)),
            Target::Host => (format!("host {app}"), Some(stack.pid(&format!("host {app}")))),
            Target::Service(name) => (name.to_owned(), Some(stack.pid(name))),
        };
        match pid.filter(|pid| signal(*pid, "KILL")) {
            Some(pid) => killed.push(Killed { target, name, pid }),
            // Dead already, by an earlier kill or by the host's own rules.
            None => deck.push(target),
        }
    }
    killed
}

/// Waits until everything that was killed has a successor that is ready.
async fn all_back(stack: &TestStack, killed: &[Killed]) {
    for one in killed.iter().filter(|one| one.target != Target::Handler) {
        eventually_within(BACK_WITHIN, &one.name, || async {
            (stack.pid(&one.name) != one.pid).then_some(())
        })
        .await;
    }
}

/// Sends orders of every kind until told to stop; those that were accepted.
async fn load(stack: &TestStack, mut dice: Dice, stop: &AtomicBool) -> Vec<String> {
    let accepted = std::sync::Mutex::new(Vec::new());
    let mut clients = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / ORDERS_PER_SECOND as u32);
    let mut sent = 0;
    while !stop.load(Relaxed) {
        tick.tick().await;
        sent += 1;
        let kind = dice.roll(20);
        let body: Value = match kind {
            0 | 1 => order_with(json!({"billing": "decline"})),
            2 => order_with(json!({"billing": "lost"})),
            3 => order_with(json!({"inventory": "flaky"})),
            4 => json!({"customerId": "c-chaos", "currency": "EUR", "items": [
                {"sku": "magnesium", "quantity": 1}, {"sku": "royal-jelly", "quantity": 6}]}),
            _ => order(),
        };
        let cancels = kind == 5 || kind == 6;
        let key = format!("chaos-{sent}");
        let accepted = &accepted;
        clients.push(async move {
            let id = stack.submit_patiently(&body, &key).await;
            accepted.lock().unwrap().push(id.clone());
            if cancels {
                // May be refused, may get no answer: either way the order has to end well.
                let _ = stack.try_cancel(&id).await;
            }
        });
        // Each client runs while the next ones come.
        if clients.len() >= 4 {
            futures::future::join_all(clients.drain(..)).await;
        }
    }
    futures::future::join_all(clients).await;
    accepted.into_inner().unwrap()
}

/// Waits until every order in the store is closed or dead-lettered.
async fn settle(stack: &TestStack) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let open = proof::open_orders(stack).await;
        let dead = proof::dead_lettered(stack).await;
        let moving: Vec<&String> = open.iter().filter(|id| !dead.contains_key(*id)).collect();
        if moving.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            let order = stack.order(moving[0]).await;
            panic!("{} orders do not get on: {moving:?}\n{order:#}\n{}", moving.len(), stack.log());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_whoever_dies() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let kills = number("CHAOS_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    println!("CHAOS_SEED={seed}");
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let stop = AtomicBool::new(false);
    let killing = async {
        let killed = kill_at_random(&stack, Dice(seed), kills).await;
        stop.store(true, Relaxed);
        killed
    };
    let (killed, accepted) = tokio::join!(killing, load(&stack, Dice(!seed), &stop));
    all_back(&stack, &killed).await;
    settle(&stack).await;
    let counts = proof::prove(&stack, &accepted, &initial).await;
    println!("CHAOS_SEED={seed}: {} kills, {} accepted, {counts:?}", killed.len(), accepted.len());
    for Killed { name, pid, .. } in &killed {
        println!("{name} ({pid})");
    }
    assert!(killed.len() >= 30 && accepted.len() > 50, "too little happened");
    let died = |target| killed.iter().any(|one| one.target == target);
    assert!(DECK.into_iter().all(died), "somebody was spared");
    assert!(counts.completed > accepted.len() / 2, "{counts:?}");
}
