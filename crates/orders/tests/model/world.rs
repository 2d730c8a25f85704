//! Everything that an app can read or change, and what each request does there. Nothing here
//! decides: the decisions are those of the `orders` crate and of [`worker`](super::worker).

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use orders::{
    Claim, EventType, Move, NoSuccess, Notice, Overall, Service, Status, Timestamp, claim, notice,
    saga,
};

use super::document::{self, Glimpse, Version, at, fingerprint};
use super::rules::{self, Violation};
use super::worker::{Next, Worker};

/// How long a claim holds.
pub(crate) const LEASE_MS: i64 = 50_000;

/// What a world is made of, and what is wrong with it on purpose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    /// Units per line of the order; a SKU each.
    pub(crate) quantities: Vec<u32>,
    /// Units in stock per SKU.
    pub(crate) available: Vec<u32>,
    /// Whether the bank declines the payment.
    pub(crate) declines: bool,
    /// Lines that the order's history has at the beginning.
    pub(crate) history: usize,
    /// Leaves the notification out: its part is done from the beginning.
    pub(crate) unnotified: bool,
    /// What the apps or the bank get wrong.
    pub(crate) flaw: Option<Flaw>,
    /// Used in a search.
    pub(crate) memory: Option<Memory>,
}

/// Mistakes that the protocol forbids. Each must be found out, or the model is blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The bank's key changes from attempt to attempt.
    KeyPerAttempt,
    /// A cancelled payment that the bank has never seen leaves no trace there.
    ForgetfulBank,
    /// A released reservation that never was leaves no trace in the stock.
    NoStockTombstone,
    /// Inventory releases what it has reserved before its rejection is stored.
    ReleaseBeforeReject,
    /// A compensation is noted before it is carried out.
    NoteBeforeUndo,
    /// A message is acknowledged while another attempt holds the order.
    AckWhenBusy,
    /// Who meets a finished part leaves the order as it is.
    NeverCloseAgain,
    /// The bank is called under a claim that does not say so.
    UncountedCall,
    /// A compensation believes an old version of the order, in which nothing unwinds yet.
    BelieveTheOldOrder,
    /// A compensation that could not be noted is taken for one that somebody else has noted.
    BelieveTheRefusal,
}

impl Flaw {
    pub(crate) const ALL: [Self; 10] = [
        Self::KeyPerAttempt,
        Self::ForgetfulBank,
        Self::NoStockTombstone,
        Self::ReleaseBeforeReject,
        Self::NoteBeforeUndo,
        Self::AckWhenBusy,
        Self::NeverCloseAgain,
        Self::UncountedCall,
        Self::BelieveTheOldOrder,
        Self::BelieveTheRefusal,
    ];
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum App {
    Inventory,
    Billing,
    Payments,
    Notification,
}

impl App {
    pub(crate) const ALL: [Self; 4] =
        [Self::Inventory, Self::Billing, Self::Payments, Self::Notification];

    pub(crate) fn service(self) -> Service {
        match self {
            Self::Inventory => Service::Inventory,
            Self::Billing | Self::Payments => Service::Billing,
            Self::Notification => Service::Notification,
        }
    }
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    /// On the topic.
    Event(EventType),
    /// In the payments queue: take the payment.
    Charge,
    /// In the payments queue: cancel the payment.
    Cancel,
}

/// A message that waits for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Letter {
    pub(crate) to: App,
    pub(crate) message: Message,
}

/// Who gets an event: the rules of the subscriptions.
pub(crate) fn subscribers(event: EventType) -> &'static [App] {
    match event {
        EventType::OrderCreated => &[App::Inventory, App::Billing, App::Notification],
        EventType::InventoryRejected | EventType::OrderCancelRequested => {
            &[App::Inventory, App::Billing]
        }
        EventType::BillingFailed => &[App::Inventory],
        EventType::OrderCompleted | EventType::OrderFailed | EventType::OrderCancelled => {
            &[App::Notification]
        }
    }
}

/// What the bank knows under the order's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payment {
    Unknown,
    Declined,
    Captured,
    Refunded,
    /// Cancelled before it was seen.
    Voided,
}

/// The bank's books.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bank {
    pub(crate) payment: Payment,
    pub(crate) captures: u32,
    pub(crate) refunds: u32,
}

/// What the stock partition of a SKU knows of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reservation {
    Unknown,
    Reserved,
    Released,
}

