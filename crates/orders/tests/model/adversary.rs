//! A walk through the world by somebody who means no good, and the healing that follows.

use orders::Standing;
use orders::claim;
use proptest::prelude::*;

use super::document::{Glimpse, Version, at};
use super::rules::{self, Violation};
use super::worker::Place;
use super::world::{App, Ending, Fate, LEASE_MS, Letter, Request, Setting, State};

/// Workers of one app at a time.
const WORKERS_MAX: usize = 3;

/// Requests after which healthy workers must have come to an end: some two hundred times what an
/// order takes that nobody disturbs.
const HEALING_REQUESTS_MAX: usize = 5_000;

/// What the adversary does next. A pick chooses among what there is, whatever that is by then.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A waiting message goes to a new worker.
    Deliver { pick: u8 },
    /// A worker makes some requests; something happens to the first of them.
    Run { pick: u8, requests: u8, first: Mishap },
    /// A worker dies.
    Crash { pick: u8 },
    /// A worker stalls past the lock of its message.
    LoseLock { pick: u8 },
    /// The attempt of a worker fails.
    Fail { pick: u8, ending: Ending },
    /// A message comes once more, however old it is.
    Duplicate { pick: u8 },
    /// A request that hung in the network arrives.
    Arrive { pick: u8 },
    /// Clocks move.
    Wait { ms: i64 },
    /// The customer cancels, looking at an old version of the order.
    Cancel { age: u8 },
    /// Another order takes a unit of stock, or gives one back.
    Trade { pick: u8, take: bool },
    /// An operator replays a message that was given up on.
    Replay { pick: u8 },
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    None,
    AnswerLost,
    Late,
    Old { age: u8 },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = any::<u8>;
    let mishap = prop_oneof![
        6 => Just(Mishap::None),
        2 => Just(Mishap::AnswerLost),
        1 => Just(Mishap::Late),
        1 => (0..6_u8).prop_map(|age| Mishap::Old { age }),
    ];
    let ending =
        prop_oneof![Just(Ending::Redelivered), Just(Ending::Delayed), Just(Ending::DeadLettered)];
    let step = prop_oneof![
        12 => pick().prop_map(|pick| Step::Deliver { pick }),
        24 => (pick(), 1..6_u8, mishap)
            .prop_map(|(pick, requests, first)| Step::Run { pick, requests, first }),
        2 => pick().prop_map(|pick| Step::Crash { pick }),
        3 => pick().prop_map(|pick| Step::LoseLock { pick }),
        2 => (pick(), ending).prop_map(|(pick, ending)| Step::Fail { pick, ending }),
        3 => pick().prop_map(|pick| Step::Duplicate { pick }),
        2 => pick().prop_map(|pick| Step::Arrive { pick }),
        4 => (-2 * LEASE_MS..3 * LEASE_MS).prop_map(|ms| Step::Wait { ms }),
        1 => (0..6_u8).prop_map(|age| Step::Cancel { age }),
        1 => (pick(), any::<bool>()).prop_map(|(pick, take)| Step::Trade { pick, take }),
        2 => pick().prop_map(|pick| Step::Replay { pick }),
    ];
    prop::collection::vec(step, 0..120)
}

pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let line = (1..3_u32, prop_oneof![3 => 2..4_u32, 1 => 0..2_u32]);
    let full = orders::limits::HISTORY_ENTRIES_MAX;
    let history = prop_oneof![4 => Just(1), 1 => full - 3..=full];
    (prop::collection::vec(line, 1..3), prop::bool::weighted(0.3), history).prop_map(
        |(lines, declines, history)| {
            let (quantities, available) = lines.into_iter().unzip();
            Setting { quantities, available, declines, history, ..Setting::default() }
        },
    )
}

/// A world and what the adversary remembers of it.
pub(crate) struct Adversary {
    pub(crate) state: State,
    setting: Setting,
    /// Every version of the order, for reads that are late.
    versions: Vec<Version>,
    /// Every message that was ever delivered.
    delivered: Vec<Letter>,
    /// Requests that hang in the network.
    late: Vec<Request>,
    /// Invocations so far; the names of workers.
    invocations: u32,
}

impl Adversary {
    pub(crate) fn new(setting: Setting) -> Self {
        let state = State::new(&setting);
        Self {
            versions: vec![state.order.clone()],
            state,
            setting,
            delivered: Vec::new(),
            late: Vec::new(),
            invocations: 0,
        }
    }

