//! The programs of the apps, one request at a time. Between two requests a worker may die, stall
//! or be overtaken.

use orders::{EventType, Notice, Service, Standing, Status, Timestamp, claim, saga};

use super::document::{Glimpse, Version};
use super::world::{Answer, App, Ending, Flaw, Held, Letter, Message, Payment, Request, Setting};

/// One invocation.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) letter: Letter,
    /// Whether the message is still locked for this worker.
    pub(crate) locked: bool,
    /// Unique among all invocations.
    pub(crate) name: u32,
    pub(crate) at: Place,
}

/// Where a worker is: the request that it makes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Claim,
    HandOver,
    /// The claim or the handing over was refused: reads why.
    Judge,
    Reserve(Held, usize),
    Charge(Held),
    Complete(Held),
    Reject(Held),
    /// Fenced off, or an answer was lost: reads which.
    Fenced,
    GiveBack(Held, Ending),
    /// A compensation begins: reads the order.
    Look,
    Release(Then, usize),
    CancelPayment(Glimpse),
    Compensated {
        how: Status,
        uncalled: bool,
        seen: Glimpse,
    },
    Unwound,
    Enqueue(Message),
    Tell(Notice, Option<Held>),
    Close(Glimpse),
}

/// What follows after everything is given back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    Note(Glimpse),
    Reject(Held),
}

/// What a worker does after an answer.
#[derive(Debug)]
pub(crate) enum Next {
    Go(Place),
    Acknowledge,
    Abandon,
    DeadLetter,
}

use Next::{Abandon, Acknowledge, DeadLetter, Go};

impl Worker {
    pub(crate) fn new(letter: Letter, name: u32) -> Self {
        let at = match (letter.to, letter.message) {
            (App::Notification, Message::Event(event)) if event != EventType::OrderCreated => {
                Place::Tell(Notice::of(event).expect("a closing event"), None)
            }
            (App::Billing, Message::Event(EventType::OrderCreated)) => Place::HandOver,
            (_, Message::Event(EventType::OrderCreated) | Message::Charge) => Place::Claim,
            (App::Billing, _) => Place::Enqueue(Message::Cancel),
            _ => Place::Look,
        };
        Self { letter, locked: true, name, at }
    }

    fn service(&self) -> Service {
        self.letter.to.service()
    }

