//! App `billing`, function `charge`: hands the payment of an order to queue `payments`, through the
//! output binding of the host. The queue is the watertight door to the bank: whatever happens
//! behind it, this app goes on.
//!
//! Handing over twice is harmless, because behind the door every payment is settled once; so this
//! function needs no lease. The host writes the queue after the answer and before it completes the
//! message: a crash in between brings the message again.

use azure::bus::BusClient;
use handler::{App, Context, Reply, ServiceBusMessage};
use orders::submission::Fault;
use orders::{Claim, EventType, Order, Service, claim};
use tracing::info;

use crate::clock;
use crate::courier::{Courier, Occasion};
use crate::crash;
use crate::delivery::Delivery;
use crate::verdict::{Trouble, Verdict};
use crate::worker::{Answer, FLAKY_ATTEMPTS, INVOCATION_DEADLINE, Worker};
use crate::{publisher::Outbox, store::OrderStore};

/// Name of the output binding in `function.json`.
const PAYMENT: &str = "payment";

/// Adds the function.
pub fn mount(app: App, bus: &BusClient, store: OrderStore, outbox: Outbox) -> App {
    let billing = Billing {
        courier: Courier::new(bus, "billing-sub"),
        worker: Worker::new(Service::Billing, store, outbox),
    };
    app.invocation_deadline(INVOCATION_DEADLINE).function(
        "charge",
        move |message: ServiceBusMessage, context: Context| {
            let billing = billing.clone();
            async move {
                let work = |delivery, occasion| billing.work(delivery, occasion);
                billing.courier.handle(message, &context, work).await
            }
        },
    )
}

#[derive(Clone)]
struct Billing {
    courier: Courier,
    worker: Worker,
}

impl Billing {
    async fn work(&self, delivery: Delivery, occasion: Occasion) -> Result<Reply, Verdict> {
        match delivery.event.event_type {
            EventType::OrderCreated => {}
            // What is to be done about the money is for those behind the door to find out.
            event_type if event_type.unwinds() => return Ok(payment(&delivery)),
            event_type => {
                info!(%event_type, "nothing to do for this event");
                return Ok(Reply::done());
            }
        }
        let hand_over = async |despite_fault| {
            self.hand_over(&delivery, despite_fault).await.map_err(|t| occasion.judge(t))
        };
        let mut handed_over = hand_over(false).await?;
        if asks_to_fail(&handed_over) {
            // A claimed attempt, so that it is seen and counted like any other that fails.
            let act = async |_: &Claim, _| Ok::<Answer, Trouble>(Answer::Withdrawn);
            self.worker.attempt(&delivery, &occasion, false, act).await?;
        }
        if is_faulty(&handed_over) {
            handed_over = hand_over(true).await?;
        }
        if handed_over.status[Service::Billing].is_finished() {
            info!(order.id = %delivery.order_id, "nothing left to do");
            let trace = delivery.event.traceparent.as_deref();
            let closed = self.worker.close(&handed_over, trace).await;
            closed.map_err(|trouble| occasion.judge(trouble))?;
            return Ok(Reply::done());
        }
        info!(order.id = %delivery.order_id, event.id = delivery.event.id, "payment handed over");
        Ok(payment(&delivery))
    }

    /// Notes that the payment is on its way, unless this app is to fail first; the order after
    /// that, or as it is.
    async fn hand_over(&self, delivery: &Delivery, despite_fault: bool) -> Result<Order, Trouble> {
        crash::point("billing.before-hand-over").await;
        let change = claim::hand_over(clock::now(), despite_fault);
        let order = self.worker.apply(delivery.order_id, &change).await?;
        crash::point("billing.after-hand-over").await;
        Ok(order)
    }
}

/// Whether this function, and not the bank, is asked to fail.
fn asks_to_fail(order: &Order) -> bool {
    let still_to_do = !order.status[Service::Billing].is_finished();
    still_to_do
        && match order.faults.get(&Service::Billing) {
            Some(Fault::Fail) => true,
            Some(Fault::Flaky) => order.stage[Service::Billing].attempt < FLAKY_ATTEMPTS,
            _ => false,
        }
}

/// Whether this function was asked to fail, be it done with that or not.
fn is_faulty(order: &Order) -> bool {
    let fault = order.faults.get(&Service::Billing);
    fault.is_some_and(|fault| fault.fails_the_service())
}

/// The answer that puts the payment into the queue.
fn payment(delivery: &Delivery) -> Reply {
    Reply::done().output(PAYMENT, delivery)
}
