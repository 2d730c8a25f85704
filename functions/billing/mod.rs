//! App `billing`, function `charge`: takes part in every order as its subscription of the topic
//! delivers it. Moves `/status/billing` and nothing else; it charges nobody yet.

use handler::App;
use orders::Service;

use crate::consumer::{Consumer, INVOCATION_DEADLINE};
use crate::store::OrderStore;

/// Mounts the function.
pub fn mount(app: App, store: OrderStore) -> App {
    let consumer = Consumer::new(Service::Billing, store);
    app.invocation_deadline(INVOCATION_DEADLINE).function("charge", move |message, context| {
        let consumer = consumer.clone();
        async move { consumer.handle(message, context, async |_order| Ok(())).await }
    })
}
