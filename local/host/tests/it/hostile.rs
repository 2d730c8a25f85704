//! Handlers and apps that go wrong: contained, explained, and the neighbour unharmed.

use host::{HostError, Level};
use serde_json::json;

use crate::app::{App, PATIENCE, is_alive};
use crate::kills::Doomed;
use crate::wire::{Wire, call};

/// A host beside the one that suffers, which has to go on as if nothing were.
async fn neighbour() -> crate::app::Running {
    let mut host = App::new(|_| {}).http("Pid", "pid").start().await;
    host.pid().await;
    host
}

async fn is_unharmed(host: crate::app::Running) {
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    let log = host.stop().await;
    assert_eq!(log.at(Level::Error), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_answers_garbage_fails_its_calls_and_nothing_else() {
    let beside = neighbour().await;
    let app = App::new(|host| host["customHandler"]["enableProxyingHttpRequest"] = json!(false));
    let app = app.http("Work", "work").setting("FIXTURE_START", "garbage");
    let mut host = app.start().await;
    let pid = host.pid().await;
    for _ in 0..3 {
        assert_eq!(call(host.address, "POST /api/work", "x").await.status, 500);
    }
    host.log.wait_for("the call failed", 3).await;
    assert_eq!(host.pid().await, pid, "garbage is no reason to restart it");
    host.stop().await;
    is_unharmed(beside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_prints_without_end_fills_no_memory_and_delays_nobody() {
    let beside = neighbour().await;
    let app = App::new(|_| {}).http("Shout", "shout/{mebibytes}").http("Pid", "pid");
    let mut host = app.start().await;
    host.pid().await;
    let mut shouting = Wire::connect(host.address).await;
    shouting.send("GET /api/shout/64 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    assert_eq!(shouting.answer().await.status, 200);
    host.log.wait_for("END OF SHOUT", 1).await;
    let longest = host.log.lines("x").iter().map(|line| line.text.len()).max();
    assert_eq!(longest, Some(64 * 1024), "a line without an end is cut");
    host.stop().await;
    is_unharmed(beside).await;
}

/// What one run of a handler prints, in MiB: a gigabyte.
const SHOUT_MIB: usize = 1_024;

/// Lines wait in pipes and buffers, never in a heap that grows with them.
const RESIDENT_MAX_KIB: u64 = 100 * 1_024;

#[tokio::test]
async fn a_gigabyte_of_output_leaves_the_host_as_small_as_it_was() {
    let app = App::new(|_| {}).http("Shout", "shout/{mebibytes}");
    let host = Doomed::quietly(&app);
    let address = host.address(&app).await;
    let mut shouting = Wire::connect(address).await;
    let request = format!("GET /api/shout/{SHOUT_MIB} HTTP/1.1\r\nhost: h\r\n\r\n");
    shouting.send(&request).await;
    shouting.begins_within(PATIENCE * 4).await;
    assert_eq!(shouting.answer().await.status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < RESIDENT_MAX_KIB, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_answers_hold_up_nobody_else() {
    const CALLS: usize = 64;
    let app = App::new(|host| host["customHandler"]["enableProxyingHttpRequest"] = json!(false));
    let mut host = app.http("Work", "work").http("Quick", "quick").start().await;
    host.pid().await;
    let mut slow = Vec::new();
    for _ in 0..CALLS {
        let mut wire = Wire::connect(host.address).await;
        let body = r#"{"delayMs":4000}"#;
        let length = body.len();
        wire.send(&format!(
            "POST /api/work HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
        slow.push(wire);
    }
    host.log.wait_for("Executing 'Functions.Work'", CALLS).await;
    assert_eq!(call(host.address, "POST /api/quick", "{}").await.status, 204);
    assert!(host.log.lines("Executed 'Functions.Work'").is_empty(), "{}", host.log.text());
    for mut wire in slow {
        assert_eq!(wire.answer().await.status, 204);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_nobody_uses_hold_up_nobody_else() {
    const LEAKED: usize = 200;
    let mut host = App::new(|_| {}).http("Pid", "pid").start().await;
    let pid = host.pid().await.to_string();
    let mut leaked = Vec::new();
    for number in 0..LEAKED {
        let mut wire = Wire::connect(host.address).await;
        match number % 3 {
            // Says nothing; says half of a request; has been answered and stays.
            0 => {}
            1 => wire.send("GET /api/pid HTTP/1.1\r\nho").await,
            _ => {
                wire.send("GET /api/pid HTTP/1.1\r\nhost: h\r\n\r\n").await;
                assert_eq!(wire.answer().await.status, 200);
            }
        }
        leaked.push(wire);
    }
    assert_eq!(call(host.address, "GET /api/pid", "").await.body, pid);
    let log = host.stop().await.text();
    assert!(
        !log.contains("Invocations were still running"),
        "a stop waits for none of them: {log}"
    );
}

#[tokio::test]
async fn a_fixed_port_of_the_handler_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let app = App::new(|host| host["customHandler"]["port"] = json!(port)).http("Pid", "pid");
    let Err(HostError::Config(problems)) = app.bind(&crate::app::Log::default()).await else {
        panic!("has to fail")
    };
    let said = problems[0].to_string();
    let place = format!("the handler's port {port} cannot be used");
    assert!(said.contains(&place) && said.contains("customHandler.port"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_ignores_signals_is_ended_all_the_same() {
    let app = App::new(|_| {}).http("Pid", "pid");
    app.replace_handler("#!/bin/sh\ntrap '' TERM INT HUP\nexec \"$REAL\" \"$@\"\n", 0o755);
    let real = std::env::current_exe().unwrap().display().to_string();
    let mut host = app.setting("REAL", real).start().await;
    let pid = host.pid().await;
    let term = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(term.unwrap().success());
    assert_eq!(call(host.address, "GET /api/pid", "").await.body, pid.to_string());
    host.stop().await;
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_left_open_end_with_their_callers() {
    const CALLERS: usize = 100;
    let mut host = App::new(|_| {}).http("Never", "never").http("Pid", "pid").start().await;
    host.pid().await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut wire = Wire::connect(host.address).await;
        wire.send("GET /api/never HTTP/1.1\r\nhost: h\r\n\r\n").await;
        callers.push(wire);
    }
    host.log.wait_for("WAITING", CALLERS).await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    drop(callers);
    host.log.wait_for("CANCELLED", CALLERS).await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_functions_with_one_route_are_pointed_out() {
    let host = App::new(|_| {}).http("First", "pid").http("Second", "PID").start().await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    host.log.wait_for("Executed 'Functions.First' (Succeeded", 1).await;
    let warnings = host.stop().await.at(Level::Warning).join("\n");
    assert!(warnings.contains("is that of function 'First' as well"), "{warnings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_function_says_what_to_do_and_the_others_run() {
    let bindings = |binding: serde_json::Value| json!([binding]);
    let app = App::new(|_| {})
        .http("Pid", "pid")
        .function_json("Empty", &json!({}))
        .function("Blob", &bindings(json!({ "type": "blobTrigger", "name": "b" })))
        .function("Nameless", &bindings(json!({ "type": "httpTrigger" })))
        .function(
            "Unset",
            &bindings(json!({ "type": "queueTrigger", "name": "q",
            "queueName": "%NOT_SET%" })),
        )
        .function(
            "Level",
            &json!([
                { "type": "httpTrigger", "name": "r", "authLevel": "root" },
                { "type": "http", "direction": "out", "name": "res" }
            ]),
        )
        .function(
            "Two",
            &json!([
                { "type": "httpTrigger", "name": "r" }, { "type": "timerTrigger", "name": "t",
                  "schedule": "0 * * * * *" }
            ]),
        );
    std::fs::create_dir(app.root.join("Torn")).unwrap();
    std::fs::write(app.root.join("Torn/function.json"), "{ \"bindings\": [").unwrap();
    let host = app.start().await;
    assert_eq!(call(host.address, "GET /api/pid", "").await.status, 200);
    let errors = host.stop().await.at(Level::Error).join("\n");
    for (file, what) in [
        ("Empty/function.json", "no bindings"),
        ("Blob/function.json", "blobtrigger"),
        ("Nameless/function.json", "without type or name"),
        ("Unset/function.json", "needs the setting NOT_SET"),
        ("Level/function.json", "authLevel is \"root\""),
        ("Two/function.json", "2 trigger bindings"),
        ("Torn/function.json", "not a JSON object"),
    ] {
        let found = errors.lines().any(|line| line.contains(file) && line.contains(what));
        assert!(found, "{file}: {what}\n{errors}");
    }
    assert!(errors.matches("  fix: ").count() >= 7, "{errors}");
}
