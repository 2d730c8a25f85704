//! What a person meets in the terminal: errors that say what, why and the fix.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::harness::binary;

fn stack(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(binary("stack")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn a_taken_port_is_named_with_its_owner_and_the_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (output, text) = stack(&["up", "--no-build", "--port", "0", "--bus-port", &port]);
    assert!(!output.status.success());
    for part in [&format!("Port {port} is taken"), "pid", "--bus-port"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn an_unknown_app_names_those_that_exist() {
    let (output, text) = stack(&["stage", "shipping"]);
    assert!(!output.status.success());
    assert!(text.contains("`shipping`") && text.contains("order-api"), "{text}");
}

#[test]
fn the_doctor_finds_the_toolchain() {
    let (_, text) = stack(&["doctor"]);
    assert!(text.contains("cargo") && text.contains("topology.json: 6 apps"), "{text}");
}

#[test]
fn a_handler_without_its_settings_says_which() {
    let directory = std::env::temp_dir().join(format!("bulkhead-bare-{}", uuid::Uuid::new_v4()));
    let run = |directory: &std::path::Path, port: Option<&str>| {
        let mut command = Command::new(directory.join("handler"));
        command.env_remove("FUNCTIONS_CUSTOMHANDLER_PORT").env_remove("OrdersStore");
        if let Some(port) = port {
            command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(binary("handler"), directory.join("handler")).unwrap();
    assert!(run(&directory, None).contains("FUNCTIONS_CUSTOMHANDLER_PORT"));
    let text = run(&directory, Some("0"));
    assert!(text.contains("no function is staged"), "{text}");
    std::fs::create_dir_all(directory.join("charge")).unwrap();
    let definition = include_str!("../functions/billing/charge/function.json");
    std::fs::write(directory.join("charge/function.json"), definition).unwrap();
    let text = run(&directory, Some("0"));
    assert!(text.contains("OrdersStore"), "{text}");
    std::fs::remove_dir_all(directory).unwrap();
}
