//! Every value of `host.json` and `function.json` that cannot be used is named with its file, its
//! property and what to write instead, and costs no more than it has to: the app for `host.json`,
//! the function for `function.json`.

use host::{FunctionInfo, HostError};
use serde_json::{Value, json};

use crate::app::{App, Log};

/// Puts `value` at `path`, whatever is there.
fn put(root: &mut Value, path: &str, value: Value) {
    let mut at = root;
    for name in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name];
    }
    *at = value;
}

/// What, why and fix, and all of it about `place`.
fn assert_helpful(problems: &[String], file: &str, place: &str, case: &str) {
    let about = problems.iter().find(|text| text.contains(file) && text.contains(place));
    let about = about.unwrap_or_else(|| panic!("{case}: no word of {file} {place}: {problems:#?}"));
    let lines: Vec<&str> = about.lines().collect();
    assert!(lines.len() == 3 && lines[2].starts_with("  fix: "), "{case}: {about}");
}

#[tokio::test]
async fn every_bad_value_of_host_json_is_named_with_a_fix() {
    let cases = [
        ("version", json!("1.0")),
        ("version", Value::Null),
        ("functionTimeout", json!("soon")),
        ("functionTimeout", json!("00:00:00")),
        ("functionTimeout", json!(true)),
        ("configurationProfile", json!("other")),
        ("extensionBundle", json!("all")),
        ("customHandler", json!("handler")),
        ("customHandler.description", Value::Null),
        ("customHandler.description.defaultExecutablePath", json!("")),
        ("customHandler.description.defaultExecutablePath", json!({})),
        ("customHandler.description.arguments", json!(5)),
        ("customHandler.description.useStdErrorStreamForErrorsOnly", json!("perhaps")),
        ("customHandler.port", json!(70_000)),
        ("customHandler.port", json!("x")),
        ("customHandler.initializationTimeout", json!(30)),
        ("customHandler.enableProxyingHttpRequest", json!("yes")),
        ("customHandler.enableForwardingHttpRequest", json!(1)),
        ("customHandler.http.routes", json!([{}])),
        ("customHandler.http.routes", json!("{*path}")),
        ("extensions", json!([])),
        ("extensions.http.routePrefix", json!({})),
        ("extensions.http.maxConcurrentRequests", json!(0)),
        ("extensions.http.maxOutstandingRequests", json!("many")),
        ("extensions.serviceBus.autoCompleteMessages", json!("no")),
        ("extensions.serviceBus.maxAutoLockRenewalDuration", json!("5m")),
        ("extensions.serviceBus.maxConcurrentCalls", json!(0)),
        ("extensions.serviceBus.maxConcurrentSessions", json!(-1)),
        ("extensions.serviceBus.maxConcurrentCallsPerSession", json!("x")),
        ("extensions.serviceBus.sessionIdleTimeout", json!("a minute")),
        ("extensions.serviceBus.maxMessageBatchSize", json!(0)),
        ("extensions.serviceBus.minMessageBatchSize", json!(1.5)),
        ("extensions.serviceBus.maxBatchWaitTime", json!(30)),
        ("extensions.queues.batchSize", json!(33)),
        ("extensions.queues.newBatchThreshold", json!("x")),
        ("extensions.queues.maxDequeueCount", json!(0)),
        ("extensions.queues.visibilityTimeout", json!("x")),
        ("extensions.queues.maxPollingInterval", json!("x")),
        ("extensions.queues.messageEncoding", json!("utf-7")),
        ("retry", json!("always")),
        ("retry.strategy", json!("linear")),
    ];
    for (path, value) in cases {
        let case = format!("{path} = {value}");
        let app = App::new(|host| put(host, path, value)).http("Echo", "echo");
        let Err(HostError::Config(problems)) = app.bind(&Log::default()).await else {
            panic!("{case} is accepted")
        };
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let place = path.trim_start_matches("retry.");
        assert_helpful(&problems, "host.json", place, &case);
    }
    for (content, place) in [("{ \"version\": ", "line 1"), ("[]", "object"), ("", "object")] {
        let app = App::new(|_| {});
        std::fs::write(app.root.join("host.json"), content).unwrap();
        let error = app.bind(&Log::default()).await.unwrap_err().to_string();
        assert!(error.contains("host.json") && error.contains(place), "{content}: {error}");
    }
    let app = App::new(|_| {});
    std::fs::remove_file(app.root.join("host.json")).unwrap();
    let error = app.bind(&Log::default()).await.unwrap_err().to_string();
    assert!(error.contains("host.json cannot be read") && error.contains("fix: "), "{error}");
}

fn trigger(kind: &str, more: Value) -> Value {
    let mut binding = json!({ "type": kind, "name": "in", "direction": "in" });
    if let Value::Object(more) = more {
        binding.as_object_mut().unwrap().extend(more);
    }
    binding
}

fn http() -> Value {
    trigger("httpTrigger", json!({ "route": "other" }))
}

fn output(kind: &str, more: Value) -> Value {
    let mut binding = trigger(kind, more);
    (binding["name"], binding["direction"]) = (json!("out"), json!("out"));
    binding
}

