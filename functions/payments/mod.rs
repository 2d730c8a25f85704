//! App `payments`, function `settle`: takes payments from queue `payments` and brings bank and
//! order in line. Only this app speaks to the bank, and only it completes `/status/billing`.
//!
//! A message says which order to look at; what to do is read from the order itself, at the moment
//! of the claim: charge while it goes on, cancel once it unwinds. The claim counts the calls
//! before they are made, so an attempt that follows a lost one knows that it has to look up first.
//! A payment that cannot be settled goes to queue `payments-poison` with its reason.

pub mod bank;

use azure::bus::{BusClient, Sender};
use handler::{App, Context, Failure, QueueMessage, Reply};
use orders::submission::Fault;
use orders::{Claim, EventType, Order, Service, Status};
use serde_json::json;
use tokio::time::Instant;
use tracing::{Instrument as _, error, info};

use crate::clock;
use crate::courier::{self, Occasion};
use crate::crash;
use crate::delivery::Delivery;
use crate::telemetry::{self, Consumption};
use crate::topology::TOPOLOGY;
use crate::verdict::{Trouble, Verdict};
use crate::worker::{Answer, INVOCATION_DEADLINE, Worker};
use crate::{publisher::Outbox, store::OrderStore};
use bank::{Bank, Payment, PaymentState};

/// Name of the output binding for payments that cannot be settled.
const POISON: &str = "poison";

/// The queue, as telemetry names it.
const QUEUE: &str = "payments";

/// The subscription through which a payment comes back later.
const SUBSCRIPTION: &str = "billing-sub";

/// Dequeues after which the host moves a message to the poison queue:
/// `extensions.queues.maxDequeueCount` in `host.json`.
const DEQUEUES_MAX: u32 = 5;

/// Adds the function.
pub fn mount(app: App, bus: &BusClient, store: OrderStore, outbox: Outbox, bank: Bank) -> App {
    let payments = Payments {
        topic: bus.sender(&TOPOLOGY.topic().name),
        worker: Worker::new(Service::Billing, store, outbox),
        bank,
    };
    app.invocation_deadline(INVOCATION_DEADLINE).function(
        "settle",
        move |message: QueueMessage, context: Context| {
            let payments = payments.clone();
            async move { payments.handle(&message, &context).await }
        },
    )
}

#[derive(Clone)]
struct Payments {
    topic: Sender,
    worker: Worker,
    bank: Bank,
}

