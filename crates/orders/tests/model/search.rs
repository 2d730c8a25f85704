//! Every state of a small world: breadth first, over all interleavings.

use std::collections::HashMap;

use orders::{Service, Status};

use super::document::{Glimpse, at, fingerprint};
use super::rules::{self, Violation};
use super::worker::{Place, Worker};
use super::world::{Fate, LEASE_MS, Letter, Request, Setting, State};

/// What may go wrong on the way, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Messages that come once more.
    pub(crate) duplicates: u8,
    /// Workers that die, and answers that get lost.
    pub(crate) faults: u8,
    /// Leases that end while their holder is still at work.
    pub(crate) thefts: u8,
    /// Reads that give the version before the last.
    pub(crate) old_reads: u8,
    /// Wishes to cancel.
    pub(crate) cancels: u8,
}

impl Budget {
    fn spend(&mut self, mishap: Mishap, state: &State) -> Fate {
        match mishap {
            Mishap::None => Fate::Answered,
            Mishap::AnswerLost => {
                self.faults -= 1;
                Fate::AnswerLost
            }
            Mishap::OldRead => {
                self.old_reads -= 1;
                Fate::Old(state.previous.clone())
            }
        }
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    None,
    AnswerLost,
    OldRead,
}

#[derive(Clone, Debug)]
struct Node {
    state: State,
    left: Budget,
}

impl Node {
    fn fingerprint(&self) -> u128 {
        let previous = (self.left.old_reads > 0).then_some(&self.state.previous);
        fingerprint(&(self.state.fingerprint(), previous, self.left))
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message goes to a new worker, which makes its first request.
    Deliver(Letter, Mishap),
    /// A worker makes a request.
    Run(usize, Mishap),
    Crash(usize),
    Duplicate(Letter),
    EndLease,
    Cancel,
}

/// What a search has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) states: usize,
    /// States in which nothing is left to do.
    pub(crate) ends: Vec<State>,
}

struct Search<'s> {
    setting: &'s Setting,
    nodes: Vec<Option<Node>>,
    /// How each node was reached first.
    parents: Vec<Option<(usize, Step)>>,
    /// Who leads to each node.
    sources: Vec<Vec<u32>>,
    known: HashMap<u128, usize>,
}

/// Visits every state. Each must hold what [`rules`] says, and from each there must be a way to an
/// end.
pub(crate) fn explore(setting: &Setting, budget: Budget) -> Result<Seen, Violation> {
    let mut search = Search {
        setting,
        nodes: Vec::new(),
        parents: Vec::new(),
        sources: Vec::new(),
        known: HashMap::new(),
    };
    search.visit(Node { state: State::new(setting), left: budget }, None);
    let mut seen = Seen::default();
    let mut good = Vec::new();
    while let Some(node) = search.nodes.get_mut(seen.states) {
        let node = node.take().expect("each node is taken once");
        let here = seen.states;
        seen.states += 1;
        if node.state.is_quiet() {
            rules::finally(&node.state, setting).map_err(|v| search.explain(here, v))?;
            good.push(here);
            seen.ends.push(node.state.clone());
        }
        for step in steps(&node) {
            let mut next = node.clone();
            search.take(&mut next, step).map_err(|v| {
                let Violation(what) = search.explain(here, v);
                Violation(format!("{what}\n{step:?}"))
            })?;
            search.visit(next, Some((here, step)));
        }
    }
    search.everybody_arrives(&good)?;
    Ok(seen)
}

fn steps(node: &Node) -> Vec<Step> {
    let (state, left) = (&node.state, node.left);
    let mut steps = Vec::new();
    let mishaps = |worker: &Worker| {
        let read = matches!(worker.at, Place::Judge | Place::Fenced | Place::Look);
        [
            Some(Mishap::None),
            (left.faults > 0).then_some(Mishap::AnswerLost),
            (left.old_reads > 0 && read).then_some(Mishap::OldRead),
        ]
    };
    let of = |index: usize| {
        let crash = (left.faults > 0).then_some(Step::Crash(index));
        let mishaps = mishaps(&state.workers[index]).into_iter().flatten();
        mishaps.map(move |mishap| Step::Run(index, mishap)).chain(crash)
    };
    if state.is_closed() {
        // Nothing has an effect any more, which is checked, so one order of events is enough.
        steps.extend((!state.workers.is_empty()).then_some(Step::Run(0, Mishap::None)));
        let next = state.letters.first().map(|letter| Step::Deliver(*letter, Mishap::None));
        steps.extend(next);
        steps.truncate(1);
        return steps;
    }
    // Putting a message into the queue changes nothing for anybody else's next step, so it may as
    // well come first.
    let puts = |worker: &Worker| matches!(worker.at, Place::Enqueue(_));
    if let Some(worker) = state.workers.iter().position(puts) {
        return of(worker).collect();
    }
    let mut waiting: Vec<Letter> = Vec::new();
    for letter in &state.letters {
        if !waiting.contains(letter) {
            waiting.push(*letter);
        }
    }
    for letter in &waiting {
        let mishaps = mishaps(&Worker::new(*letter, 0)).into_iter().flatten();
        steps.extend(mishaps.map(|mishap| Step::Deliver(*letter, mishap)));
    }
    if left.duplicates > 0 {
        let working = state.workers.iter().map(|worker| worker.letter);
        steps.extend(waiting.iter().copied().chain(working).map(Step::Duplicate));
    }
    for worker in 0..state.workers.len() {
        steps.extend(of(worker));
    }
    let live = leases(state);
    let orphaned = live.iter().all(|&(service, attempt)| {
        !state
            .workers
            .iter()
            .filter_map(|worker| worker.held())
            .any(|held| held.service() == service && held.attempt() == attempt)
    });
    if !live.is_empty() && (orphaned || left.thefts > 0) {
        steps.push(Step::EndLease);
    }
    if left.cancels > 0 {
        steps.push(Step::Cancel);
    }
    steps
}