/// The stock partition of one SKU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shelf {
    pub(crate) available: u32,
    pub(crate) reserved: u32,
    /// Units that other orders have taken.
    pub(crate) elsewhere: u32,
    pub(crate) reservation: Reservation,
}

/// What happens to a request of a worker.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It is carried out; the worker does not learn of it and asks again.
    AnswerLost,
    /// It hangs in the network for any time; the worker asks again.
    Late,
    /// If it is a read, it gives this version of the order.
    Old(Version),
}

/// A claim; the fencing token alone tells two of them apart.
#[derive(Clone)]
pub(crate) struct Held(Rc<Claim>);

impl Held {
    pub(crate) fn new(claim: Claim) -> Self {
        Self(Rc::new(claim))
    }

    pub(crate) fn service(&self) -> Service {
        self.0.service
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.0.attempt
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.service(), self.attempt()) == (other.service(), other.attempt())
    }
}

impl Eq for Held {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.service().hash(state);
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {}", self.0.attempt)
    }
}

/// How an attempt ends that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Redelivered,
    Delayed,
    DeadLettered,
}

impl From<Ending> for NoSuccess {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Redelivered => Self::Redelivered,
            Ending::Delayed => Self::Delayed { after_ms: 1_000 },
            Ending::DeadLettered => Self::DeadLettered,
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    // to the order's partition
    Read,
    Claim { service: Service, name: u32, calls_out: bool },
    HandOver,
    Complete(Held),
    Reject(Held),
    Fail(Held, Ending),
    Compensated { service: Service, how: Status, uncalled: bool, seen: Glimpse },
    Unwound,
    Close(Glimpse),
    Tell(Notice),
    CustomerCancels(Glimpse),
    // to the partition of the n-th SKU
    Reserve(usize),
    Release(usize),
    // to the bank
    Charge,
    CancelPayment,
    // to the payments queue
    Enqueue(Message),
}

impl Request {
    fn decide(&self, now: Timestamp) -> Option<Move> {
        Some(match self {
            Self::Claim { service, name, calls_out } => {
                claim::claim(*service, &name.to_string(), now, LEASE_MS, *calls_out)
            }
            Self::HandOver => claim::hand_over(now, false),
            Self::Complete(held) => held.0.complete(now),
            Self::Reject(held) => held.0.reject(now, "no", None),
            Self::Fail(held, ending) => held.0.fail(now, "error", (*ending).into()),
            Self::Compensated { service, how, uncalled, seen } => {
                saga::compensated(&seen.0, *service, *how, now, *uncalled)
            }
            Self::Unwound => saga::unwound(Service::Inventory, now),
            Self::Close(seen) => saga::close(&seen.0, now, None)?,
            Self::Tell(what) => notice::tell(*what, now),
            Self::CustomerCancels(seen) => saga::cancel(&seen.0, now, None),
            _ => return None,
        })
    }
}

/// What a patch gave: nothing where its guard did not admit it.
type Patched = Option<(Version, Option<EventType>)>;

/// Remembers patches: in a search most of them come a hundred times, and they are what costs. Of
/// no use where the history counts, for two versions that differ in it alone are the same here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(RefCell<HashMap<(Version, Request, i64), Patched>>);

impl Memory {
    fn patch(&self, order: &Version, request: &Request, now_ms: i64) -> Result<Patched, Violation> {
        let key = (order.clone(), request.clone(), now_ms);
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(known.clone());
        }
        let after = patch(order, request, now_ms)?;
        self.0.borrow_mut().insert(key, after.clone());
        Ok(after)
    }
}

fn patch(order: &Version, request: &Request, now_ms: i64) -> Result<Patched, Violation> {
    let Some(change) = request.decide(at(now_ms)) else { return Ok(None) };
    let Some(after) = document::apply(order, &change) else { return Ok(None) };
    rules::transition(order, &after, request)?;
    Ok(Some((Version::new(after), change.event.map(|event| event.event_type))))
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The order as read, or after the move.
    Order(Version),
    /// The guard did not admit the move.
    Refused,
    Reserved,
    OutOfStock,
    /// There is a tombstone.
    Released,
    Payment(Payment),
    Accepted,
}