impl Payments {
    async fn handle(&self, message: &QueueMessage, context: &Context) -> Result<Reply, Failure> {
        let delivery = match Delivery::of_queue_text(message.text()) {
            Ok(delivery) => delivery,
            Err(trouble) => {
                let reason = reason_of(&trouble);
                return Ok(poison(message.text(), reason, trouble.text()));
            }
        };
        // The host moves a message to the poison queue by itself after the last dequeue; marking
        // that on the order is left to the attempt that knows why.
        let last = message.dequeue_count().is_some_and(|count| count >= DEQUEUES_MAX);
        let occasion = Occasion::new(&delivery, last, context);
        let mut ours = delivery.clone();
        let mut consumption = Consumption::begin(&mut ours, None, context, QUEUE);
        let settled = self.settle(&ours, &occasion).instrument(consumption.log.clone()).await;
        // The lines below name the order themselves, and the invocation's span does.
        if let Err(verdict) = &settled {
            consumption.fail(verdict.noted().0);
        }
        match settled {
            Ok(()) => Ok(Reply::done()),
            Err(Verdict::Delay { after, why }) => {
                // Through the topic and not in place: the queue has no back-off of its own, and
                // five dequeues are soon used up.
                courier::send_later(&self.topic, SUBSCRIPTION, &delivery, after).await?;
                telemetry::retried(QUEUE);
                info!(order.id = %delivery.order_id, attempt = delivery.attempt + 1,
                    after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX), why,
                    "the payment comes back later");
                Ok(Reply::done())
            }
            Err(Verdict::DeadLetter { reason, description }) => {
                Ok(poison(message.text(), reason, &description))
            }
            Err(Verdict::Redeliver { why, last }) => {
                if last {
                    // The host's doing; it gives no reason.
                    telemetry::dead_lettered(QUEUE, "max-dequeue-count");
                }
                Err(Failure::new("attempt-failed", why))
            }
        }
    }

    async fn settle(&self, delivery: &Delivery, occasion: &Occasion) -> Result<(), Verdict> {
        if delivery.event.event_type == EventType::OrderCreated {
            let act = async |claim: &Claim, deadline| self.charge(claim, deadline).await;
            self.worker.attempt(delivery, occasion, true, act).await.map(drop)
        } else {
            let undone = self.undo(delivery, occasion).await;
            undone.map_err(|trouble| occasion.judge(trouble))
        }
    }

    async fn charge(&self, claim: &Claim, deadline: Instant) -> Result<Answer, Trouble> {
        let order = &claim.order;
        let called_before = order.stage[Service::Billing].calls > 1;
        crash::point("billing.before-charge").await;
        let charge = self.bank.charge(order, instrument(order), called_before, deadline);
        let payment = charge.await?;
        crash::point("billing.after-charge").await;
        info!(order.id = %order.order_id, state = ?payment.state, called_before, "bank answered");
        Ok(match payment {
            Payment { state: PaymentState::Captured, .. } => Answer::Done,
            Payment { state: PaymentState::Declined, .. } => Answer::Rejected("payment_declined"),
            Payment { state: PaymentState::Voided | PaymentState::Refunded, .. } => {
                Answer::Withdrawn
            }
        })
    }

    /// Undoes the payment of an order that unwinds.
    async fn undo(&self, delivery: &Delivery, occasion: &Occasion) -> Result<(), Trouble> {
        let deadline = Instant::now() + occasion.remaining;
        let trace = delivery.event.traceparent.as_deref();
        let order = self.worker.unwinding_order(delivery.order_id, deadline).await?;
        if !order.status[Service::Billing].is_compensable() {
            return self.worker.close(&order, trace).await;
        }
        if order.stage[Service::Billing].calls == 0 {
            // Nobody has spoken to the bank about it, and nobody will: the guard sees to both.
            let after = self.worker.compensated(&order, Status::Released, true, trace).await?;
            if !after.status[Service::Billing].is_compensable() {
                return Ok(());
            }
        }
        crash::point("billing.before-cancel").await;
        let payment = self.bank.cancel(order.order_id, deadline).await?;
        crash::point("billing.after-cancel").await;
        info!(order.id = %order.order_id, state = ?payment.state, "bank cancelled");
        let how = match payment.state {
            PaymentState::Refunded => Status::Refunded,
            PaymentState::Voided | PaymentState::Declined => Status::Released,
            PaymentState::Captured => {
                let why = "the bank answered a cancellation with captured";
                return Err(Trouble::poison("bank-answer-unreadable", why));
            }
        };
        self.worker.compensated(&order, how, false, trace).await.map(drop)
    }
}

/// The payment instrument that asks the bank simulator for a certain behaviour, as test cards do.
fn instrument(order: &Order) -> Option<&'static str> {
    match order.faults.get(&Service::Billing)? {
        Fault::Decline => Some("test-decline"),
        Fault::Late => Some("test-late-once"),
        Fault::Lost => Some("test-lost-once"),
        Fault::Fail | Fault::Flaky => None,
    }
}

fn reason_of(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Poison { reason, .. } => reason,
        Trouble::Unavailable(_) | Trouble::Transient { .. } | Trouble::Crash(_) => "unreadable",
    }
}

/// The answer that puts a payment into the poison queue, with what is known about it: `{reason,
/// description, at, message}`.
fn poison(text: &str, reason: &str, description: &str) -> Reply {
    error!(reason, description, "the payment goes to the poison queue");
    telemetry::dead_lettered(QUEUE, reason);
    let message = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    Reply::done().output(
        POISON,
        json!({
            "reason": reason,
            "description": description,
            "at": clock::now(),
            "message": message,
        }),
    )
}
