//! Application Insights as a destination of telemetry, with the key of its connection string alone
//! and by a managed identity. Azure Monitor is played by the collector of the other tests, and the
//! identity endpoint of App Service by a thread.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, order};
use crate::issuer::now_s;
use crate::telemetry::{Collector, Direct, entries, submit_in_trace};

const IDENTITY_SECRET: &str = "secret-of-the-sandbox";
const ENTRA_TOKEN: &str = "eyJ0eXAi.telemetry-of-bulkhead.c2ln";

/// A managed identity endpoint as App Service has it (`IDENTITY_ENDPOINT`, version 2019-08-01).
struct IdentityEndpoint {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The query of each request that brought the secret.
    asked: Vec<String>,
    /// Requests that are refused first.
    refuses: usize,
}

impl IdentityEndpoint {
    fn start(refuses: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen { refuses, ..Seen::default() }));
        let kept = Arc::clone(&seen);
        // Lives as long as the test process; nobody joins it.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                answer(connection, &kept);
            }
        });
        Self { url, seen }
    }

    fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().asked.clone()
    }
}

fn answer(mut connection: TcpStream, seen: &Mutex<Seen>) {
    let lines = BufReader::new(connection.try_clone().unwrap()).lines();
    let head: Vec<String> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let secret = format!("x-identity-header: {IDENTITY_SECRET}");
    let query = head.first().and_then(|line| line.split(['?', ' ']).nth(2)).unwrap_or_default();
    let known = head.iter().any(|line| line.eq_ignore_ascii_case(&secret));
    let mut seen = seen.lock().unwrap();
    let (status, body) = if !known {
        ("401 Unauthorized", json!({}))
    } else if seen.refuses > 0 {
        seen.refuses -= 1;
        seen.asked.push(query.to_owned());
        ("400 Bad Request", json!({}))
    } else {
        seen.asked.push(query.to_owned());
        let until = (now_s() + 3_600).to_string();
        let token = json!({"access_token": ENTRA_TOKEN, "expires_on": until,
            "resource": "https://monitor.azure.com", "token_type": "Bearer"});
        ("200 OK", token)
    };
    let body = body.to_string();
    let length = body.len();
    // A handler that stops hangs up.
    let _ = write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
}

#[tokio::test]
async fn application_insights_gets_the_same_trace_and_numbers() {
    let collector = Collector::start().await;
    let key = uuid::Uuid::new_v4().to_string();
    let setting = format!(
        "APPLICATIONINSIGHTS_CONNECTION_STRING=InstrumentationKey={key};IngestionEndpoint={}/",
        collector.url
    );
    let stack = TestStack::start_with(&["--set", &setting]).await;
    let (id, trace_id, _) = submit_in_trace(&stack, &order()).await;
    stack.until_quiet(&id).await;
    let envelopes = || -> Vec<Value> {
        let bodies = collector.of("/v2.1/track");
        bodies.iter().flat_map(|body| entries(body).to_vec()).collect()
    };
    let role = |envelope: &Value| envelope["tags"]["ai.cloud.role"].as_str().unwrap().to_owned();
    let of_order = |kind: &str| -> Vec<Value> {
        let mut found = envelopes();
        found.retain(|envelope| {
            envelope["tags"]["ai.operation.id"] == trace_id.as_str()
                && envelope["data"]["baseType"] == kind
        });
        found
    };
    let requests = eventually("every app tells of the order", || async {
        let requests = of_order("RequestData");
        let roles: BTreeSet<String> = requests.iter().map(role).collect();
        (roles.len() == 5 && !of_order("RemoteDependencyData").is_empty()).then_some(requests)
    })
    .await;
    let data = |envelope: &Value| envelope["data"]["baseData"].clone();
    let accepted = requests.iter().find(|envelope| role(envelope) == "order-api").unwrap();
    assert_eq!(data(accepted)["responseCode"], "202", "{accepted:#}");
    let reserve = requests.iter().find(|envelope| role(envelope) == "inventory").unwrap();
    assert_eq!(data(reserve)["name"], "reserve");
    assert_eq!(data(reserve)["properties"]["order.id"], id);
    let parent = &reserve["tags"]["ai.operation.parentId"];
    assert!(requests.iter().any(|request| &data(request)["id"] == parent), "below the request");
    eventually("the order is counted", || async {
        let mut found = envelopes();
        found.retain(|envelope| envelope["data"]["baseType"] == "MetricData");
        let metrics = found.iter().map(|e| e["data"]["baseData"]["metrics"][0].clone());
        metrics.into_iter().any(|m| m["name"] == "orders.accepted" && m["value"] == 1).then_some(())
    })
    .await;
    assert!(envelopes().iter().all(|envelope| envelope["iKey"] == key.as_str()));
    assert!(collector.of("/v1/traces").is_empty());
}

