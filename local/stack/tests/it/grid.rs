//! Event Grid with the subscription of this repository's topology, and the sample subscriber.

use std::path::Path;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::role::{Role, SOON};

async fn send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (StatusCode, http::HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn the_declared_subscription_delivers_to_the_sample_subscriber() {
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/topology.json");
    let letters = std::env::temp_dir().join(format!("grid-{}", uuid::Uuid::new_v4()));
    let subscriber = Role::start(&["subscriber".as_ref()]).await;
    let fill = format!("SUBSCRIBER_URL=http://{}", subscriber.address);
    let grid = Role::start(&[
        "grid".as_ref(),
        "--topology".as_ref(),
        topology.as_os_str(),
        "--dead-letters".as_ref(),
        letters.as_os_str(),
        "--time-scale".as_ref(),
        "100".as_ref(),
        "--fill".as_ref(),
        fill.as_ref(),
    ])
    .await;
    let events = format!("http://{}/events", subscriber.address);
    let rules = format!("http://{}/rules", subscriber.address);
    let rule = json!([{"subject": "a", "times": 1, "answer": {"kind": "refuse", "status": 307}}]);
    assert_eq!(send(Method::PUT, &rules, &[], &rule).await.0, StatusCode::OK);
    for bad in [json!([{"answer": {"kind": "refuse", "status": 200}}]), json!({})] {
        assert_eq!(send(Method::PUT, &rules, &[], &bad).await.0, StatusCode::BAD_REQUEST);
    }

    let publish = format!("http://{}/orders/api/events?api-version=2018-01-01", grid.address);
    let headers =
        [("content-type", "application/cloudevents+json"), ("aeg-sas-key", grid::LOCAL_KEY)];
    let event = json!({"specversion": "1.0", "id": "1", "source": "/tests", "subject": "a",
        "type": "order.completed"});
    for _ in 0..2 {
        assert_eq!(send(Method::POST, &publish, &headers, &event).await.0, StatusCode::OK);
    }
    let begun = Instant::now();
    let got = loop {
        let (_, _, got) =
            send(Method::GET, &format!("{events}?subject=a"), &[], &Value::Null).await;
        if got["total"] == 3 {
            break got;
        }
        assert!(begun.elapsed() < SOON, "never delivered: {got:#}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let column = |name: &str| -> Vec<Value> {
        got["events"].as_array().unwrap().iter().map(|one| one[name].clone()).collect()
    };
    let mut statuses = column("status");
    statuses.sort_by_key(Value::as_u64);
    assert_eq!(statuses, [200, 200, 307]);
    let duplicates = column("duplicate");
    assert_eq!(duplicates.iter().filter(|one| **one == json!(true)).count(), 1, "{got:#}");
    assert!(column("event").iter().all(|one| *one == event), "{got:#}");

    // Consent is given to who asks for it, and to nobody else.
    let asked = [("webhook-request-origin", "eventgrid.azure.net")];
    let (_, answered, _) = send(Method::OPTIONS, &events, &asked, &Value::Null).await;
    assert_eq!(answered["webhook-allowed-origin"], "eventgrid.azure.net");
    let (_, answered, _) = send(Method::OPTIONS, &events, &[], &Value::Null).await;
    assert!(!answered.contains_key("webhook-allowed-origin"));
    drop(grid);
    let _ = std::fs::remove_dir_all(letters);
}
