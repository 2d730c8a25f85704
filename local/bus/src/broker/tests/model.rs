//! The broker against a model: a queue and its dead-letter queue as two plain lists, with the rules
//! of the service written down as directly as possible. Both get the same random commands, jumps
//! of the clock and crashes, and must answer the same.

use proptest::prelude::*;

use super::*;

/// Of the queue `q` above.
const LOCK_MS: i64 = 10_000;
const DELIVERIES_MAX: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Send { ttl_ms: Option<u16>, in_ms: Option<u16> },
    Receive { max: u8, dead: bool },
    Settle { which: u8, how: u8 },
    Renew { which: u8 },
    Deferred { which: u8 },
    Cancel { which: u8 },
    Jump { ms: i64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let ms = || proptest::option::weighted(0.25, 0..15_000_u16);
    prop_oneof![
        6 => (ms(), ms()).prop_map(|(ttl_ms, in_ms)| Step::Send { ttl_ms, in_ms }),
        5 => (1..4_u8, proptest::bool::weighted(0.2))
            .prop_map(|(max, dead)| Step::Receive { max, dead }),
        6 => (any::<u8>(), 0..6_u8).prop_map(|(which, how)| Step::Settle { which, how }),
        1 => any::<u8>().prop_map(|which| Step::Renew { which }),
        1 => any::<u8>().prop_map(|which| Step::Deferred { which }),
        1 => any::<u8>().prop_map(|which| Step::Cancel { which }),
        // A clock may step back; for the broker time then stands still.
        3 => (-5_000..25_000_i64).prop_map(|ms| Step::Jump { ms }),
        1 => Just(Step::Crash),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Available,
    Locked { handle: usize, until: i64 },
    Deferred,
    Scheduled { due: i64 },
}

#[derive(Debug, Clone)]
struct Item {
    number: i64,
    id: usize,
    failures: u32,
    ttl_ms: Option<i64>,
    ends: Option<i64>,
    /// Goes back to deferred when its lock ends.
    deferred: bool,
    at: At,
}

impl Item {
    /// What it is when its lock ends.
    fn back(&self) -> At {
        if self.deferred { At::Deferred } else { At::Available }
    }
}

/// What the service is to do.
#[derive(Debug, Default)]
struct Model {
    now: i64,
    queue: Vec<Item>,
    dead: Vec<Item>,
    last: i64,
    last_dead: i64,
    handles: usize,
    lives: u64,
}

impl Model {
    fn bury(&mut self, mut item: Item) {
        self.last_dead += 1;
        item = Item { number: self.last_dead, at: At::Available, ends: None, ..item };
        self.dead.push(Item { deferred: false, ..item });
    }

    /// A delivery of the message with this number in the queue failed.
    fn fail(&mut self, number: i64) {
        let at = self.queue.iter().position(|item| item.number == number).unwrap();
        let item = &mut self.queue[at];
        item.failures += 1;
        item.at = item.back();
        if item.failures >= DELIVERIES_MAX {
            let item = self.queue.remove(at);
            self.bury(item);
        }
    }

    fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
        let now = self.now;
        let mut over: Vec<(i64, i64)> = Vec::new();
        for item in &self.queue {
            if let At::Locked { until, .. } = item.at
                && until <= now
            {
                over.push((until, item.number));
            }
        }
        over.sort_unstable();
        for (_, number) in over {
            self.fail(number);
        }
        let mut due: Vec<(i64, i64)> = Vec::new();
        for item in &self.queue {
            if let At::Scheduled { due: at } = item.at
                && at <= now
            {
                due.push((at, item.number));
            }
        }
        due.sort_unstable();
        for (_, number) in due {
            let at = self.queue.iter().position(|item| item.number == number).unwrap();
            let item = self.queue.remove(at);
            self.last += 1;
            let ends = item.ttl_ms.map(|ms| now + ms);
            self.queue.push(Item { number: self.last, at: At::Available, ends, ..item });
        }
        let mut ended: Vec<(i64, i64)> = Vec::new();
        for item in &self.queue {
            if item.at == At::Available
                && let Some(at) = item.ends
                && at <= now
            {
                ended.push((at, item.number));
            }
        }
        ended.sort_unstable();
        for (_, number) in ended {
            let at = self.queue.iter().position(|item| item.number == number).unwrap();
            let item = self.queue.remove(at);
            self.bury(item);
        }
        for item in &mut self.dead {
            if let At::Locked { until, .. } = item.at
                && until <= now
            {
                (item.failures, item.at) = (item.failures + 1, item.back());
            }
        }
    }

    fn send(&mut self, id: usize, ttl_ms: Option<i64>, in_ms: Option<i64>) {
        self.last += 1;
        let (at, ends) = match in_ms {
            Some(ms) if ms > 0 => (At::Scheduled { due: self.now + ms }, None),
            _ => (At::Available, ttl_ms.map(|ms| self.now + ms)),
        };
        let number = self.last;
        self.queue.push(Item { number, id, failures: 0, ttl_ms, ends, deferred: false, at });
    }

    /// Identity, failures and a handle for each message that is handed out.
    fn receive(&mut self, max: usize, dead: bool) -> Vec<(usize, u32, usize)> {
        let now = self.now;
        let list = if dead { &mut self.dead } else { &mut self.queue };
        let mut numbers: Vec<i64> =
            list.iter().filter(|item| item.at == At::Available).map(|item| item.number).collect();
        numbers.sort_unstable();
        numbers.truncate(max);
        let mut given = Vec::new();
        for number in numbers {
            let item = list.iter_mut().find(|item| item.number == number).unwrap();
            self.handles += 1;
            item.at = At::Locked { handle: self.handles, until: now + LOCK_MS };
            given.push((item.id, item.failures, self.handles));
        }
        given
    }

    fn locked(&mut self, handle: usize, dead: bool) -> Option<&mut Item> {
        let list = if dead { &mut self.dead } else { &mut self.queue };
        list.iter_mut().find(|item| matches!(item.at, At::Locked { handle: h, .. } if h == handle))
    }

    /// Whether it was possible.
    fn settle(&mut self, handle: usize, dead: bool, how: u8) -> bool {
        let Some(item) = self.locked(handle, dead) else { return false };
        let number = item.number;
        match how {
            0 => item.at = item.back(),
            1 if dead => (item.failures, item.at) = (item.failures + 1, item.back()),
            1 => self.fail(number),
            2 => {
                (item.failures, item.at, item.deferred) = (item.failures + 1, At::Deferred, true);
            }
            3 if dead => return false,
            3 => {
                let at = self.queue.iter().position(|item| item.number == number).unwrap();
                let item = self.queue.remove(at);
                self.bury(item);
            }
            _ => {
                let list = if dead { &mut self.dead } else { &mut self.queue };
                list.retain(|item| item.number != number);
            }
        }
        // What outlived its time under the lock is gone now.
        self.advance(self.now);
        true
    }

    /// Identity, failures and state of everything, in order.
    fn listing(&self, dead: bool) -> Vec<(i64, usize, u32, u8)> {
        let mut list: Vec<_> = if dead { &self.dead } else { &self.queue }
            .iter()
            .map(|item| {
                let state = match item.at {
                    At::Scheduled { .. } => 2,
                    _ => u8::from(item.deferred),
                };
                (item.number, item.id, item.failures, state)
            })
            .collect();
        list.sort_unstable();
        list
    }
}

