//! App `inventory`, function `reserve`: reserves the stock of an order, and gives it back when the
//! order cannot go on. Moves `/status/inventory` and nothing else of the order.
//!
//! Running out is decided on the order first and cleaned up afterwards: the fenced move to
//! `failed` is what makes it final, so a stalled worker can neither give back what a later attempt
//! has reserved nor reserve what has been given back.

use azure::bus::BusClient;
use handler::{App, Context, Reply, ServiceBusMessage};
use orders::{Claim, EventType, Order, Service, Status};
use tokio::time::Instant;
use tracing::info;

use crate::courier::{Courier, Occasion};
use crate::crash;
use crate::delivery::Delivery;
use crate::store::stock::Reserved;
use crate::verdict::{Trouble, Verdict};
use crate::worker::{Answer, INVOCATION_DEADLINE, Worker};
use crate::{publisher::Outbox, store::OrderStore};

/// The reason that orders, events and customers are given.
const OUT_OF_STOCK: &str = "out_of_stock";

/// Adds the function.
pub fn mount(app: App, bus: &BusClient, store: OrderStore, outbox: Outbox) -> App {
    let inventory = Inventory {
        courier: Courier::new(bus, "inventory-sub"),
        worker: Worker::new(Service::Inventory, store, outbox),
    };
    app.invocation_deadline(INVOCATION_DEADLINE).function(
        "reserve",
        move |message: ServiceBusMessage, context: Context| {
            let inventory = inventory.clone();
            async move {
                let work = |delivery, occasion| inventory.work(delivery, occasion);
                inventory.courier.handle(message, &context, work).await
            }
        },
    )
}

#[derive(Clone)]
struct Inventory {
    courier: Courier,
    worker: Worker,
}

impl Inventory {
    async fn work(&self, delivery: Delivery, occasion: Occasion) -> Result<Reply, Verdict> {
        match delivery.event.event_type {
            EventType::OrderCreated => {
                let act = async |claim: &Claim, deadline| self.reserve(claim, deadline).await;
                let order = self.worker.attempt(&delivery, &occasion, false, act).await?;
                self.clean_up(&delivery, &order).await.map_err(|t| occasion.judge(t))?;
            }
            event_type if event_type.unwinds() => {
                self.release(&delivery).await.map_err(|t| occasion.judge(t))?;
            }
            event_type => info!(%event_type, "nothing to do for this event"),
        }
        Ok(Reply::done())
    }

    /// Reserves every SKU, in order.
    async fn reserve(&self, claim: &Claim, deadline: Instant) -> Result<Answer, Trouble> {
        let (order_id, store) = (claim.order.order_id, self.worker.store());
        for (sku, quantity) in claim.order.quantities() {
            let reserve = || store.reserve(order_id, &sku, quantity);
            match self.worker.patiently(deadline, reserve).await? {
                Reserved::Held => crash::point("inventory.between-reservations").await,
                Reserved::Insufficient => return Ok(Answer::Rejected(OUT_OF_STOCK)),
                Reserved::Withdrawn => return Ok(Answer::Withdrawn),
            }
        }
        Ok(Answer::Done)
    }

    /// Cleans up after an own no; its event would bring that about as well, a moment later.
    async fn clean_up(&self, delivery: &Delivery, order: &Order) -> Result<(), Trouble> {
        let rejected = order.status[Service::Inventory] == Status::Failed;
        if rejected && !order.stage[Service::Inventory].unwound {
            let deadline = Instant::now() + INVOCATION_DEADLINE;
            self.give_back(delivery, order, deadline).await?;
        }
        Ok(())
    }

    /// Gives everything back and notes it.
    async fn release(&self, delivery: &Delivery) -> Result<(), Trouble> {
        let deadline = Instant::now() + INVOCATION_DEADLINE;
        let order = self.worker.unwinding_order(delivery.order_id, deadline).await?;
        self.give_back(delivery, &order, deadline).await
    }

    async fn give_back(
        &self,
        delivery: &Delivery,
        order: &Order,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let store = self.worker.store();
        for sku in order.quantities().into_keys() {
            let release = || store.release(order.order_id, &sku);
            self.worker.patiently(deadline, release).await?;
            crash::point("inventory.between-releases").await;
        }
        let trace = delivery.event.traceparent.as_deref();
        self.worker.compensated(order, Status::Released, false, trace).await.map(drop)
    }
}
