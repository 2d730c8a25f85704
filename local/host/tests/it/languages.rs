//! Handlers in other languages, which know nothing of this project.

use std::path::Path;

use serde_json::{Value, json};

use crate::app::App;
use crate::storage::Storage;
use crate::wire::call;

fn copied(language: &str) -> App {
    let app = App::new(|_| {});
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(language);
    for folder in ["", "hello", "work"] {
        let _ = std::fs::create_dir(app.root.join(folder));
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), app.root.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    #[expect(clippy::disallowed_methods, reason = "the interpreter is found as in a shell")]
    let path = std::env::var("PATH").unwrap();
    app.setting("PATH", path)
}

async fn runs(language: &str) {
    let storage = Storage::with(&["jobs"]).await;
    let app = copied(language).setting("AzureWebJobsStorage", storage.connection_string());
    let mut host = app.start().await;
    host.pid().await;
    let answer = call(host.address, "GET /api/hello/you", "").await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", host.log.text());
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body, json!({ "hello": "you", "from": language }));
    host.log.wait_for("greeting you", 1).await;

    storage.put("jobs", &json!({ "job": "j-1", "failUntil": 2 })).await;
    let done = storage.visible_become("done", 1).await;
    let done: Value = serde_json::from_str(&done[0]).unwrap();
    assert_eq!(done, json!({ "job": "j-1", "attempt": 2, "by": language }));
    storage.count_becomes("jobs", 0, &host).await;
    host.log.wait_for("not yet: attempt 1", 1).await;
    let log = host.stop().await;
    assert!(log.text().contains("Executed 'Functions.work' (Failed"), "{}", log.text());
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_in_python() {
    runs("python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_in_javascript() {
    runs("node").await;
}
