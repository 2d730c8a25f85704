//! What commands print, to readers that stay, have had enough, or cannot keep it; and whom they say
//! they are.

use std::io::{BufRead as _, BufReader, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Readers that are gone before anything is printed: each command meets them at its first line.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// A system that answers every request with the same document, until the test ends; and the heads
/// of the requests that it got.
fn answering(document: &str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heads, received) = channel();
    let document = document.to_owned();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            answer(&connection, &document, &heads);
        }
    });
    (url, received)
}

fn answer(connection: &TcpStream, document: &str, heads: &Sender<String>) {
    let lines = BufReader::new(connection).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    // The test may be over.
    let _ = heads.send(head.join("\n"));
    let length = document.len();
    let text = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{document}"
    );
    let mut connection = connection;
    let _ = connection.write_all(text.as_bytes());
}

const COMPLETED: &str = r#"{"orderId": "o-1", "overall": "completed", "createdAt": "2026-03-01T10:00:00Z",
    "status": {"billing": "done"}, "history": [{"at": "2026-03-01T10:00:01Z", "what": "accepted"}],
    "orders": [], "sources": [], "entries": [], "records": [{"message": "m"}], "newest": 1}"#;

/// Commands that ask a running system.
const ASKING: [&[&str]; 7] = [
    &["order", "watch", "o-1"],
    &["order", "watch", "o-1", "--json"],
    &["order", "show", "o-1"],
    &["order", "list"],
    &["dlq", "list"],
    &["dlq", "audit", "--json"],
    // Without a reader it would go on until Ctrl-C.
    &["logs", "--follow"],
];

#[test]
fn a_reader_that_has_had_enough_ends_a_command_quietly() {
    let (url, _heads) = answering(COMPLETED);
    let asking = ASKING.iter().map(|arguments| [arguments, &["--url", &url][..]].concat());
    for arguments in asking.chain([vec!["settings"], vec!["emulators"]]) {
        let Output { status, stderr, .. } = unread(&arguments);
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn output_that_cannot_be_kept_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    let output = command.arg("settings").stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Standard output cannot be written"), "{stderr}");
}

#[test]
fn a_failure_that_nobody_reads_is_a_failure_and_no_panic() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    let status = command.args(["stage", "shipping"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn every_command_that_asks_a_system_can_say_who_asks() {
    let (url, heads) = answering(COMPLETED);
    for arguments in ASKING {
        let credentials = ["--url", &url, "--header", "authorization: Bearer t"];
        let output = unread(&[arguments, &credentials].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let head = heads.recv().unwrap();
        assert!(head.contains("\nauthorization: Bearer t"), "{arguments:?}: {head}");
    }
}