/// Whole files, and what has to be named.
fn broken_functions() -> Vec<(Value, &'static str)> {
    let one = |binding: Value| json!({ "bindings": [binding] });
    let with = |second: Value| json!({ "bindings": [http(), second] });
    let bus = |more: Value| {
        let mut binding = trigger("serviceBusTrigger", json!({ "queueName": "q" }));
        binding["connection"] = json!("Bus");
        for (name, value) in more.as_object().unwrap() {
            binding[name] = value.clone();
        }
        one(binding)
    };
    let feed = |more: Value| {
        let mut binding = trigger("cosmosDBTrigger", json!({ "connection": "Store" }));
        for (name, value) in more.as_object().unwrap() {
            binding[name] = value.clone();
        }
        one(binding)
    };
    let timer = |more: Value| one(trigger("timerTrigger", more));
    let retry = |retry: Value| {
        let mut file = timer(json!({ "schedule": "0 * * * * *" }));
        file["retry"] = retry;
        file
    };
    vec![
        (json!({}), "bindings"),
        (json!({ "bindings": {} }), "bindings"),
        (json!({ "bindings": ["httpTrigger"] }), "binding"),
        (one(json!({ "name": "in" })), "type"),
        (one(json!({ "type": "httpTrigger" })), "name"),
        (one(trigger("blobTrigger", json!({}))), "blobtrigger"),
        (one(trigger("eventHubTrigger", json!({}))), "eventhubtrigger"),
        (json!({ "bindings": [http(), http()] }), "2 trigger bindings"),
        (one(output("http", json!({}))), "0 trigger bindings"),
        (with(trigger("blob", json!({}))), "blob"),
        (with(output("sendGrid", json!({}))), "sendGrid"),
        (json!({ "bindings": [http()], "disabled": "perhaps" }), "disabled"),
        (one(trigger("httpTrigger", json!({ "authLevel": "root" }))), "authLevel"),
        (one(trigger("httpTrigger", json!({ "route": "a/{b" }))), "route"),
        (one(trigger("httpTrigger", json!({ "route": "a/{b:zip}" }))), "route"),
        (one(trigger("httpTrigger", json!({ "methods": 5 }))), "methods"),
        (bus(json!({ "topicName": "t" })), "entity"),
        (bus(json!({ "queueName": null })), "entity"),
        (bus(json!({ "cardinality": "few" })), "cardinality"),
        (bus(json!({ "isSessionsEnabled": "x" })), "isSessionsEnabled"),
        (bus(json!({ "autoCompleteMessages": 1 })), "autoCompleteMessages"),
        (bus(json!({ "maxMessageBatchSize": 0 })), "maxMessageBatchSize"),
        (bus(json!({ "connection": "Nowhere" })), "Nowhere"),
        (bus(json!({ "queueName": "%UNSET%" })), "UNSET"),
        (one(trigger("queueTrigger", json!({}))), "queueName"),
        (one(trigger("queueTrigger", json!({ "queueName": "not_a_queue" }))), "not_a_queue"),
        (one(trigger("queueTrigger", json!({ "queueName": "q", "connection": "X" }))), "X"),
        (feed(json!({ "containerName": "c" })), "databaseName"),
        (feed(json!({ "databaseName": "d" })), "containerName"),
        (
            feed(json!({ "databaseName": "d", "containerName": "c", "feedPollDelay": "x" })),
            "feedPollDelay",
        ),
        (timer(json!({})), "schedule"),
        (timer(json!({ "schedule": "every day" })), "schedule"),
        (timer(json!({ "schedule": "0 0 25 * * *" })), "schedule"),
        (timer(json!({ "schedule": "0 * * * * *", "useMonitor": "x" })), "useMonitor"),
        (retry(json!({ "strategy": "linear" })), "strategy"),
        (retry(json!({ "strategy": "fixedDelay", "maxRetryCount": "x" })), "maxRetryCount"),
        (retry(json!({ "strategy": "fixedDelay", "maxRetryCount": 1 })), "delayInterval"),
        (with(output("serviceBus", json!({ "connection": "Bus" }))), "queueName"),
        (with(output("queue", json!({}))), "queueName"),
        (with(output("cosmosDB", json!({ "connection": "Store" }))), "databaseName"),
    ]
}

#[tokio::test]
async fn every_bad_value_of_function_json_is_named_with_a_fix_and_costs_its_function_only() {
    let mut app = App::new(|_| {})
        .http("Good", "good")
        .setting(
            "Bus",
            "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=k;\
                  UseDevelopmentEmulator=true;",
        )
        .setting("Store", "AccountEndpoint=http://127.0.0.1:1/;AccountKey=Zm9v;")
        .setting("AzureWebJobsStorage", "UseDevelopmentStorage=true");
    let cases = broken_functions();
    for (number, (file, _)) in cases.iter().enumerate() {
        app = app.function_json(&format!("F{number}"), file);
    }
    let host = app.bind(&Log::default()).await.unwrap();
    let problems = |name: &str| -> Vec<String> {
        let found: &FunctionInfo = host.functions().iter().find(|f| f.name == name).unwrap();
        found.problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(problems("Good"), [""; 0]);
    for (number, (file, place)) in cases.iter().enumerate() {
        let name = format!("F{number}");
        let said = problems(&name);
        assert_helpful(&said, &format!("{name}/function.json"), place, &file.to_string());
    }
}
