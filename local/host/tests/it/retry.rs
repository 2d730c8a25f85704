//! Retry policies of triggers whose items could also be redelivered.

use host::Level;
use serde_json::{Value, json};

use crate::app::App;
use crate::service_bus::{Broker, Publisher, queue_trigger};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_retried_under_their_lock_and_that_is_warned_of() {
    let broker = Broker::anywhere().await;
    let host = App::new(|host| {
        host["retry"] = json!({ "strategy": "exponentialBackoff", "maxRetryCount": 2,
            "minimumInterval": "00:00:00.01", "maximumInterval": "00:00:00.05" });
    })
    .function("Work", &queue_trigger())
    .http("Teapot", "teapot")
    .setting("OrdersBus", broker.connection_string())
    .start()
    .await;
    let mut publisher = Publisher::connect(broker.address, "work").await;
    publisher.send("patient", &json!({ "failUntilRetry": 2 })).await;
    host.log.wait_for("Executed 'Functions.Work' (Succeeded", 1).await;
    let seen = host.log.said("INVOKED", 3).await;
    let told = |call: &Value| {
        let metadata = &call["envelope"]["Metadata"];
        (metadata["DeliveryCount"].clone(), metadata["RetryContext"]["RetryCount"].clone())
    };
    let one = || json!("1");
    let told: Vec<_> = seen.iter().map(told).collect();
    assert_eq!(told, [(one(), json!(0)), (one(), json!(1)), (one(), json!(2))], "one delivery");
    let warnings = host.log.at(Level::Warning);
    let about = |name: &str| {
        let told = |text: &&String| text.contains("soon retries") && text.contains(name);
        warnings.iter().filter(told).count()
    };
    assert_eq!((about("Work/"), about("Teapot/")), (1, 0), "{warnings:?}");
    host.stop().await;
    broker.stop().await;
}
