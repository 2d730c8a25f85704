//! App `outbox`: publishes what was committed and not published, whoever failed to. `relay`
//! follows the change feed and is there within seconds; `sweep` looks at the store every minute,
//! because a feed can skip, and reports orders that do not get on.

mod relay;
pub mod sweep;

use handler::{App, ChangeFeed, Context, TimerTick};

use crate::publisher::Channel;

/// Adds function `relay`.
pub fn mount_relay(app: App, channel: Channel) -> App {
    app.function("relay", move |page: ChangeFeed, context: Context| {
        let channel = channel.clone();
        async move { relay::relay(&channel, page, &context).await }
    })
}

/// Adds function `sweep`.
pub fn mount_sweep(app: App, channel: Channel) -> App {
    app.function("sweep", move |_: TimerTick, context: Context| {
        let channel = channel.clone();
        async move { sweep::sweep(&channel, &context).await }
    })
}
