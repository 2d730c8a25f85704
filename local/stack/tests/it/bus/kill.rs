//! SIGKILL at random moments under load. What was accepted is delivered, what was completed is not
//! delivered again, and what else was said stays so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fe2o3_amqp_types::messaging::{Data, Outcome};

use super::Place;
use super::client::{Broken, Client, id, message, token};
use crate::role::Role;

/// Kills in one run.
const KILLS: u32 = 8;

/// How long a process lives, at most; at least a tenth of it.
const LIFE_MS: u64 = 700;

/// Sends under way.
const WINDOW: usize = 64;

/// Messages the sender is ahead of the receiver, which asks about one after another.
const AHEAD_MAX: usize = 300;

/// Messages that the receiver has at once.
const CREDIT: u32 = 5;

/// Everything is delivered in this time after the last kill: a lock of three seconds, an answer for
/// each of a few hundred messages, and slack.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// What the clients were told, over all lives of the process.
#[derive(Default)]
struct Told {
    sent: u64,
    accepted: BTreeSet<String>,
    completed: BTreeSet<String>,
    /// Their completion was asked for, and the process died before it answered: it may have been
    /// carried out, and then they do not come back.
    unanswered: BTreeSet<String>,
    /// Delivered although their completion had been acknowledged before.
    revenants: Vec<String>,
}

impl Told {
    /// Accepted, and neither completed nor possibly so.
    fn missing(&self) -> Vec<String> {
        let left = self.accepted.difference(&self.completed);
        left.filter(|name| !self.unanswered.contains(*name)).cloned().collect()
    }
}

type Shared = Mutex<Told>;

/// Sends until the process ends.
async fn send(address: &str, told: &Shared) -> Result<(), Broken> {
    let mut client = Client::connect(address).await?;
    let mut sender = client.sender("q").await?;
    let mut under_way = VecDeque::new();
    loop {
        let (name, ahead) = {
            let mut told = told.lock().unwrap();
            told.sent += 1;
            (format!("m{}", told.sent), told.accepted.len().saturating_sub(told.completed.len()))
        };
        if ahead > AHEAD_MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        under_way.push_back((name.clone(), sender.send_batchable(message(&name)).await?));
        if under_way.len() >= WINDOW {
            let (name, outcome) = under_way.pop_front().unwrap();
            if let Outcome::Accepted(_) = outcome.await? {
                told.lock().unwrap().accepted.insert(name);
            }
        }
    }
}

/// Receives and completes until the process ends, or `done`.
async fn receive(address: &str, told: &Shared, done: impl Fn(&Told) -> bool) -> Result<(), Broken> {
    let mut client = Client::connect(address).await?;
    let mut management = client.management("q").await?;
    let mut receiver = client.receiver("q", CREDIT).await?;
    while !done(&told.lock().unwrap()) {
        // Settling elsewhere does not renew it.
        receiver.set_credit(CREDIT).await?;
        let delivery = receiver.recv::<Data>().await?;
        let name = id(&delivery);
        if told.lock().unwrap().completed.contains(&name) {
            told.lock().unwrap().revenants.push(name.clone());
        }
        told.lock().unwrap().unanswered.insert(name.clone());
        // The lock may be over on a slow machine; then the message comes again.
        let status = management.dispose(token(&delivery), "completed").await?;
        let mut told = told.lock().unwrap();
        told.unanswered.remove(&name);
        if status == 200 {
            told.completed.insert(name);
        }
    }
    Ok(())
}

async fn clients(role: &Role, told: &Shared, life: Duration) {
    let never = |_: &Told| false;
    let _ = tokio::time::timeout(life, async {
        tokio::join!(send(&role.address, told), receive(&role.address, told, never))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_completed_returns() {
    kill_again_and_again(&[]).await;
}

/// What the system has outlives the process; only the machine takes it along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_is_it_without_waiting_for_the_disk() {
    kill_again_and_again(&["--no-fsync"]).await;
}

async fn kill_again_and_again(flags: &[&str]) {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let (place, told) = (Place::new(), Shared::default());
    for kill in 0..u64::from(KILLS) {
        let role = place.start_with(flags).await;
        let life = seed.rotate_left(u32::try_from(kill * 7).unwrap()) % LIFE_MS;
        let life = Duration::from_millis(life.max(LIFE_MS / 10));
        // The process dies while the clients are in the middle of everything.
        tokio::join!(clients(&role, &told, life * 2), async {
            tokio::time::sleep(life).await;
            role.kill();
        });
    }
    let role = place.start_with(flags).await;
    let accepted = told.lock().unwrap().accepted.len();
    assert!(accepted > 100, "too little happened: {accepted}");
    let all = |told: &Told| told.missing().is_empty();
    let begun = Instant::now();
    while !all(&told.lock().unwrap()) {
        let missing = told.lock().unwrap().missing();
        assert!(begun.elapsed() < DRAINED_WITHIN, "lost: {missing:?}");
        let part = receive(&role.address, &told, all);
        let _ = tokio::time::timeout(Duration::from_secs(20), part).await;
    }
    let told = told.into_inner().unwrap();
    // One completion is under way at a time, so one of each life may be without its answer.
    assert!(told.unanswered.len() <= KILLS as usize + 1, "{:?}", told.unanswered);
    println!("{} accepted, {} completed", told.accepted.len(), told.completed.len());
    assert_eq!(told.revenants, Vec::<String>::new(), "delivered after their completion");
}

#[tokio::test]
async fn locks_counts_and_duplicates_outlive_the_process() -> Result<(), Broken> {
    let place = Place::new();
    let role = place.start().await;
    let mut client = Client::connect(&role.address).await?;
    for (entity, name) in [("q", "short"), ("long", "held"), ("once", "d"), ("t", "copied")] {
        client.sender(entity).await?.send(message(name)).await?;
    }
    let mut short = client.receiver("q", 1).await?;
    let mut long = client.receiver("long", 1).await?;
    let first = short.recv::<Data>().await?;
    let held = long.recv::<Data>().await?;
    assert_eq!(first.message().header.as_ref().unwrap().delivery_count, 0);
    drop(role);

    let role = place.start().await;
    assert_eq!(role.ready["messages"], 5);
    let mut client = Client::connect(&role.address).await?;
    // The lock is over in three seconds, and the failed delivery is counted.
    let mut short = client.receiver("q", 1).await?;
    let again = short.recv::<Data>().await?;
    assert_eq!(again.message().header.as_ref().unwrap().delivery_count, 1);
    // The longer lock still holds, and its token is good for another connection.
    let mut management = client.management("long").await?;
    assert_eq!(management.dispose(token(&held), "completed").await?, 200);
    assert_eq!(management.dispose(token(&held), "completed").await?, 410);
    // A message-id that was seen is known.
    client.sender("once").await?.send(message("d")).await?;
    drop(role);

    let role = place.start().await;
    // One of each subscription, the short one and the duplicate's original.
    assert_eq!(role.ready["messages"], 4);
    let mut client = Client::connect(&role.address).await?;
    for subscription in ["a", "b"] {
        let path = format!("t/Subscriptions/{subscription}");
        let copy = client.receiver(&path, 1).await?.recv::<Data>().await?;
        assert_eq!(id(&copy), "copied");
    }
    Ok(())
}