    pub(crate) fn walk<'s>(
        &mut self,
        steps: impl IntoIterator<Item = &'s Step>,
    ) -> Result<(), Violation> {
        steps.into_iter().try_for_each(|step| self.take(step))
    }

    fn take(&mut self, step: &Step) -> Result<(), Violation> {
        let workers = self.state.workers.len();
        match *step {
            Step::Deliver { pick } => {
                if let Some(letter) = index(pick, self.state.letters.len()) {
                    let to = self.state.letters[letter].to;
                    let busy = self.state.workers.iter().filter(|w| w.letter.to == to).count();
                    if busy < WORKERS_MAX {
                        self.deliver(letter);
                    }
                }
            }
            Step::Run { pick, requests, first } => {
                if let Some(worker) = index(pick, workers) {
                    self.run(worker, requests, first)?;
                }
            }
            Step::Crash { pick } => {
                if let Some(worker) = index(pick, workers) {
                    self.state.crash(worker);
                }
            }
            Step::LoseLock { pick } => {
                if let Some(worker) = index(pick, workers) {
                    self.state.lose_lock(worker);
                }
            }
            Step::Fail { pick, ending } => {
                if let Some(worker) = index(pick, workers) {
                    let worker = &mut self.state.workers[worker];
                    if let Some(held) = worker.held().cloned() {
                        worker.at = Place::GiveBack(held, ending);
                    }
                }
            }
            Step::Duplicate { pick } => {
                if let Some(letter) = index(pick, self.delivered.len()) {
                    self.state.letters.push(self.delivered[letter]);
                }
            }
            Step::Arrive { pick } => {
                if let Some(request) = index(pick, self.late.len()) {
                    self.arrive(request)?;
                }
            }
            Step::Wait { ms } => self.state.now_ms += ms,
            Step::Cancel { age } => {
                let request = Request::CustomerCancels(Glimpse(self.old(age)));
                self.state.perform(&request, &self.setting)?;
                self.remember();
            }
            Step::Trade { pick, take } => {
                let shelf = usize::from(pick) % self.state.shelves.len();
                let shelf = &mut self.state.shelves[shelf];
                if take && shelf.available > 0 {
                    shelf.available -= 1;
                    shelf.elsewhere += 1;
                    self.state.contested = true;
                } else if !take && shelf.elsewhere > 0 {
                    shelf.available += 1;
                    shelf.elsewhere -= 1;
                }
            }
            Step::Replay { pick } => {
                if let Some(letter) = index(pick, self.state.dead.len()) {
                    let letter = self.state.dead.swap_remove(letter);
                    self.state.letters.push(letter);
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, letter: usize) {
        self.delivered.push(self.state.letters[letter]);
        self.invocations += 1;
        self.state.deliver(letter, self.invocations);
    }

    /// Lets a worker make requests until it ends or has made that many.
    fn run(&mut self, worker: usize, requests: u8, first: Mishap) -> Result<(), Violation> {
        let name = self.state.workers[worker].name;
        for request in 0..requests {
            // An end may have moved another worker here.
            if self.state.workers.get(worker).is_none_or(|there| there.name != name) {
                break;
            }
            let fate = match first {
                _ if request > 0 => Fate::Answered,
                Mishap::None => Fate::Answered,
                Mishap::AnswerLost => Fate::AnswerLost,
                Mishap::Late => Fate::Late,
                Mishap::Old { age } => Fate::Old(self.old(age)),
            };
            self.late.extend(self.state.advance(worker, fate, &self.setting)?);
            self.remember();
        }
        Ok(())
    }

    fn arrive(&mut self, request: usize) -> Result<(), Violation> {
        let request = self.late.swap_remove(request);
        self.state.perform(&request, &self.setting)?;
        self.remember();
        Ok(())
    }

    fn old(&self, age: u8) -> Version {
        let last = self.versions.len() - 1;
        self.versions[last.saturating_sub(usize::from(age))].clone()
    }

    fn remember(&mut self) {
        if self.versions.last() != Some(&self.state.order) {
            self.versions.push(self.state.order.clone());
        }
    }

    /// Faults end: every message for the apps that are up is handled by healthy workers while time
    /// moves on. Who was at work before stalls, then wakes up, together with everything that hung
    /// in the network. Neither may be needed, and neither may do harm.
    pub(crate) fn heal(&mut self, up: &[App]) -> Result<(), Violation> {
        let mut stalled = std::mem::take(&mut self.state.workers);
        for worker in &mut stalled {
            if std::mem::take(&mut worker.locked) {
                self.state.letters.push(worker.letter);
            }
        }
        self.drain(up)?;
        self.state.workers = stalled;
        self.state.workers.retain(|worker| up.contains(&worker.letter.to));
        while !self.late.is_empty() {
            self.arrive(0)?;
        }
        self.drain(up)
    }

    /// Lets everybody come to an end.
    pub(crate) fn finish(&mut self) -> Result<(), Violation> {
        self.drain(&App::ALL)
    }

    fn drain(&mut self, up: &[App]) -> Result<(), Violation> {
        for _ in 0..HEALING_REQUESTS_MAX {
            if let Some(worker) = self.state.workers.first() {
                if matches!(worker.at, Place::Judge) {
                    self.wait_for_the_lease();
                }
                self.run(0, 1, Mishap::None)?;
                continue;
            }
            let dead = std::mem::take(&mut self.state.dead);
            self.state.letters.extend(dead);
            match self.state.letters.iter().position(|letter| up.contains(&letter.to)) {
                Some(letter) => self.deliver(letter),
                None if up.len() < App::ALL.len() => return Ok(()),
                None => return rules::finally(&self.state, &self.setting),
            }
        }
        Err(Violation::new("healthy workers do not come to an end"))
    }

    /// A healthy worker that finds the order busy waits for the end of the lease.
    fn wait_for_the_lease(&mut self) {
        let worker = &self.state.workers[0];
        let (order, service) = (&self.state.order, worker.letter.to.service());
        let name = worker.name.to_string();
        let now = at(self.state.now_ms);
        if let Standing::Busy { until_ms } = claim::standing(order, service, &name, now) {
            self.state.now_ms += until_ms - now.epoch_ms() + 1;
        }
    }
}

fn index(pick: u8, len: usize) -> Option<usize> {
    (len > 0).then(|| usize::from(pick) % len)
}
