//! The queue service with the queues of this repository's topology.

use std::path::Path;
use std::time::SystemTime;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use queue::{EMULATOR_ACCOUNT, EMULATOR_KEY};
use serde_json::Value;

use crate::role::Role;

/// Asks for the metadata of a queue, which a queue that does not exist has not.
async fn metadata(address: &str, queue: &str) -> StatusCode {
    ask(address, "GET", &format!("{queue}?comp=metadata")).await
}

async fn ask(address: &str, method: &str, path: &str) -> StatusCode {
    let target = format!("/{EMULATOR_ACCOUNT}/{path}");
    #[expect(clippy::disallowed_methods, reason = "a client has to know the time")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let date = queue::auth::http_date(u64::try_from(now.as_millis()).unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-date", date.parse().unwrap());
    headers.insert("x-ms-version", "2024-11-04".parse().unwrap());
    let signature = queue::auth::sign(EMULATOR_ACCOUNT, EMULATOR_KEY, method, &target, &headers, 0);
    headers.insert("authorization", signature.parse().unwrap());
    let mut request = Request::builder().method(method).uri(format!("http://{address}{target}"));
    *request.headers_mut().unwrap() = headers;
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn the_declared_queues_are_there_from_the_start() {
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/topology.json");
    let role = Role::start(&["queue".as_ref(), "--topology".as_ref(), topology.as_os_str()]).await;
    let declared: Value =
        serde_json::from_str(&std::fs::read_to_string(&topology).unwrap()).unwrap();
    let queues = declared["storage"]["queues"].as_array().unwrap();
    assert!(!queues.is_empty());
    for queue in queues {
        let status = metadata(&role.address, queue.as_str().unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{queue}");
    }
    assert_eq!(metadata(&role.address, "another").await, StatusCode::NOT_FOUND);
    let connection = role.ready["connectionString"].as_str().unwrap();
    assert!(connection.contains(&role.address), "{connection}");
}

#[tokio::test]
async fn the_account_is_kept_in_the_directory_that_is_named() {
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/topology.json");
    let data = std::env::temp_dir().join(format!("queue-{}", uuid::Uuid::new_v4()));
    let arguments = [
        "queue".as_ref(),
        "--topology".as_ref(),
        topology.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
    ];
    let role = Role::start(&arguments).await;
    assert_eq!(ask(&role.address, "PUT", "mine").await, StatusCode::CREATED);
    role.kill();
    drop(role);
    let inside = || std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    assert!(inside().any(|path| path.is_file()) && !data.join("queue").exists());
    let role = Role::start(&arguments).await;
    assert_eq!(metadata(&role.address, "mine").await, StatusCode::OK);
    role.stop().await;
    std::fs::remove_dir_all(data).unwrap();
}