#[tokio::test]
async fn application_insights_without_local_authentication_is_told_by_a_managed_identity() {
    const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
    let collector = Collector::start().await;
    *collector.wanted.lock().unwrap() = Some(format!("Bearer {ENTRA_TOKEN}"));
    let identity = IdentityEndpoint::start(1);
    let key = uuid::Uuid::new_v4();
    let settings = [
        format!(
            "APPLICATIONINSIGHTS_CONNECTION_STRING=InstrumentationKey={key};IngestionEndpoint={}/",
            collector.url
        ),
        format!("APPLICATIONINSIGHTS_AUTHENTICATION_STRING=ClientId={CLIENT_ID};Authorization=AAD"),
        format!("IDENTITY_ENDPOINT={}", identity.url),
        format!("IDENTITY_HEADER={IDENTITY_SECRET}"),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let stack = TestStack::start_with(&arguments).await;
    let id = stack.submit(&order()).await;
    stack.until_completed(&id).await;
    // Spans of the first seconds may be lost with the token that one app did not get; numbers are
    // not.
    let measured = |name: &str| {
        let bodies = collector.of("/v2.1/track");
        let envelopes = bodies.iter().flat_map(|body| entries(body).to_vec());
        let mut metrics = envelopes.map(|e| e["data"]["baseData"]["metrics"][0].clone());
        metrics.any(|metric| metric["name"] == name)
    };
    eventually("what was measured arrives, the failure to get a token too", || async {
        let complete = measured("orders.accepted") && measured("telemetry.tokens.failed");
        complete.then_some(())
    })
    .await;
    assert_eq!(*collector.refused.lock().unwrap(), 0, "nothing is sent without a token");
    let asked = identity.asked();
    // One per app, and the one that failed.
    assert!((2..=7).contains(&asked.len()), "{asked:#?}");
    for query in &asked {
        assert!(query.contains("resource=https%3A%2F%2Fmonitor.azure.com"), "{query}");
        assert!(query.contains(&format!("client_id={CLIENT_ID}")), "{query}");
    }
    let log = stack.full_log();
    for secret in ["telemetry-of-bulkhead", IDENTITY_SECRET] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_reported_and_tried_again() {
    let collector = Collector::start().await;
    // The role has not been assigned yet.
    *collector.wanted.lock().unwrap() = Some("Bearer another".to_owned());
    let identity = IdentityEndpoint::start(0);
    let stack = TestStack::start().await;
    let insights =
        format!("InstrumentationKey={};IngestionEndpoint={}/", uuid::Uuid::new_v4(), collector.url);
    let settings = [
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", &*insights),
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "Authorization=AAD"),
        ("IDENTITY_ENDPOINT", &*identity.url),
        ("IDENTITY_HEADER", IDENTITY_SECRET),
    ];
    let handler = Direct::start_with(&stack, &settings).await;
    handler.tick("sweep").await;
    eventually("it is refused", || async {
        (*collector.refused.lock().unwrap() > 1).then_some(())
    })
    .await;
    assert!(collector.of("/v2.1/track").is_empty());
    *collector.wanted.lock().unwrap() = Some(format!("Bearer {ENTRA_TOKEN}"));
    eventually("what was measured arrives once it is admitted", || async {
        (!collector.of("/v2.1/track").is_empty()).then_some(())
    })
    .await;
    assert!(!identity.asked()[0].contains("client_id"), "the app's own identity");
}
