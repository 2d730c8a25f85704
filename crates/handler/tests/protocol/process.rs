//! A handler as a process of its own, as the host starts it: `handler::run` in this very test
//! binary, started once more.

use std::process::Stdio;

use handler::{App, Context, Failure, Invocation, Reply};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::client::{PATIENCE, exchange, invocation};

const EMPTY: &str = r#"{"Data":{"x":"\"\""},"Metadata":{}}"#;

/// The process that the other tests of this file start; as a test it does nothing.
#[tokio::test]
async fn child() {
    #[expect(clippy::disallowed_methods, reason = "tells the child from the test")]
    if std::env::var_os("HANDLER_TEST_CHILD").is_none() {
        return;
    }
    let app = App::new()
        .function("fails", |_: Invocation, _: Context| async {
            Err::<Reply, _>(Failure::new("card-declined", "two\nlines"))
        })
        .function("panics", |_: Invocation, _: Context| async {
            if true {
                panic!("LanguageWorkerConsoleLog\nazfuncjsonlog: in a panic");
            }
            Ok::<_, Failure>(Reply::done())
        });
    match handler::run(app).await {
        Ok(()) => std::process::exit(i32::from(handler::EXIT_RESTART)),
        Err(error) => {
            eprintln!("{}", Failure::from(error).message());
            std::process::exit(1)
        }
    }
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "process::child", "--nocapture", "--quiet"])
        .env_remove("FUNCTIONS_HTTPWORKER_PORT")
        .env_remove("FUNCTIONS_CUSTOMHANDLER_PORT")
        .env_remove("RUST_LOG")
        .env("HANDLER_TEST_CHILD", "1")
        .env("LOG_FORMAT", "json")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The next event of the log; what the test harness prints is skipped.
async fn event(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("no event").unwrap();
        let line = line.expect("the log has ended");
        assert!(!line.starts_with("azfunc") && !line.starts_with("Language"), "{line}");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

async fn stderr(child: Child) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("still runs").unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_handler_logs_to_stdout_and_asks_to_be_started_again() {
    let mut child = command(&[("FUNCTIONS_CUSTOMHANDLER_PORT", "0")]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let serving = event(&mut lines).await;
    let address = serving["address"].as_str().unwrap().parse().unwrap();

    assert_eq!(exchange(address, invocation("fails", EMPTY)).await.status, 500);
    let failed = event(&mut lines).await;
    assert_eq!(failed["level"], "ERROR");
    assert_eq!(failed["error.type"], "card-declined");
    assert_eq!(failed["error.message"], "two\nlines");
    assert_eq!(failed["span"]["function"], "fails");
    assert_eq!(failed["span"]["invocation.id"], "0d6a4a8e-7b55-4f0b-a26c-5a53c2b8c9f1");
    assert_eq!(failed["span"]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!(failed["duration_ms"].is_u64(), "{failed}");

    assert_eq!(exchange(address, invocation("panics", EMPTY)).await.status, 500);
    let panicked = event(&mut lines).await;
    let location = panicked["panic.location"].as_str().unwrap();
    assert!(location.contains("process.rs:"), "{location}");
    assert_eq!(event(&mut lines).await["error.type"], "panic");

    let pid = child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(killed.success());
    assert_eq!(event(&mut lines).await["signal"], "SIGTERM");
    // To a host that lives on, 200 means "start me again"; 0 would mean that all is well.
    assert_eq!(stderr(child).await, (Some(200), String::new()));
}

#[tokio::test]
async fn a_handler_without_a_port_says_what_to_do() {
    let (code, text) = stderr(command(&[]).spawn().unwrap()).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("FUNCTIONS_CUSTOMHANDLER_PORT=3000"), "{text}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let child = command(&[("FUNCTIONS_CUSTOMHANDLER_PORT", &port)]).spawn().unwrap();
    let (code, text) = stderr(child).await;
    assert_eq!(code, Some(1));
    assert!(text.contains(&port) && text.contains("in use"), "{text}");
}