/// Broker and model side by side.
struct Pair {
    bench: Bench,
    model: Model,
    /// What was handed out: the broker's delivery and the model's handle.
    given: Vec<(Delivery, usize, bool)>,
    sent: usize,
}

const PATHS: [&str; 2] = ["q", "q/$DeadLetterQueue"];

fn id(message: &Message) -> usize {
    message.id().trim_start_matches('m').parse().unwrap()
}

impl Pair {
    fn step(&mut self, step: Step) {
        let Pair { bench, model, given, sent } = self;
        let which = |n: u8| given.get(usize::from(n).checked_rem(given.len())?).cloned();
        match step {
            Step::Send { ttl_ms, in_ms } => {
                let mut message = message(&format!("m{sent}"));
                message.header.ttl = ttl_ms.map(u32::from);
                // Against the broker's own time, which does not step back.
                let base = bench.broker.now.max(bench.now);
                message.scheduled_for = in_ms.map(|ms| base.plus(i64::from(ms)));
                bench.send("q", message);
                model.advance(bench.now.as_millis());
                model.send(*sent, ttl_ms.map(i64::from), in_ms.map(i64::from));
                // A time to live of zero is over at once.
                bench.wait(0);
                model.advance(bench.now.as_millis());
                *sent += 1;
            }
            Step::Receive { max, dead } => {
                let got = bench.receive(PATHS[usize::from(dead)], u32::from(max));
                model.advance(bench.now.as_millis());
                let expected = model.receive(usize::from(max), dead);
                let seen = |delivery: &Delivery| (id(&delivery.message), delivery.delivery_count);
                let (seen, wanted): (Vec<_>, Vec<_>) =
                    (got.iter().map(seen).collect(), expected.iter().map(|e| (e.0, e.1)).collect());
                assert_eq!(seen, wanted);
                let handles = expected.into_iter().map(|(_, _, handle)| handle);
                given.extend(got.into_iter().zip(handles).map(|(d, handle)| (d, handle, dead)));
            }
            Step::Settle { which: n, how } => {
                let Some((delivery, handle, dead)) = which(n) else { return };
                let settlement = match how {
                    0 => Settlement::Release,
                    1 => abandon(),
                    2 => Settlement::Defer { changes: Vec::new() },
                    3 => Settlement::dead_letter(None, None, Vec::new()),
                    _ => Settlement::Complete,
                };
                let done = bench.settle(PATHS[usize::from(dead)], &delivery, settlement).is_ok();
                model.advance(bench.now.as_millis());
                assert_eq!(done, model.settle(handle, dead, how));
            }
            Step::Renew { which: n } => {
                let Some((delivery, handle, dead)) = which(n) else { return };
                let place = bench.place(PATHS[usize::from(dead)]);
                let done = bench.broker.renew(bench.now, place, &[delivery.token]).is_ok();
                model.advance(bench.now.as_millis());
                let until = model.now + LOCK_MS;
                let item = model.locked(handle, dead);
                assert_eq!(done, item.is_some());
                if let Some(item) = item {
                    item.at = At::Locked { handle, until };
                }
            }
            Step::Deferred { which: n } => {
                let Some((delivery, _, dead)) = which(n) else { return };
                let place = bench.place(PATHS[usize::from(dead)]);
                let numbers = [delivery.sequence];
                let mode = ReceiveMode::PeekLock;
                let got = bench.broker.receive_deferred(bench.now, place, &numbers, mode, None);
                model.advance(bench.now.as_millis());
                let (until, handle) = (model.now + LOCK_MS, model.handles + 1);
                let list = if dead { &mut model.dead } else { &mut model.queue };
                let item = list
                    .iter_mut()
                    .find(|item| item.number == delivery.sequence && item.at == At::Deferred);
                assert_eq!(got.is_some(), item.is_some());
                if let (Some(got), Some(item)) = (got, item) {
                    assert_eq!(got[0].delivery_count, item.failures);
                    item.at = At::Locked { handle, until };
                    model.handles = handle;
                    given.push((got[0].clone(), handle, dead));
                }
            }
            Step::Cancel { which: n } => {
                let number = i64::from(n % 40) + 1;
                let q = bench.entity("q");
                let done = bench.broker.cancel(bench.now, q, &[number]);
                model.advance(bench.now.as_millis());
                let scheduled =
                    |item: &Item| item.number == number && matches!(item.at, At::Scheduled { .. });
                assert_eq!(done, model.queue.iter().any(scheduled));
                model.queue.retain(|item| !scheduled(item));
            }
            Step::Jump { ms } => {
                bench.now = bench.now.plus(ms);
                bench.broker.advance(bench.now);
                model.advance(bench.now.as_millis());
            }
            Step::Crash => {
                let records = std::mem::take(&mut *bench.journal.0.lock().unwrap());
                let now = bench.broker.now;
                *bench = Bench { now: bench.now, ..Bench::new() };
                let declared = bench.journal.0.lock().unwrap().len();
                for record in records {
                    if !matches!(record, Record::Declared { .. }) {
                        bench.broker.commit(record);
                    }
                }
                assert!(bench.journal.0.lock().unwrap().len() >= declared);
                // No two lives give the same tokens.
                model.lives += 1;
                bench.broker.ids = Ids::new(1_000 + model.lives);
                bench.broker.advance(now);
            }
        }
    }

    fn compare(&mut self) {
        for (dead, path) in [false, true].into_iter().zip(PATHS) {
            let place = self.bench.place(path);
            let peeked = self.bench.broker.peek(self.bench.now, place, 0, 1_000, None);
            let seen = peeked.iter().map(|delivery| {
                let state = match delivery.state {
                    MessageState::Active => 0,
                    MessageState::Deferred => 1,
                    MessageState::Scheduled => 2,
                };
                (delivery.sequence, id(&delivery.message), delivery.delivery_count, state)
            });
            assert_eq!(seen.collect::<Vec<_>>(), self.model.listing(dead), "{path}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn broker_and_model_agree(steps in proptest::collection::vec(step(), 1..100)) {
        let mut bench = Bench::new();
        bench.wait(0);
        let model = Model { now: bench.now.as_millis(), ..Model::default() };
        let mut pair = Pair { bench, model, given: Vec::new(), sent: 0 };
        for step in steps {
            pair.step(step);
            pair.compare();
        }
    }
}
