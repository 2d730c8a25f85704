//! The order document, and what the store does with a move: all of it where the guard admits it,
//! else nothing.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use orders::automaton::{Edit, Move};
use orders::history::{Happening, HistoryEntry};
use orders::order::Acceptance;
use orders::{
    Catalogue, Currency, Notice, Order, OrderId, Overall, Product, Service, Sku, Status,
    Submission, Timestamp,
};
use serde_json::{Value, json};
use time::macros::datetime;

/// The moment `ms` milliseconds after the order was accepted.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::new(datetime!(2026-03-01 10:00 UTC)).plus_ms(ms)
}

/// An order of one line per element of `quantities`, with a history of `history` lines.
pub(crate) fn order(quantities: &[u32], history: usize) -> Order {
    let names: Vec<String> = (0..quantities.len()).map(|line| format!("sku-{line}")).collect();
    let items: Vec<Value> = names
        .iter()
        .zip(quantities)
        .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
        .collect();
    let body = json!({"customerId": "c", "currency": "EUR", "items": items}).to_string();
    let submission = Submission::parse(body.as_bytes()).unwrap();
    let catalogue: Catalogue = names
        .iter()
        .map(|name| Product {
            sku: Sku::parse(name).unwrap(),
            name: name.clone(),
            unit_price_minor: 1,
            currency: Currency::parse("EUR").unwrap(),
            available: 1,
        })
        .collect();
    let acceptance = Acceptance {
        order_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse::<OrderId>().unwrap(),
        at: at(0),
        correlation_id: "corr",
        traceparent: None,
    };
    let priced = submission.price(&catalogue).unwrap();
    let (mut order, _) = Order::accept(&submission, priced, acceptance);
    order.history.resize(history.max(1), HistoryEntry::new(at(0), Happening::AttemptFailed));
    order
}

/// Applies a move as the store does: all edits or none.
pub(crate) fn apply(order: &Order, change: &Move) -> Option<Order> {
    assert!(change.edits.len() <= 10, "a patch takes ten operations");
    if !change.guard.admits(order) {
        return None;
    }
    let mut document = serde_json::to_value(order).unwrap();
    for edit in &change.edits {
        match edit {
            Edit::Set(path, value) => {
                let (parent, member) = path.rsplit_once('/').unwrap();
                let parent = document.pointer_mut(parent).expect(path).as_object_mut();
                parent.expect(path).insert(member.to_owned(), value.clone());
            }
            Edit::Increment(path, by) => {
                let target = document.pointer_mut(path).expect(path);
                *target = (target.as_i64().unwrap() + by).into();
            }
            Edit::Append(path, value) => {
                let parent = path.strip_suffix("/-").expect("an append names the end");
                array(&mut document, parent).push(value.clone());
            }
            Edit::Remove(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                match document.pointer_mut(parent).expect(path) {
                    Value::Object(object) => drop(object.remove(name).expect(path)),
                    _ => drop(array(&mut document, parent).remove(name.parse().unwrap())),
                }
            }
        }
    }
    Some(serde_json::from_value(document).expect("the document keeps its shape"))
}

fn array<'v>(document: &'v mut Value, path: &str) -> &'v mut Vec<Value> {
    document.pointer_mut(path).expect(path).as_array_mut().expect(path)
}

/// One version of the order document. Two versions are the same when no decision can tell them
/// apart: history and moments do not count.
#[derive(Clone)]
pub(crate) struct Version {
    order: Rc<Order>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    stages: [(Status, u32, i64, Option<u32>, bool); 3],
    calls: u32,
    open: bool,
    cancelled: bool,
    told: [bool; 4],
}

impl Version {
    pub(crate) fn new(order: Order) -> Self {
        let stages = Service::ALL.map(|service| {
            let stage = &order.stage[service];
            let owner = stage.owner.as_deref().map(|owner| owner.parse().unwrap());
            (order.status[service], stage.attempt, stage.lease_until, owner, stage.unwound)
        });
        let told = [Notice::Received, Notice::Completed, Notice::Failed, Notice::Cancelled];
        let shape = Shape {
            stages,
            calls: order.stage[Service::Billing].calls,
            open: order.overall == Overall::Accepted,
            cancelled: order.cancellation.is_some(),
            told: told.map(|notice| order.notified.contains_key(&notice)),
        };
        Self { order: Rc::new(order), shape }
    }
}

impl std::ops::Deref for Version {
    type Target = Order;

    fn deref(&self) -> &Order {
        &self.order
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
    }
}

impl Eq for Version {}

impl Hash for Version {
    /// Leaves out what means something only beside a worker or a clock: see
    /// [`State::fingerprint`](super::world::State::fingerprint).
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Shape { stages, calls, open, cancelled, told } = &self.shape;
        for (status, _, _, _, unwound) in stages {
            (status, unwound).hash(state);
        }
        (*calls > 0, open, cancelled, told).hash(state);
    }
}

/// A version of the order that a worker has read and acts upon later. What it does then depends on
/// no more than whose answer was no; the guards look at the order itself.
#[derive(Clone, Debug)]
pub(crate) struct Glimpse(pub(crate) Version);

impl Glimpse {
    fn failed(&self) -> [bool; 3] {
        Service::ALL.map(|service| self.0.status[service] == Status::Failed)
    }
}

impl PartialEq for Glimpse {
    fn eq(&self, other: &Self) -> bool {
        self.failed() == other.failed()
    }
}

impl Eq for Glimpse {}

impl Hash for Glimpse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.failed().hash(state);
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { stages, calls, cancelled, .. } = &self.shape;
        write!(f, "{:?} cancelled={cancelled} calls={calls}", self.overall)?;
        for (service, (status, attempt, lease, _, unwound)) in Service::ALL.iter().zip(stages) {
            write!(f, " {service}={}({attempt}, {lease}, {unwound})", status.as_str())?;
        }
        Ok(())
    }
}

/// 128 bits of a value: among a few million values no two share them.
pub(crate) fn fingerprint(value: &impl Hash) -> u128 {
    let mut mixer = Mixer(0);
    value.hash(&mut mixer);
    // Fingerprints are added up, so the last word has to reach every bit as well.
    mixer.mix(0);
    mixer.mix(0);
    mixer.0
}

/// The standard hasher takes most of a search's time in an unoptimised build.
struct Mixer(u128);

impl Mixer {
    fn mix(&mut self, word: u128) {
        // Any odd factor with bits all over will do; these are digits of pi.
        const FACTOR: u128 = 0x243f_6a88_85a3_08d3_1319_8a2e_0370_7345;
        let product = (self.0 ^ word ^ FACTOR).wrapping_mul(FACTOR);
        self.0 = product ^ (product >> 67);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u128::from(*byte));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u128::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u128::from(word));
    }

    fn write_u128(&mut self, word: u128) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u128);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u128);
    }
}