/// All there is.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) now_ms: i64,
    pub(crate) order: Version,
    /// The version before that, which a replica may still have.
    pub(crate) previous: Version,
    /// Events in the outbox, in the order in which they were told. The relay publishes each of
    /// them at once; that a message may wait for any time stands for its delays.
    pub(crate) told: Vec<EventType>,
    pub(crate) shelves: Vec<Shelf>,
    /// Whether other orders have ever taken stock.
    pub(crate) contested: bool,
    pub(crate) bank: Bank,
    /// Messages that wait, in any order.
    pub(crate) letters: Vec<Letter>,
    /// Messages that were given up on.
    pub(crate) dead: Vec<Letter>,
    pub(crate) workers: Vec<Worker>,
    /// What was sent to the customer.
    pub(crate) sent: Vec<Notice>,
    /// How often a message was given back unfinished.
    pub(crate) abandoned: usize,
}

impl State {
    /// The moment after an order was accepted.
    pub(crate) fn new(setting: &Setting) -> Self {
        let shelf = |&available| Shelf {
            available,
            reserved: 0,
            elsewhere: 0,
            reservation: Reservation::Unknown,
        };
        let mut order = document::order(&setting.quantities, setting.history);
        if setting.unnotified {
            order.status.notification = Status::Done;
        }
        let order = Version::new(order);
        let mut state = Self {
            now_ms: 0,
            previous: order.clone(),
            order,
            told: Vec::new(),
            shelves: setting.available.iter().map(shelf).collect(),
            contested: false,
            bank: Bank { payment: Payment::Unknown, captures: 0, refunds: 0 },
            letters: Vec::new(),
            dead: Vec::new(),
            workers: Vec::new(),
            sent: Vec::new(),
            abandoned: 0,
        };
        state.tell(EventType::OrderCreated, setting);
        state
    }

    fn tell(&mut self, event: EventType, setting: &Setting) {
        self.told.push(event);
        let subscribers = subscribers(event).iter().copied();
        self.letters.extend(
            subscribers
                .filter(|app| !setting.unnotified || *app != App::Notification)
                .map(|to| Letter { to, message: Message::Event(event) }),
        );
    }

    /// Gives a waiting message to a new worker.
    pub(crate) fn deliver(&mut self, letter: usize, name: u32) {
        let letter = self.letters.swap_remove(letter);
        self.workers.push(Worker::new(letter, name));
    }

    /// A worker dies; what it held comes again.
    pub(crate) fn crash(&mut self, worker: usize) {
        let worker = self.workers.swap_remove(worker);
        if worker.locked {
            self.letters.push(worker.letter);
        }
    }

    /// A worker stalls past the end of its message's lock; the message comes again.
    pub(crate) fn lose_lock(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if std::mem::take(&mut worker.locked) {
            self.letters.push(worker.letter);
        }
    }

