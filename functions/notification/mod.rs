//! App `notification`, function `notify`: takes part in every order as its subscription of the topic
//! delivers it. Moves `/status/notification` and nothing else; it writes to nobody yet.

use handler::App;
use orders::Service;

use crate::consumer::{Consumer, INVOCATION_DEADLINE};
use crate::store::OrderStore;

/// Mounts the function.
pub fn mount(app: App, store: OrderStore) -> App {
    let consumer = Consumer::new(Service::Notification, store);
    app.invocation_deadline(INVOCATION_DEADLINE).function("notify", move |message, context| {
        let consumer = consumer.clone();
        async move { consumer.handle(message, context, async |_order| Ok(())).await }
    })
}
