//! Random death under load: handlers and hosts are killed at random moments while orders of every
//! kind come in. Afterwards every order that was accepted is closed or in a dead-letter queue with
//! its reason, nobody was charged twice, and every unit of stock is where it belongs.
//!
//! The schedule follows from a seed, which is printed; `CHAOS_SEED` repeats it, `CHAOS_KILLS`
//! makes it longer. Bus and store are not among the targets yet; their own tests kill them
//! (`local/stack/tests/it`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{TestStack, order, order_with, signal};
use crate::proof;

/// Kills of a run unless `CHAOS_KILLS` says otherwise.
const KILLS: u32 = 32;

/// Time between two kills, at most; at least a third of it.
const KILL_EVERY: Duration = Duration::from_millis(1_500);

/// Orders per second.
const ORDERS_PER_SECOND: u64 = 8;

/// After the last kill: a message lock (a minute), a retry or two, and slack.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);

const APPS: [&str; 6] = ["order-api", "inventory", "billing", "payments", "notification", "outbox"];

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
}

#[expect(clippy::disallowed_methods, reason = "how a schedule is repeated")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Kills processes as the dice say.
async fn kill_at_random(stack: &TestStack, mut dice: Dice, kills: u32) -> Vec<String> {
    let mut killed = Vec::new();
    while killed.len() < kills as usize {
        let pause = KILL_EVERY / 3 + KILL_EVERY * u32::try_from(dice.roll(1_000)).unwrap() / 1_500;
        tokio::time::sleep(pause).await;
        let app = APPS[usize::try_from(dice.roll(APPS.len() as u64)).unwrap()];
        // Handlers die more often than hosts, in life as well.
        let (what, pid) = if dice.roll(4) == 0 {
            ("host", Some(stack.pid(&format!("host {app}"))))
        } else {
            ("handler", stack.handler_pid(app))
        };
        // It may be dead already, by an earlier kill or by the host's own rules.
        if let Some(pid) = pid.filter(|pid| signal(*pid, "KILL")) {
            killed.push(format!("{what} of {app} ({pid})"));
        }
    }
    killed
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
    settle(&stack).await;
    let counts = proof::prove(&stack, &accepted, &initial).await;
    println!("CHAOS_SEED={seed}: {} kills, {} accepted, {counts:?}", killed.len(), accepted.len());
    println!("{}", killed.join("\n"));
    assert!(killed.len() >= 30 && accepted.len() > 50, "too little happened");
    assert!(counts.completed > accepted.len() / 2, "{counts:?}");
}
