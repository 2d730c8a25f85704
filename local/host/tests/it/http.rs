//! Routing, proxying, forwarding, the JSON envelope, and the admin endpoints.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{App, kill};
use crate::wire::{Wire, call};

fn header<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    let headers = seen["headers"].as_array().unwrap();
    headers.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxied_calls_go_through_verbatim() {
    let host = App::new(|_| {}).http("Echo", "echo").http("Teapot", "teapot").start().await;
    let head = "PATCH /api/echo?b=2&a=1&a=%2Fx HTTP/1.1\r\nhost: shop.test\r\nx-custom: 1\r\n\
                content-encoding: identity\r\nconnection: keep-alive, x-hop\r\nx-hop: no\r\n\
                te: trailers\r\nx-azure-functions-invocationid: forged\r\nuser-agent: t/1\r\n\
                content-length: 5\r\n\r\nhello";
    let mut wire = Wire::connect(host.address).await;
    wire.send(head).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}\n{}", host.log.text());
    let seen: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(seen["method"], "PATCH");
    assert_eq!(seen["target"], "/api/echo?b=2&a=1&a=%2Fx");
    assert_eq!(seen["body"], "hello");
    assert_eq!(header(&seen, "host"), Some("shop.test"));
    assert_eq!(header(&seen, "content-encoding"), Some("identity"));
    assert_eq!(header(&seen, "user-agent"), Some("t/1"));
    assert_eq!(header(&seen, "x-azure-functions-hostversion"), Some(host::HOST_VERSION));
    let id = header(&seen, "x-azure-functions-invocationid").unwrap();
    assert_ne!(id, "forged");
    assert_eq!(header(&seen, "x-ms-invocation-id"), Some(id));
    for gone in ["connection", "x-hop", "te"] {
        assert_eq!(header(&seen, gone), None, "{gone}");
    }
    // The same connection again, and an error of the handler is the caller's to see.
    wire.send("GET /API/Teapot/ HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(host.log.said("INVOKED", 1).await[0]["path"], "/API/Teapot/", "handed on as sent");
    wire.send("GET /api/teapot HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (418, "short and stout"));
    drop(wire);

    let executed = host.log.wait_for("Executed 'Functions.Echo' (Succeeded", 1).await;
    assert!(executed[0].text.contains(id), "{executed:?}");
    let executing = host
        .log
        .wait_for(
            "Executing 'Functions.Teapot' (Reason='This function was \
                                       programmatically called via the host APIs.'",
            2,
        )
        .await;
    assert_eq!(executing[0].function.as_deref(), Some("Teapot"));
    host.log.wait_for("Executed 'Functions.Teapot' (Succeeded", 2).await;
    let log = host.stop().await.text();
    assert!(log.contains("\tEcho: http://localhost:"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways() {
    let host = App::new(|_| {})
        .http("Pipe", "pipe")
        .http("Events", "events")
        .http("Release", "release")
        .start()
        .await;
    // A chunk comes back before the next one is sent: nothing buffers in either direction.
    let mut wire = Wire::connect(host.address).await;
    wire.send("POST /api/pipe HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n").await;
    wire.send("5\r\nfirst\r\n").await;
    let head = wire.until("first\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire.send("6\r\nsecond\r\n").await;
    wire.until("second\r\n").await;
    wire.send("0\r\n\r\n").await;
    wire.until("0\r\n\r\n").await;

    let mut events = Wire::connect(host.address).await;
    events.send("GET /api/events HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let head = events.until("data: 0\n\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    for number in 1..3 {
        assert_eq!(call(host.address, "GET /api/release", "").await.status, 200);
        events.until(&format!("data: {number}\n\n")).await;
    }
    events.until("0\r\n\r\n").await;
    host.log.wait_for("Executed 'Functions.Events' (Succeeded", 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlives_the_function_timeout_costs_the_handler() {
    let mut host = App::new(|host| host["functionTimeout"] = json!("00:00:01"))
        .http("Events", "events")
        .http("Never", "never")
        .start()
        .await;
    let pid = host.pid().await;
    let mut events = Wire::connect(host.address).await;
    events.send("GET /api/events HTTP/1.1\r\nhost: h\r\n\r\n").await;
    events.until("data: 0\n\n").await;
    host.log.wait_for("Timeout value of 1s exceeded by function 'Functions.Events'", 1).await;
    let new = host.pid_other_than(pid).await;
    // Before the head is there it can still become a status.
    assert_eq!(call(host.address, "GET /api/never", "").await.status, 500);
    host.pid_other_than(new).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_delay_a_stop() {
    let host = App::new(|_| {}).http("Pid", "pid").start().await;
    // One that has been used, and one like the spare connections browsers open.
    let mut used = Wire::connect(host.address).await;
    used.send("GET /api/pid HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(used.answer().await.status, 200);
    let _spare = Wire::connect(host.address).await;
    let started = tokio::time::Instant::now();
    host.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_cancels_the_handlers_request() {
    let host = App::new(|_| {}).http("Never", "never").start().await;
    let mut wire = Wire::connect(host.address).await;
    wire.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
    host.log.wait_for("WAITING", 1).await;
    drop(wire);
    host.log.wait_for("CANCELLED", 1).await;
    host.log.wait_for("Executed 'Functions.Never' (Failed", 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_route_is_a_404_and_limits_hold() {
    let host = App::new(|host| host["extensions"]["http"]["routePrefix"] = json!("v1"))
        .function(
            "Get",
            &json!([
                { "type": "httpTrigger", "name": "req", "route": "orders/{id:int}",
                  "methods": ["get"] },
                { "type": "http", "direction": "out", "name": "res" }
            ]),
        )
        .setting("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "10")
        .http("Any", "any")
        .start()
        .await;
    for (head, expected) in [
        ("GET /api/orders/7", 404),
        ("GET /v1/orders/x", 404),
        ("POST /v1/orders/7", 404),
        ("GET /v1", 404),
        ("GET /", 200),
    ] {
        assert_eq!(call(host.address, head, "").await.status, expected, "{head}");
    }
    let executed = "Executed 'Functions.Get' (Succeeded";
    assert_eq!(call(host.address, "GET /v1/orders/7", "").await.status, 200);
    host.log.wait_for(executed, 1).await;
    assert_eq!(call(host.address, "POST /v1/any", "12345678901").await.status, 413);
    let chunked = "POST /v1/any HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                   b\r\n12345678901\r\n0\r\n\r\n";
    let mut wire = Wire::connect(host.address).await;
    wire.send(chunked).await;
    assert_eq!(wire.answer().await.status, 413);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarding_has_its_losses() {
    let host = App::new(|host| {
        host["customHandler"]["enableProxyingHttpRequest"] = json!(false);
        host["customHandler"]["enableForwardingHttpRequest"] = json!(true);
    })
    .http("Echo", "echo")
    .start()
    .await;
    let head = "PUT /api/echo?a=1&a=2\r\ncontent-encoding: gzip\r\nuser-agent: t/1";
    let answer = call(host.address, head, "hello").await;
    let seen: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&seen["target"], &seen["body"]), (&json!("/api/echo?a=1%2C2"), &json!("hello")));
    assert_eq!(header(&seen, "content-encoding"), None);
    assert_eq!(header(&seen, "user-agent"), Some("t/1 Azure-Functions-Host/4.1052.200"));
    let mut wire = Wire::connect(host.address).await;
    wire.send("POST /api/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.status, 500);
    host.log.wait_for("a chunked body cannot be forwarded", 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_json_envelope_is_exact_on_the_wire() {
    let host = App::new(|host| host["customHandler"]["enableProxyingHttpRequest"] = json!(false))
        .http("Orders", "orders/{id}")
        .start()
        .await;
    let head = "POST /api/orders/7?dry=1\r\ncontent-type: application/json\r\ntraceparent: \
                00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = call(host.address, head, r#"{"do":"http"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "{\n  \"ok\": true\n}"));
    assert!(answer.head.contains("x-made-by: fixture"), "{answer:?}");
    assert!(answer.head.contains("content-type: text/plain; charset=utf-8"), "{answer:?}");
    let seen = &host.log.said("INVOKED", 1).await[0];
    assert_eq!((&seen["path"], &seen["method"]), (&json!("/Orders"), &json!("POST")));
    assert_eq!(seen["type"], "application/json; charset=utf-8");
    assert_eq!((&seen["coding"], &seen["length"]), (&json!("chunked"), &Value::Null));
    assert_eq!(seen["agent"], "Azure-Functions-Host/4.1052.200");
    assert_eq!(seen["version"], host::HOST_VERSION);
    let host_header = seen["host"].as_str().unwrap();
    assert!(host_header.starts_with("127.0.0.1:"), "{seen}");
    let trace = seen["trace"].as_str().unwrap();
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    assert_eq!(seen["envelope"]["Data"]["req"]["Params"], json!({"id": "7"}));
    assert_eq!(seen["envelope"]["Metadata"]["id"], "\"7\"");
    let logged = host.log.wait_for("a line", 1).await;
    assert_eq!(logged[0].category, "Function.Orders.User");
    assert_eq!(logged[0].invocation_id.unwrap().to_string(), seen["id"].as_str().unwrap());

    for (body, status) in
        [(r#"{"do":"fail"}"#, 500), (r#"{"do":"plain"}"#, 500), (r#"{"do":"ok"}"#, 204)]
    {
        let head = "POST /api/orders/8\r\ncontent-type: application/json";
        let answer = call(host.address, head, body).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{body}");
    }
    host.log.wait_for("Invalid HttpResponseMessage", 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_endpoints_answer() {
    let broken = json!([{ "type": "blobTrigger", "name": "b", "direction": "in" }]);
    let mut host = App::new(|_| {}).http("Echo", "echo").function("Broken", &broken).start().await;
    let get = |path: &'static str| call(host.address, path, "");
    assert_eq!(get("POST /admin/host/ping").await.status, 200);
    let pid = {
        let status: Value =
            serde_json::from_str(&get("GET /admin/host/status").await.body).unwrap();
        assert_eq!(status["version"], host::HOST_VERSION);
        assert!(status["errors"][0].as_str().unwrap().contains("blobtrigger"), "{status}");
        let list: Value = serde_json::from_str(&get("GET /admin/functions").await.body).unwrap();
        assert_eq!(list[1]["name"], "Echo");
        assert_eq!(list[1]["config"]["bindings"][0]["route"], "echo");
        assert_eq!(get("GET /admin/functions/none").await.status, 404);
        let errors = get("GET /admin/functions/broken/status").await.body;
        assert!(errors.contains("not supported"), "{errors}");
        host.pid().await
    };
    let processes = call(host.address, "GET /admin/host/processes", "").await.body;
    assert!(processes.contains(&pid.to_string()), "{processes}");
    assert_eq!(call(host.address, "GET /api/echo", "").await.status, 200, "the other one runs");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_asked_for_only_when_one_is_set() {
    let app = App::new(|_| {}).http("Echo", "echo").function(
        "Open",
        &json!([
            { "type": "httpTrigger", "name": "req", "route": "pid", "authLevel": "anonymous" },
            { "type": "http", "direction": "out", "name": "res" }
        ]),
    );
    let log = crate::app::Log::default();
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut options = host::Options::new(app.path(), listen, app.settings.clone(), log.sink());
    options.key = Some("k".to_owned());
    let host = host::Host::bind(options).await.unwrap();
    let (address, stop) = (host.local_addr(), tokio_util::sync::CancellationToken::new());
    let running = tokio_util::task::TaskTracker::new().spawn(host.run(stop.clone()));
    for (head, expected) in [
        ("GET /api/echo", 401),
        ("GET /api/echo?code=x", 401),
        ("GET /api/echo?code=k", 200),
        ("GET /api/echo\r\nx-functions-key: k", 200),
        ("GET /api/pid", 200),
        ("GET /admin/host/status", 401),
    ] {
        assert_eq!(call(address, head, "").await.status, expected, "{head}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxied_call_waits_for_a_restarting_handler() {
    let mut host = App::new(|_| {}).http("Pid", "pid").start().await;
    let old = host.pid().await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.body, old.to_string());
    kill(old);
    let started = tokio::time::Instant::now();
    // Whether it meets the dying process, the gap, or the new one: it must not hang.
    let mut last = call(host.address, "GET /api/pid", "").await;
    while last.status != 200 && started.elapsed() < Duration::from_secs(20) {
        last = call(host.address, "GET /api/pid", "").await;
    }
    assert_eq!(last.status, 200);
    assert_eq!(last.body, host.pid_other_than(old).await.to_string());
    host.stop().await;
}
