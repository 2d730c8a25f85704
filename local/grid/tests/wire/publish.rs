//! The publishing side: who may, what may, and what the errors look like.

use grid::{LOCAL_KEY, access::Key};
use serde_json::json;

use crate::harness::{event, start};

const TARGET: &str = "/orders/api/events?api-version=2018-01-01";
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json; charset=utf-8");
const SINGLE: (&str, &str) = ("content-type", "application/cloudevents+json");

#[tokio::test]
async fn only_a_holder_of_the_key_may_publish() {
    let service = start(json!([])).await;
    let body = json!([event("1", "t", "s")]).to_string();
    let send = |headers: Vec<(&'static str, String)>, target: &'static str| {
        let (service, body) = (&service, body.clone());
        async move {
            let mut all = vec![BATCH];
            all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
            service.send("POST", target, &all, body).await
        }
    };
    let resource = format!("http://{}/orders/api/events", service.address);
    let token = Key::parse(LOCAL_KEY).unwrap().sign(&resource, "2999-01-01T00:00:00");
    for header in [
        ("aeg-sas-key", LOCAL_KEY.to_owned()),
        ("aeg-sas-token", token.clone()),
        ("authorization", format!("SharedAccessSignature {token}")),
    ] {
        let answer = send(vec![header.clone()], TARGET).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{header:?}");
    }
    for (headers, why) in [
        (vec![], "aeg-sas-key"),
        (vec![("aeg-sas-key", "d3Jvbmc=".to_owned())], "is not the key"),
        (vec![("aeg-sas-token", token.replace("2999", "2998"))], "not made with the key"),
        (vec![("authorization", "Bearer a.b.c".to_owned())], "Entra tokens are not checked here"),
    ] {
        let answer = send(headers, TARGET).await;
        assert_eq!(answer.code(), (401, "Unauthorized".to_owned()));
        assert!(answer.text.contains(why), "{}", answer.text);
        assert!(!answer.text.contains(LOCAL_KEY), "no secret in an error");
    }
    // A stranger learns nothing about topics.
    assert_eq!(send(vec![], "/other/api/events").await.status, 401);
}

#[tokio::test]
async fn bad_requests_are_refused_as_the_service_does() {
    let service = start(json!([])).await;
    let key = ("aeg-sas-key", LOCAL_KEY);
    let good = json!([event("1", "t", "s")]).to_string();
    let large = json!([event("1", "t", &"x".repeat(1024 * 1024))]).to_string();
    let mut no_id = event("1", "t", "s");
    no_id.as_object_mut().unwrap().remove("id");
    let no_id = json!([event("1", "t", "s"), no_id]).to_string();
    let json = ("content-type", "application/json");
    for (method, target, content_type, body, code) in [
        ("POST", "/other/api/events?api-version=2018-01-01", BATCH, &good, (404, "NotFound")),
        ("POST", "/orders/api/events", BATCH, &good, (400, "BadRequest")),
        ("POST", "/orders/api/events?api-version=2017", BATCH, &good, (400, "BadRequest")),
        ("POST", TARGET, json, &good, (415, "UnsupportedMediaType")),
        ("POST", TARGET, SINGLE, &good, (400, "BadRequest")),
        ("POST", TARGET, BATCH, &no_id, (400, "BadRequest")),
        ("POST", TARGET, BATCH, &large, (413, "RequestEntityTooLarge")),
        ("GET", TARGET, BATCH, &String::new(), (405, "MethodNotAllowed")),
        ("GET", "/nowhere", BATCH, &String::new(), (404, "NotFound")),
    ] {
        let answer = service.send(method, target, &[key, content_type], body.clone()).await;
        assert_eq!(answer.code(), (code.0, code.1.to_owned()), "{method} {target}");
        if answer.status == 405 {
            assert_eq!(answer.headers["allow"], "POST");
        }
    }
    let state = service.send("GET", "/admin/state", &[], "").await.json();
    assert_eq!(state["topics"][0]["published"], 0, "nothing of a refused batch is taken");
    let one = event("1", "t", "s").to_string();
    assert_eq!(service.send("POST", TARGET, &[key, SINGLE], one).await.status, 200);
    assert_eq!(service.send("GET", "/healthz", &[], "").await.status, 200);
}

#[tokio::test]
async fn subscriptions_are_created_changed_and_removed() {
    let service = start(json!([])).await;
    let target = "/admin/topics/orders/subscriptions/late";
    let body = json!({"endpoint": "http://127.0.0.1:1/", "includedEventTypes": ["t"]});
    let put = |body: serde_json::Value| service.send("PUT", target, &[], body.to_string());
    let created = put(body.clone()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json()["maxDeliveryAttempts"], 30);
    assert_eq!(put(body.clone()).await.status, 200);
    for bad in [
        json!({}),
        json!([]),
        json!({"endpoint": "https://example.com/"}),
        json!({"endpoint": "http://127.0.0.1:1/", "name": "other"}),
        json!({"endpoint": "http://127.0.0.1:1/", "unknown": 1}),
    ] {
        assert_eq!(put(bad.clone()).await.code(), (400, "BadRequest".to_owned()), "{bad}");
    }
    assert_eq!(service.send("POST", target, &[], "").await.code().0, 405);
    assert_eq!(service.send("DELETE", target, &[], "").await.status, 204);
    assert_eq!(service.send("DELETE", target, &[], "").await.code().0, 404);
    let elsewhere = "/admin/topics/other/subscriptions/late";
    assert_eq!(service.send("PUT", elsewhere, &[], body.to_string()).await.code().0, 404);
}