    /// Lets a worker make one request; gives the request back if it is still under way.
    pub(crate) fn advance(
        &mut self,
        index: usize,
        fate: Fate,
        setting: &Setting,
    ) -> Result<Option<Request>, Violation> {
        let request = self.workers[index].request(setting);
        let answer = match (fate, &request) {
            (Fate::Late, _) => return Ok(Some(request)),
            (Fate::AnswerLost, _) => {
                self.perform(&request, setting)?;
                return Ok(None);
            }
            (Fate::Old(order), Request::Read) => Answer::Order(order),
            (Fate::Answered | Fate::Old(_), _) => self.perform(&request, setting)?,
        };
        if let (Request::Tell(what), Answer::Order(_)) = (&request, &answer) {
            self.sent.push(*what);
        }
        let worker = &mut self.workers[index];
        match worker.next(answer, at(self.now_ms), setting) {
            Next::Go(to) => worker.at = to,
            end => {
                let worker = self.workers.swap_remove(index);
                self.abandoned += usize::from(matches!(end, Next::Abandon));
                match end {
                    Next::Abandon if worker.locked => self.letters.push(worker.letter),
                    Next::DeadLetter if worker.locked => self.dead.push(worker.letter),
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// Carries a request out.
    pub(crate) fn perform(
        &mut self,
        request: &Request,
        setting: &Setting,
    ) -> Result<Answer, Violation> {
        let closed = self.is_closed().then(|| (self.shelves.clone(), self.bank.clone()));
        let answer = match request {
            Request::Read => Answer::Order(self.order.clone()),
            Request::Reserve(sku) => self.reserve(*sku, setting),
            Request::Release(sku) => self.release(*sku, setting)?,
            Request::Charge => self.charge(setting),
            Request::CancelPayment => self.cancel_payment(setting),
            Request::Enqueue(message) => {
                self.letters.push(Letter { to: App::Payments, message: *message });
                Answer::Accepted
            }
            _ => self.patch(request, setting)?,
        };
        if let Some((shelves, bank)) = closed {
            let same = shelves == self.shelves && bank == self.bank;
            rules::hold(same, || format!("{request:?} has an effect on a closed order"))?;
        }
        rules::always(self, setting)?;
        Ok(answer)
    }

    fn patch(&mut self, request: &Request, setting: &Setting) -> Result<Answer, Violation> {
        let patched = match &setting.memory {
            Some(memory) => memory.patch(&self.order, request, self.now_ms)?,
            None => patch(&self.order, request, self.now_ms)?,
        };
        let Some((after, event)) = patched else { return Ok(Answer::Refused) };
        self.previous = std::mem::replace(&mut self.order, after);
        if let Some(event) = event {
            // The store would refuse the whole batch, now and for ever.
            let known = self.told.iter().any(|told| told.sequence() == event.sequence());
            rules::hold(!known, || format!("{event} is told twice"))?;
            self.tell(event, setting);
        }
        Ok(Answer::Order(self.order.clone()))
    }

    fn reserve(&mut self, sku: usize, setting: &Setting) -> Answer {
        let quantity = setting.quantities[sku];
        let shelf = &mut self.shelves[sku];
        match shelf.reservation {
            Reservation::Reserved => Answer::Reserved,
            Reservation::Released => Answer::Released,
            Reservation::Unknown if shelf.available < quantity => Answer::OutOfStock,
            Reservation::Unknown => {
                shelf.available -= quantity;
                shelf.reserved += quantity;
                shelf.reservation = Reservation::Reserved;
                Answer::Reserved
            }
        }
    }

    fn release(&mut self, sku: usize, setting: &Setting) -> Result<Answer, Violation> {
        let quantity = setting.quantities[sku];
        let shelf = &mut self.shelves[sku];
        match shelf.reservation {
            Reservation::Released => {}
            Reservation::Unknown if setting.flaw == Some(Flaw::NoStockTombstone) => {}
            Reservation::Unknown => shelf.reservation = Reservation::Released,
            Reservation::Reserved => {
                let left = shelf.reserved.checked_sub(quantity);
                shelf.reserved = left.ok_or_else(|| Violation::new("given back twice"))?;
                shelf.available += quantity;
                shelf.reservation = Reservation::Released;
            }
        }
        Ok(Answer::Accepted)
    }

    fn charge(&mut self, setting: &Setting) -> Answer {
        let again = setting.flaw == Some(Flaw::KeyPerAttempt);
        match self.bank.payment {
            Payment::Unknown if setting.declines => self.bank.payment = Payment::Declined,
            Payment::Unknown => {
                self.bank.payment = Payment::Captured;
                self.bank.captures += 1;
            }
            Payment::Captured if again => self.bank.captures += 1,
            _ => {}
        }
        Answer::Payment(self.bank.payment)
    }

    fn cancel_payment(&mut self, setting: &Setting) -> Answer {
        match self.bank.payment {
            Payment::Captured => {
                self.bank.payment = Payment::Refunded;
                self.bank.refunds += 1;
            }
            Payment::Unknown if setting.flaw != Some(Flaw::ForgetfulBank) => {
                self.bank.payment = Payment::Voided;
            }
            _ => {}
        }
        Answer::Payment(self.bank.payment)
    }

    /// Two states with the same fingerprint have the same future: of attempts it matters which one
    /// is the newest, of leases which are over and whose they are, of calls whether there were any;
    /// what was told follows from the order; who came first is nobody's concern.
    pub(crate) fn fingerprint(&self) -> u128 {
        let now = at(self.now_ms).epoch_ms();
        let stages = &self.order.stage;
        let live = Service::ALL.map(|service| stages[service].lease_until >= now);
        let letters = self.letters.iter().map(fingerprint).fold(0, u128::wrapping_add);
        let worker = |worker: &Worker| {
            let stage = &stages[worker.letter.to.service()];
            let newest = worker.held().is_some_and(|held| held.attempt() == stage.attempt);
            let owner = stage.owner.as_deref() == Some(worker.name.to_string().as_str());
            fingerprint(&(&worker.letter, worker.locked, &worker.at, newest, owner))
        };
        let workers = self.workers.iter().map(worker).fold(0, u128::wrapping_add);
        fingerprint(&(live, &self.order, &self.shelves, &self.bank, letters, workers, &self.dead))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.order.overall != Overall::Accepted
    }

    /// Whether nothing is left that could change anything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.letters.is_empty() && self.dead.is_empty() && self.workers.is_empty()
    }
}