    /// The claim that this worker acts under and has not ended yet.
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.at {
            Place::Reserve(held, _)
            | Place::Charge(held)
            | Place::Complete(held)
            | Place::Reject(held)
            | Place::Release(Then::Reject(held), _)
            | Place::Tell(_, Some(held)) => Some(held),
            _ => None,
        }
    }

    /// The request that comes next.
    pub(crate) fn request(&self, setting: &Setting) -> Request {
        let service = self.service();
        match self.at.clone() {
            Place::Claim => {
                let honest = setting.flaw != Some(Flaw::UncountedCall);
                let calls_out = self.letter.to == App::Payments && honest;
                Request::Claim { service, name: self.name, calls_out }
            }
            Place::HandOver => Request::HandOver,
            Place::Judge | Place::Fenced | Place::Look => Request::Read,
            Place::Reserve(_, sku) => Request::Reserve(sku),
            Place::Charge(_) => Request::Charge,
            Place::Complete(held) => Request::Complete(held),
            Place::Reject(held) => Request::Reject(held),
            Place::GiveBack(held, ending) => Request::Fail(held, ending),
            Place::Release(_, sku) => Request::Release(sku),
            Place::CancelPayment(_) => Request::CancelPayment,
            Place::Compensated { how, uncalled, seen } => {
                Request::Compensated { service, how, uncalled, seen }
            }
            Place::Unwound => Request::Unwound,
            Place::Enqueue(message) => Request::Enqueue(message),
            Place::Tell(what, _) => Request::Tell(what),
            Place::Close(seen) => Request::Close(seen),
        }
    }

    /// What this worker does after the answer to [`request`](Self::request).
    pub(crate) fn next(&self, answer: Answer, now: Timestamp, setting: &Setting) -> Next {
        match (self.at.clone(), answer) {
            (Place::Claim, Answer::Order(order)) => self.begin(&order),
            (Place::HandOver, Answer::Order(_)) => Go(Place::Enqueue(Message::Charge)),
            (Place::Claim | Place::HandOver, _) => Go(Place::Judge),
            (Place::Judge, Answer::Order(order)) => self.judge(&order, now, setting),

            (Place::Reserve(held, sku), Answer::Reserved) if sku + 1 < setting.quantities.len() => {
                Go(Place::Reserve(held, sku + 1))
            }
            (Place::Reserve(held, _), Answer::Reserved) | (Place::Tell(_, Some(held)), _) => {
                Go(Place::Complete(held))
            }
            (Place::Reserve(held, _), Answer::OutOfStock) => Go(match setting.flaw {
                Some(Flaw::ReleaseBeforeReject) => Place::Release(Then::Reject(held), 0),
                _ => Place::Reject(held),
            }),

            (Place::Charge(held), Answer::Payment(payment)) => match payment {
                Payment::Captured => Go(Place::Complete(held)),
                Payment::Declined => Go(Place::Reject(held)),
                _ => Acknowledge,
            },

            (Place::Reject(_), Answer::Order(order)) if self.service() == Service::Inventory => {
                Go(Place::Release(Then::Note(Glimpse(order)), 0))
            }
            (Place::Complete(_) | Place::Reject(_), Answer::Order(order)) => close(&order, now),
            (Place::Complete(_) | Place::Reject(_), _) => Go(Place::Fenced),
            (Place::Fenced, Answer::Order(order)) => {
                if order.status[self.service()].is_finished() {
                    close(&order, now)
                } else {
                    Abandon
                }
            }
            (Place::GiveBack(_, Ending::DeadLettered), _) => DeadLetter,
            (Place::GiveBack(..), _) => Abandon,

            (Place::Look, Answer::Order(order)) => self.undo(order, now, setting),
            (Place::Release(then, sku), _) if sku + 1 < setting.quantities.len() => {
                Go(Place::Release(then, sku + 1))
            }
            (Place::Release(Then::Reject(held), _), _) => Go(Place::Reject(held)),
            (Place::Release(Then::Note(seen), _), _) => match seen.0.status[self.service()] {
                Status::Failed => Go(Place::Unwound),
                _ if setting.flaw == Some(Flaw::NoteBeforeUndo) => close(&seen.0, now),
                _ => Go(Place::Compensated { how: Status::Released, uncalled: false, seen }),
            },
            (Place::CancelPayment(seen), Answer::Payment(payment)) => {
                let refunded = payment == Payment::Refunded;
                let how = if refunded { Status::Refunded } else { Status::Released };
                Go(Place::Compensated { how, uncalled: false, seen })
            }
            (Place::Compensated { .. }, Answer::Order(order))
                if setting.flaw == Some(Flaw::NoteBeforeUndo)
                    && self.service() == Service::Inventory =>
            {
                Go(Place::Release(Then::Note(Glimpse(order)), 0))
            }
            (Place::Compensated { .. } | Place::Unwound, Answer::Order(order)) => {
                close(&order, now)
            }
            (Place::Compensated { .. } | Place::Unwound, _) => match setting.flaw {
                Some(Flaw::BelieveTheRefusal) => Go(Place::Fenced),
                _ => Go(Place::Look),
            },

            // Whoever has left a tombstone in the stock finishes; whoever has closed the order is
            // done with it.
            (
                Place::Reserve(..) | Place::Tell(_, None) | Place::Enqueue(_) | Place::Close(_),
                _,
            ) => Acknowledge,
            (place, answer) => panic!("{place:?} cannot be answered {answer:?}"),
        }
    }

    /// The claim is ours.
    fn begin(&self, order: &Version) -> Next {
        let held = Held::new(claim::claimed((**order).clone(), self.service()));
        Go(match self.letter.to {
            App::Inventory => Place::Reserve(held, 0),
            App::Notification => Place::Tell(Notice::Received, Some(held)),
            App::Billing | App::Payments => Place::Charge(held),
        })
    }

    fn judge(&self, order: &Version, now: Timestamp, setting: &Setting) -> Next {
        match claim::standing(order, self.service(), &self.name.to_string(), now) {
            Standing::Finished if setting.flaw == Some(Flaw::NeverCloseAgain) => Acknowledge,
            Standing::Finished => close(order, now),
            Standing::Withdrawn => Acknowledge,
            Standing::Ours => self.begin(order),
            // A payment that is at work came out of the queue and is there until it is settled.
            Standing::Busy { .. } if self.letter.to == App::Billing => Acknowledge,
            Standing::Busy { .. } if setting.flaw == Some(Flaw::AckWhenBusy) => Acknowledge,
            Standing::Busy { .. } => Abandon,
            Standing::Free if self.letter.to == App::Billing => Go(Place::HandOver),
            Standing::Free => Go(Place::Claim),
        }
    }

    fn undo(&self, order: Version, now: Timestamp, setting: &Setting) -> Next {
        let service = self.service();
        if !order.is_unwinding() {
            // An old version, or a message that lies: nothing is undone on its word alone, and an
            // old version is no reason to forget it.
            return match setting.flaw {
                Some(Flaw::BelieveTheOldOrder) => Acknowledge,
                _ => Abandon,
            };
        }
        let stage = &order.stage[service];
        let over = match order.status[service] {
            Status::Failed => stage.unwound,
            status => status.is_finished() && status != Status::Done,
        };
        if over {
            return match setting.flaw {
                Some(Flaw::NeverCloseAgain) => Acknowledge,
                _ => close(&order, now),
            };
        }
        let uncalled = service == Service::Billing && stage.calls == 0;
        let released = |uncalled, seen| Place::Compensated {
            how: Status::Released,
            uncalled,
            seen: Glimpse(seen),
        };
        Go(match service {
            Service::Billing if uncalled => released(true, order),
            Service::Billing => Place::CancelPayment(Glimpse(order)),
            _ if setting.flaw == Some(Flaw::NoteBeforeUndo)
                && order.status[service] != Status::Failed =>
            {
                released(false, order)
            }
            _ => Place::Release(Then::Note(Glimpse(order)), 0),
        })
    }
}

/// Closes the order if it is ready for it.
fn close(order: &Version, now: Timestamp) -> Next {
    match saga::close(order, now, None) {
        Some(_) => Go(Place::Close(Glimpse(order.clone()))),
        None => Acknowledge,
    }
}
