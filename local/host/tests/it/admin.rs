//! Keys, drain mode, restarts, origins, throttles, and functions without a `function.json`.

use serde_json::{Value, json};

use crate::app::App;
use crate::storage::Storage;
use crate::wire::{Wire, call};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_opens_what_it_is_for() {
    let admin_only = json!([
        { "type": "httpTrigger", "name": "req", "route": "teapot", "authLevel": "admin" },
        { "type": "http", "direction": "out", "name": "res" }
    ]);
    let app = App::new(|_| {}).http("Pid", "pid").http("Echo", "echo");
    let app = app.function("Teapot", &admin_only);
    let host = app.start_with(|options| options.key = Some("master".to_owned())).await;
    let value = async |path: &str| {
        let head = format!("GET {path}\r\nx-functions-key: master");
        parsed(&call(host.address, &head, "").await.body)["keys"][0]["value"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let of_host = value("/admin/host/keys").await;
    let of_pid = value("/admin/functions/PID/keys").await;
    assert_eq!(of_host, value("/admin/host/functionkeys").await);
    let with = async |path: &str, key: &str| {
        call(host.address, &format!("GET {path}?code={key}"), "").await.status
    };
    for (path, key, status) in [
        ("/api/pid", "master", 200),
        ("/api/pid", &*of_host, 200),
        ("/api/pid", &*of_pid, 200),
        ("/api/echo", &*of_pid, 401),
        ("/api/echo", &*of_host, 200),
        ("/api/teapot", &*of_host, 401),
        ("/api/teapot", "master", 418),
        ("/admin/host/status", &*of_host, 401),
        ("/admin/host/status", "master", 200),
        ("/admin/host/ping", "none", 200),
    ] {
        assert_eq!(with(path, key).await, status, "{path} {key}");
    }
    let ask = async |head: &str, body: &str| {
        let (line, rest) = head.split_once('|').unwrap_or((head, ""));
        let head = format!("{line}\r\nx-functions-key: master{rest}");
        call(host.address, &head, body).await
    };
    let own = r#"{"name":"own","value":"a b/c"}"#;
    assert_eq!(ask("PUT /admin/functions/pid/keys/own", own).await.status, 201);
    assert_eq!(ask("PUT /admin/functions/pid/keys/own", own).await.status, 200);
    assert_eq!(with("/api/pid", "a%20b%2Fc").await, 200);
    let made_up = ask("POST /admin/functions/pid/keys/own", "").await;
    assert_eq!(made_up.status, 200);
    assert_eq!(with("/api/pid", "a%20b%2Fc").await, 401, "it has been renewed");
    assert_eq!(ask("DELETE /admin/functions/pid/keys/own", "").await.status, 204);
    for (head, status) in [
        ("DELETE /admin/functions/pid/keys/own", 404),
        ("DELETE /admin/host/keys/_master", 400),
        ("PUT /admin/host/keys/x", 400),
        ("GET /admin/functions/none/keys", 404),
        ("PATCH /admin/host/keys/x", 405),
    ] {
        assert_eq!(ask(head, "").await.status, status, "{head}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_drained_takes_nothing_until_it_is_resumed() {
    let storage = Storage::with(&["jobs"]).await;
    let app = App::new(|_| {})
        .function(
            "Work",
            &json!([{ "type": "queueTrigger", "name": "job", "direction": "in",
                "queueName": "jobs" }]),
        )
        .http("Pid", "pid")
        .setting("AzureWebJobsStorage", storage.connection_string());
    let mut host = app.start().await;
    let pid = host.pid().await;
    let state = async || {
        parsed(&call(host.address, "GET /admin/host/drain/status", "").await.body)["state"].clone()
    };
    assert_eq!(state().await, "Disabled");
    assert_eq!(call(host.address, "POST /admin/host/drain", "").await.status, 202);
    while state().await != "Completed" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    storage.put("jobs", &json!({ "n": 1 })).await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200, "calls go on");
    assert_eq!(storage.visible_become("jobs", 1).await.len(), 1, "nobody takes it");
    let resumed = call(host.address, "POST /admin/host/resume", "").await;
    assert_eq!((resumed.status, &parsed(&resumed.body)["state"]), (200, &json!("Running")));
    host.log.said("INVOKED", 1).await;
    storage.count_becomes("jobs", 0, &host).await;
    assert_eq!(state().await, "Disabled");

    assert_eq!(call(host.address, "POST /admin/host/restart", "").await.status, 200);
    host.pid_other_than(pid).await;
    assert_eq!(call(host.address, "POST /admin/host/synctriggers", "").await.status, 204);
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_origins_call_only_when_they_are_named() {
    let app = App::new(|_| {}).http("Echo", "echo");
    let host =
        app.start_with(|options| options.local.cors = Some("https://shop.test".to_owned())).await;
    let head = "OPTIONS /api/echo\r\norigin: https://shop.test\r\n\
                access-control-request-method: PUT\r\naccess-control-request-headers: x-a";
    let preflight = call(host.address, head, "").await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert!(preflight.head.contains("access-control-allow-headers: x-a"), "{preflight:?}");
    assert!(host.log.lines("Executing").is_empty(), "it does not reach the handler");
    let answer = call(host.address, "GET /api/echo\r\norigin: https://shop.test", "").await;
    assert!(answer.head.contains("access-control-allow-origin: https://shop.test"), "{answer:?}");
    let answer = call(host.address, "GET /api/echo\r\norigin: https://evil.test", "").await;
    assert!(!answer.head.contains("access-control"), "{answer:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_allowed_are_answered_429() {
    let host = App::new(|host| {
        host["extensions"]["http"] =
            json!({ "maxOutstandingRequests": 2, "maxConcurrentRequests": 1 });
    })
    .http("Never", "never")
    .start()
    .await;
    let mut held = Vec::new();
    let mut first = Wire::connect(host.address).await;
    first.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
    host.log.wait_for("WAITING", 1).await;
    held.push(first);
    let mut second = Wire::connect(host.address).await;
    second.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
    held.push(second);
    // The second one is under way once a third is refused.
    loop {
        let mut third = Wire::connect(host.address).await;
        third.send("GET /api/nothing HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert_eq!(third.answer().await.status, 404, "only functions are counted");
        let mut fourth = Wire::connect(host.address).await;
        fourth.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let answered = tokio::time::timeout(std::time::Duration::from_secs(1), fourth.answer());
        if let Ok(answer) = answered.await {
            assert_eq!(answer.status, 429);
            break;
        }
    }
    assert_eq!(host.log.lines("WAITING").len(), 1, "the others wait");
    drop(held);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_host_json_are_functions_too() {
    let host = App::new(|host| {
        host["configurationProfile"] = json!("web-app-custom-handler");
        host["customHandler"]["http"] = json!({ "defaultAuthorizationLevel": "anonymous" });
    })
    .setting("AzureWebJobsDisableHomepage", "true")
    .start()
    .await;
    let list = parsed(&call(host.address, "GET /admin/functions", "").await.body);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("http-handler1")));
    let answer = call(host.address, "PATCH /api/echo?x=1", "").await;
    assert_eq!(parsed(&answer.body)["target"], "/api/echo?x=1");
    host.log.wait_for("Executed 'Functions.http-handler1' (Succeeded", 1).await;
    host.stop().await;

    let mixed = App::new(|host| {
        host["customHandler"]["http"] = json!({ "routes": [{ "route": "a" }] });
    });
    let error = mixed.http("Echo", "echo").bind(&crate::app::Log::default()).await.unwrap_err();
    assert!(error.to_string().contains("there together"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_section_forwards_to_the_name_of_the_function() {
    let host = App::new(|host| {
        let handler = host.as_object_mut().unwrap().remove("customHandler").unwrap();
        host["httpWorker"] = json!({ "description": handler["description"] });
    })
    .http("Echo", "some/where")
    .start()
    .await;
    let answer = call(host.address, "GET /api/some/where?x=1", "").await;
    // The fixture knows no such path and takes the call for an invocation.
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(host.log.said("INVOKED", 1).await[0]["path"], "/Echo");
    host.log.wait_for("httpWorker is the name before", 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_serves_only_what_it_is_told_to() {
    let app = App::new(|_| {}).http("Pid", "pid").http("Echo", "echo");
    let host = app.start_with(|options| options.only = Some(["pid".to_owned()].into())).await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    assert_eq!(call(host.address, "GET /api/echo", "").await.status, 404);
    host.stop().await;
}
