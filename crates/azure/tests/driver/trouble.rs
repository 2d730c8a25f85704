//! Session tokens, and refusals that the driver is to get over.

use azure_data_cosmos_driver::models::{CosmosOperation, SessionToken};
use azure_data_cosmos_driver::options::OperationOptions;
use serde_json::json;

use crate::harness::{Way, bytes, code, impatient, start};

#[tokio::test(flavor = "multi_thread")]
async fn reads_see_their_session() {
    for ranges in [false, true] {
        let service = start(Way { ranges, ..Way::default() }).await;
        let create = CosmosOperation::create_item(service.item("p", ""));
        let create = create.with_body(bytes(&json!({"id": "1", "pk": "p"})));
        let created = service.run_with(create, OperationOptions::default()).await.unwrap();
        let token = created.headers().session_token.clone().unwrap();
        let (range, rest) = token.as_str().split_once(':').unwrap();
        assert!(rest.starts_with("-1#") && range.parse::<u16>().is_ok(), "{token}");
        let read = || CosmosOperation::read_item(service.item("p", "1"));
        service.run(read().with_session_token(token.clone())).await.unwrap();
        let ahead = SessionToken::new(format!("{range}:-1#999999"));
        // The service answers 404 with 1002; the driver asks everywhere, and then gives up.
        let refused = service.run(read().with_session_token(ahead)).await.unwrap_err();
        assert!(format!("{refused:?}").contains("1002"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_asked_again() {
    let service = start(Way::default()).await;
    service.create(json!({"id": "1", "pk": "p", "n": 1})).await.unwrap();
    let read = || CosmosOperation::read_item(service.item("p", "1"));
    let busy = |status: u16, times: u32| {
        let fault = json!({"kind": "refuse", "status": status, "retryAfterMs": 1});
        json!([{"path": "/docs/1", "times": times, "fault": fault}])
    };
    service.order(busy(429, 1)).await;
    assert_eq!(code(service.run_with(read(), impatient()).await), (429, 3200));
    for (status, times) in [(429, 3), (449, 1), (503, 1), (408, 1)] {
        service.order(busy(status, times)).await;
        let read = service.run(read()).await;
        assert_eq!(read.unwrap()["n"], 1, "{status}");
    }
}

/// An answer that is lost after the write: whoever asks again finds what was done.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_a_conflict_or_a_success() {
    let service = start(Way::default()).await;
    service
        .order(json!([{"method": "POST", "path": "/docs", "times": 1, "fault": {"kind": "drop"}}]))
        .await;
    if let Err(error) = service.create(json!({"id": "1", "pk": "p", "n": 1})).await {
        assert!(!error.status().is_not_found(), "{error}");
    }
    assert_eq!(service.read("p", "1").await.unwrap()["n"], 1);
}
