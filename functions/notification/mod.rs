//! App `notification`, function `notify`: tells the customer that an order was received, and how
//! it ended, and the world outside with them. Moves `/status/notification` and `/notified`, and
//! nothing else of the order.
//!
//! Each notice is written on the order once, by a conditional move, before it goes out: of two
//! deliveries one gets through, and that one tells. The customer reads it with the order. The event
//! itself then goes to Event Grid, on every delivery: see [`crate::grid`].

use azure::bus::BusClient;
use handler::{App, Context, Reply, ServiceBusMessage};
use orders::{Claim, EventType, Notice, Order, OrderId, Overall, Service, notice};
use tokio::time::Instant;
use tracing::info;

use crate::clock;
use crate::courier::{Courier, Occasion};
use crate::delivery::Delivery;
use crate::grid::Grid;
use crate::store::Moved;
use crate::verdict::{Trouble, Verdict};
use crate::worker::{Answer, INVOCATION_DEADLINE, Worker};
use crate::{publisher::Outbox, store::OrderStore};

/// Adds the function.
pub fn mount(app: App, bus: &BusClient, store: OrderStore, outbox: Outbox, grid: Grid) -> App {
    let notification = Notification {
        courier: Courier::new(bus, "notification-sub"),
        worker: Worker::new(Service::Notification, store, outbox),
        grid,
    };
    app.invocation_deadline(INVOCATION_DEADLINE).function(
        "notify",
        move |message: ServiceBusMessage, context: Context| {
            let notification = notification.clone();
            async move {
                let work = |delivery, occasion| notification.work(delivery, occasion);
                notification.courier.handle(message, &context, work).await
            }
        },
    )
}

#[derive(Clone)]
struct Notification {
    courier: Courier,
    worker: Worker,
    grid: Grid,
}

impl Notification {
    async fn work(&self, delivery: Delivery, occasion: Occasion) -> Result<Reply, Verdict> {
        let event_type = delivery.event.event_type;
        let deadline = Instant::now() + occasion.remaining;
        match Notice::of(event_type) {
            Some(received) if event_type == EventType::OrderCreated => {
                let act = async |claim: &Claim, deadline| {
                    // News that is older than what the customer has read already is none.
                    if claim.order.overall == Overall::Accepted {
                        self.tell(claim.order.order_id, received, deadline).await?;
                    }
                    Ok(Answer::Done)
                };
                self.worker.attempt(&delivery, &occasion, false, act).await?;
            }
            Some(closing) => {
                let told = self.tell(delivery.order_id, closing, deadline).await;
                told.map_err(|trouble| occasion.judge(trouble))?;
            }
            None => {
                info!(%event_type, "nothing to tell for this event");
                return Ok(Reply::done());
            }
        }
        // Also when the customer was told before: a crash in between must not lose the event.
        let published = self.grid.publish(&delivery.event, deadline).await;
        published.map_err(|trouble| occasion.judge(trouble))?;
        Ok(Reply::done())
    }

    /// Tells the customer, once.
    async fn tell(
        &self,
        order_id: OrderId,
        notice: Notice,
        deadline: Instant,
    ) -> Result<(), Trouble> {
        let change = notice::tell(notice, clock::now());
        let store = self.worker.store();
        match self.worker.patiently(deadline, || store.apply(order_id, &change)).await? {
            Moved::Applied(order) => send(&order, notice),
            Moved::Refused => {
                info!(order.id = %order_id, notice = notice.as_str(), "told before");
            }
            // Says so, after a while.
            Moved::Missing => drop(self.worker.order(order_id, deadline).await?),
        }
        Ok(())
    }
}

/// Hands a notice to the customer's inbox, which is the order itself. The log has the text.
fn send(order: &Order, notice: Notice) {
    let (subject, _) = notice::text(order, notice);
    info!(order.id = %order.order_id, notice = notice.as_str(), subject, "customer notified");
}
