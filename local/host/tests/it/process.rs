//! Start, readiness, exit codes, restarts, and the end of the handler process.

use host::{HandlerStatus, HostError, Level};
use serde_json::{Value, json};

use crate::app::{App, Log, is_alive, kill};
use crate::wire::call;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handler_gets_its_environment_and_is_killed_at_the_end() {
    let app = App::new(|_| {})
        .http("Echo", "echo")
        .setting("FROM_SETTINGS", "environment")
        .setting("FROM_FILE", "environment");
    let local = json!({ "IsEncrypted": false, "Values": { "FROM_FILE": "x", "ADDED": "y" } });
    std::fs::write(app.root.join("local.settings.json"), local.to_string()).unwrap();
    let mut host = app.start().await;
    let pid = host.pid().await;
    let seen = host.log.said("ENV", 1).await.remove(0);
    assert_eq!((&seen["setting"], &seen["local"]), (&json!("environment"), &json!("environment")));
    assert_eq!((&seen["runtime"], &seen["inherited"]), (&json!("custom"), &json!("")));
    assert_eq!(seen["port"], seen["legacy"]);
    assert_eq!(seen["worker"].as_str().unwrap().len(), 36);
    let root = host.app.root.to_str().unwrap().to_owned();
    assert_eq!((&seen["root"], &seen["cwd"]), (&json!(root), &json!(root)));
    let text = host.log.text();
    assert!(text.contains("Skipping 'FROM_FILE' from local settings"), "{text}");
    assert!(text.contains("Worker process started and initialized."), "{text}");
    assert!(is_alive(pid));
    host.stop().await;
    assert!(!is_alive(pid), "nothing may be left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_restarted_on_the_same_port_and_the_third_one_stops_the_host() {
    let mut host = App::new(|_| {}).http("Exit", "exit/{code}").http("Pid", "pid").start().await;
    let mut pid = host.pid().await;
    for _ in 0..2 {
        assert_eq!(call(host.address, "GET /api/exit/3", "").await.status, 500);
        pid = host.pid_other_than(pid).await;
    }
    kill(pid);
    let (outcome, log) = host.ended().await;
    let Err(HostError::GaveUp(problem)) = outcome else { panic!("{outcome:?}") };
    assert!(problem.to_string().contains("three times"), "{problem}");
    let text = log.text();
    assert!(text.contains("exit status: 3: asked to exit with 3"), "{text}");
    assert!(text.contains("(3 of 3 errors): signal: 9"), "{text}");
    assert!(text.contains("Exceeded http worker restart retry count."), "{text}");
    let envs = log.said("ENV", 3).await;
    assert_eq!(envs[0]["port"], envs[2]["port"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_200_is_free_and_exit_0_is_final() {
    let mut host = App::new(|_| {}).http("Exit", "exit/{code}").start().await;
    let mut pid = host.pid().await;
    for _ in 0..4 {
        call(host.address, "GET /api/exit/200", "").await;
        pid = host.pid_other_than(pid).await;
    }
    assert_eq!(host.log.wait_for("intentional restart", 4).await.len(), 4);
    call(host.address, "GET /api/exit/0", "").await;
    host.status(HandlerStatus::Exited).await;
    // Not restarted: every later call fails, after the connect attempts.
    assert_eq!(call(host.address, "GET /api/exit/1", "").await.status, 500);
    let last = host.log.wait_for("exited with code 0", 1).await;
    assert!(last[0].text.contains("Fix: "), "{last:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_cannot_start_says_why() {
    for (start, parts) in [
        ("exit:1", ["exit status: 1", "two | three | four: cannot open the database"]),
        ("deaf", ["Initializing HttpWorker timed out.", "did not answer GET"]),
    ] {
        let app = App::new(|host| {
            host["customHandler"]["initializationTimeout"] = json!("00:00:00.4");
        });
        let app = app.http("Echo", "echo").setting("FIXTURE_START", start);
        let (outcome, log) = app.start().await.ended().await;
        assert!(matches!(outcome, Err(HostError::GaveUp(_))), "{start}");
        for part in parts {
            assert!(log.text().contains(part), "{part} in\n{}", log.text());
        }
    }
}

#[tokio::test]
async fn everything_wrong_with_the_app_is_said_at_once() {
    let app = App::new(|host| host["version"] = json!("1.0")).http("Echo", "echo");
    app.replace_handler("#!/bin/sh\n", 0o644);
    std::fs::write(app.root.join("local.settings.json"), "{").unwrap();
    let Err(HostError::Config(problems)) = app.bind(&Log::default()).await else {
        panic!("has to fail")
    };
    let all = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in ["version is not", "is not executable", "chmod 755", "local.settings.json is not"] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    std::fs::remove_file(app.root.join("handler")).unwrap();
    let error = app.bind(&Log::default()).await.unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let app = App::new(|_| {}).http("Echo", "echo");
    let (listen, log) = (taken.local_addr().unwrap(), Log::default());
    let options = host::Options::new(app.path(), listen, app.settings.clone(), log.sink());
    let error = host::Host::bind(options).await.unwrap_err();
    assert!(matches!(error, HostError::Bind { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 3, "what, why, fix: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_hangs_until_the_timeout_and_costs_the_handler() {
    let mut host = App::new(|host| {
        host["customHandler"]["enableProxyingHttpRequest"] = json!(false);
        host["functionTimeout"] = json!("00:00:00.5");
    })
    .http("Work", "work")
    .start()
    .await;
    let pid = host.pid().await;
    let head = "POST /api/work\r\ncontent-type: application/json";
    let answer = call(host.address, head, r#"{"do":"empty"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (500, ""));
    let new = host.pid_other_than(pid).await;
    assert!(!is_alive(pid));
    let errors = host.log.at(Level::Error).join("\n");
    assert!(errors.contains("empty body") && errors.contains("at least {}"), "{errors}");
    assert!(errors.contains("Timeout value of 500ms exceeded"), "{errors}");

    // A restart by timeout is not counted, however often.
    let mut last = new;
    for _ in 0..3 {
        call(host.address, head, r#"{"do":"never"}"#).await;
        last = host.pid_other_than(last).await;
    }
    assert_eq!(call(host.address, head, r#"{"do":"ok"}"#).await.status, 204);
    // In flight when the process dies: fails at once.
    assert_eq!(call(host.address, head, r#"{"do":"exit"}"#).await.status, 500);
    host.log.wait_for("(1 of 3 errors): exit status: 7", 1).await;
    host.stop().await;
}

#[tokio::test]
async fn without_functions_no_handler_is_started() {
    let host = App::new(|_| {}).start().await;
    host.log.wait_for("No job functions found", 1).await;
    assert_eq!(call(host.address, "GET /", "").await.status, 200);
    let log = host.stop().await;
    assert!(!log.text().contains("ENV "), "{}", log.text());
    assert_eq!(log.at(Level::Error), Vec::<String>::new());
    let _: Option<Value> = None;
}

/// Run by the next test as a process of its own, to be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "this is the host the next test kills"]
async fn doomed_host() {
    let mut host = App::new(|_| {}).http("Echo", "echo").start().await;
    println!("HANDLER {} {}", host.pid().await, host.app.path().display());
    std::future::pending().await
}

#[tokio::test]
async fn no_handler_outlives_a_host_that_is_killed() {
    use tokio::io::AsyncBufReadExt as _;
    let mut host = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "process::doomed_host", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(host.stdout.take().unwrap()).lines();
    let (pid, root) = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("HANDLER ") {
            let (pid, root) = rest.split_once(' ').unwrap();
            break (pid.parse::<u32>().unwrap(), root.to_owned());
        }
    };
    assert!(is_alive(pid));
    host.kill().await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::app::PATIENCE;
    while is_alive(pid) {
        assert!(tokio::time::Instant::now() < deadline, "the handler {pid} is left behind");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::remove_dir_all(root).unwrap();
}
