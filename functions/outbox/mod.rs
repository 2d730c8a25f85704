//! App `outbox`: publishes what was committed and not published, whoever failed to. `relay`
//! follows the change feed and is there within seconds; `sweep` looks at the store every minute,
//! because a feed can skip, reports orders that do not get on, and measures what waits (`backlog`).
//! `reconcile` compares bank, stock and orders every hour.

mod backlog;
mod reconcile;
mod relay;
pub mod sweep;

use azure::bus::BusClient;
use azure::queue::QueueConnection;
use handler::{App, ChangeFeed, Context, TimerTick};

use crate::payments::bank::Bank;
use crate::publisher::Channel;
use crate::store::OrderStore;
use backlog::Backlog;

/// Adds function `relay`.
pub fn mount_relay(app: App, channel: Channel) -> App {
    app.function("relay", move |page: ChangeFeed, context: Context| {
        let channel = channel.clone();
        async move { relay::relay(&channel, page, &context).await }
    })
}

/// Adds function `sweep`, which looks into the subscriptions of `bus` and into `queues` besides.
pub fn mount_sweep(
    app: App,
    channel: Channel,
    bus: &BusClient,
    queues: Option<&QueueConnection>,
) -> App {
    let backlog = Backlog::new(bus, queues);
    app.function("sweep", move |_: TimerTick, context: Context| {
        let (channel, backlog) = (channel.clone(), backlog.clone());
        // Side by side: that the store is away says nothing about the broker.
        async move { tokio::join!(sweep::sweep(&channel, &context), backlog.look()).0 }
    })
}

/// Adds function `reconcile`.
pub fn mount_reconcile(app: App, store: OrderStore, bank: Bank) -> App {
    app.function("reconcile", move |tick: TimerTick, context: Context| {
        let (store, bank) = (store.clone(), bank.clone());
        async move { reconcile::reconcile(&store, &bank, &tick, &context).await }
    })
}