/// The attempts under a lease that is not over.
fn leases(state: &State) -> Vec<(Service, u32)> {
    let now = at(state.now_ms).epoch_ms();
    let order = &state.order;
    Service::ALL
        .into_iter()
        .filter(|&service| {
            order.status[service] == Status::Processing && order.stage[service].lease_until >= now
        })
        .map(|service| (service, order.stage[service].attempt))
        .collect()
}

impl Search<'_> {
    fn take(&self, node: &mut Node, step: Step) -> Result<(), Violation> {
        let (state, left) = (&mut node.state, &mut node.left);
        match step {
            Step::Deliver(letter, mishap) => {
                let index = state.letters.iter().position(|l| *l == letter).expect("it waits");
                let name = free_name(state);
                state.deliver(index, name);
                let worker = state.workers.len() - 1;
                state.advance(worker, left.spend(mishap, state), self.setting)?;
            }
            Step::Run(worker, mishap) => {
                state.advance(worker, left.spend(mishap, state), self.setting)?;
            }
            Step::Crash(worker) => {
                left.faults -= 1;
                state.crash(worker);
            }
            Step::Duplicate(letter) => {
                left.duplicates -= 1;
                state.letters.push(letter);
            }
            Step::EndLease => {
                let held = leases(state);
                let stolen = state
                    .workers
                    .iter()
                    .filter_map(|worker| worker.held())
                    .any(|h| held.contains(&(h.service(), h.attempt())));
                left.thefts -= u8::from(stolen);
                state.now_ms += 2 * LEASE_MS;
            }
            Step::Cancel => {
                left.cancels -= 1;
                let request = Request::CustomerCancels(Glimpse(state.order.clone()));
                state.perform(&request, self.setting)?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, node: Node, from: Option<(usize, Step)>) {
        let next = self.nodes.len();
        let index = *self.known.entry(node.fingerprint()).or_insert(next);
        if index == next {
            self.nodes.push(Some(node));
            self.parents.push(from);
            self.sources.push(Vec::new());
        }
        if let Some((from, _)) = from {
            self.sources[index].push(u32::try_from(from).expect("a small world"));
        }
    }

    /// From every state there is a way to an end.
    fn everybody_arrives(&self, ends: &[usize]) -> Result<(), Violation> {
        let mut arrives = vec![false; self.nodes.len()];
        let mut open = ends.to_vec();
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut arrives[node], true) {
                open.extend(self.sources[node].iter().map(|&source| source as usize));
            }
        }
        match arrives.iter().position(|arrives| !arrives) {
            None => Ok(()),
            Some(stuck) => Err(self.explain(stuck, Violation::new("there is no way to an end"))),
        }
    }

    fn explain(&self, node: usize, Violation(what): Violation) -> Violation {
        let mut steps = Vec::new();
        let mut at = node;
        while let Some((parent, step)) = self.parents[at] {
            steps.push(format!("{step:?}"));
            at = parent;
        }
        steps.reverse();
        Violation(format!("{what}, after\n{}", steps.join("\n")))
    }
}

/// The smallest name that nobody has, so that names do not multiply the states.
fn free_name(state: &State) -> u32 {
    let taken = |name: u32| {
        let text = name.to_string();
        state.workers.iter().any(|worker| worker.name == name)
            || Service::ALL.iter().any(|&s| state.order.stage[s].owner.as_deref() == Some(&text))
    };
    (0..).find(|&name| !taken(name)).expect("names do not run out")
}
