//! A real stack for a test: the processes that `up` starts, on free ports, with apps staged into a
//! directory of their own. Nothing is mocked.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure::bus::{BusClient, Received};
use azure::connection::{BusConnection, CosmosConnection};
use azure::cosmos::{Store, StoreOptions};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use stack::endpoints::Endpoints;

/// Debug builds of ten processes on two busy cores.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// An order is done in well under a second; this is for a machine that does ten things at once.
pub const DONE_WITHIN: Duration = Duration::from_secs(30);

/// Pause between two looks at something that is about to change.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// Among the arguments of a stack: without a line for each invocation.
pub const AS_PEOPLE_RUN_IT: &str = "as people run it";

/// A running stack. Stops when dropped: the process stops when its standard input closes.
pub struct TestStack {
    pub endpoints: Endpoints,
    directory: PathBuf,
    process: Child,
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The directory that cargo built the executables into.
pub fn binary(name: &str) -> PathBuf {
    let mut directory = std::env::current_exe().unwrap();
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace --all-targets",
        path.display()
    );
    path
}

impl TestStack {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(arguments: &[&str]) -> Self {
        binary("handler");
        let directory = std::env::temp_dir().join(format!("bulkhead-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&directory).unwrap();
        let ready = directory.join("ready.json");
        let points = directory.join("points");
        std::fs::create_dir_all(&points).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        // The benchmark wants the stack as people run it; a test wants to read every line, and to
        // strike at any point.
        let tested = !arguments.contains(&AS_PEOPLE_RUN_IT);
        let crash_points = format!("CRASH_POINTS={}", points.display());
        let mut command = Command::new(binary("stack"));
        if !tested {
            // The backtraces of errors that are expected are not what is measured.
            command.env_remove("RUST_BACKTRACE");
        }
        let mut process = command
            .args(["up", "--no-build", "--until-stdin-closes"])
            .args(tested.then_some("--verbose"))
            .args(["--set", &crash_points].into_iter().filter(|_| tested))
            .args(["--port", "0", "--cosmos-port", "0", "--bus-port", "0"])
            .args(["--queue-port", "0", "--bank-port", "0"])
            .args(["--grid-port", "0", "--subscriber-port", "0"])
            // A killed host leaves its messages invisible for ten minutes, as in Azure.
            .args(["--queue-lease-seconds", "15"])
            .arg("--apps-dir")
            .arg(directory.join("apps"))
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments.iter().filter(|argument| **argument != AS_PEOPLE_RUN_IT))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + STARTED_WITHIN;
        let endpoints = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break serde_json::from_str(&text).unwrap();
            }
            let exited = process.try_wait().unwrap();
            if exited.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(directory.join("log")).unwrap();
                panic!("the stack did not start ({exited:?}):\n{log}");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let stack = Self { endpoints, directory, process };
        // Ten processes that start at once may need more than the patience of the first request.
        eventually_within(STARTED_WITHIN, "the store answers", || async {
            let answer = try_send(&stack.endpoints.http, Method::GET, "/readyz", &[], "").await?;
            (answer.status == 200).then_some(())
        })
        .await;
        stack
    }

    /// Where the apps are staged.
    #[allow(dead_code, reason = "for the benchmark, which starts a handler by itself")]
    pub fn apps(&self) -> PathBuf {
        self.directory.join("apps")
    }

    /// Arms a crash point for one use; see `functions/crash.rs`.
    pub fn arm(&self, point: &str, action: &str) {
        // In one step: a half-written action is none.
        let path = self.directory.join("points").join(point);
        let beside = self.directory.join(point);
        std::fs::write(&beside, action).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    /// Makes the next that passes a crash point wait there until [`Self::release`].
    pub fn hold(&self, point: &str) {
        self.arm(point, "hold");
    }

    /// Lets whoever is held at a crash point go on; nobody will be held there any more.
    pub fn release(&self, point: &str) {
        let points = self.directory.join("points");
        // Either nobody has come yet, or somebody has renamed the file.
        if std::fs::remove_file(points.join(point)).is_err() {
            std::fs::remove_file(points.join(format!("{point}.held"))).unwrap();
        }
    }

    /// Whether a crash point still waits for somebody to pass.
    pub fn is_armed(&self, point: &str) -> bool {
        self.directory.join("points").join(point).exists()
    }

    /// The last lines that the processes have printed, those of HTTP requests left out.
    pub fn log(&self) -> String {
        const LINES_MAX: usize = 80;
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
        let lines: Vec<&str> =
            log.lines().filter(|line| !line.contains("'Functions.http'")).collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }

    /// Everything that the processes have printed.
    pub fn full_log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        send(&self.endpoints.http, method, path, headers, body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let json = [("content-type", "application/json")];
        let headers: Vec<_> = json.iter().chain(headers).copied().collect();
        self.send(Method::POST, "/api/orders", &headers, body.to_string()).await
    }

    /// Submits an order that must be accepted; its id.
    pub async fn submit(&self, body: &Value) -> String {
        let answer = self.post(body, &[]).await;
        assert_eq!(answer.status, 202, "{:?}\n{}", answer, self.log());
        answer.json()["orderId"].as_str().unwrap().to_owned()
    }

    pub async fn order(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/orders/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Submits an order as a careful client does: again and again under the same key, until it is
    /// accepted; its id.
    pub async fn submit_patiently(&self, body: &Value, key: &str) -> String {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let base = &self.endpoints.http;
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            let answer =
                try_send(base, Method::POST, "/api/orders", &headers, body.to_string()).await;
            match answer {
                Some(answer) if answer.status == 202 => {
                    return answer.json()["orderId"].as_str().unwrap().to_owned();
                }
                // Nobody there, or somebody who just died.
                None => {}
                Some(answer) if answer.status.is_server_error() || answer.status == 429 => {}
                Some(answer) => panic!("{answer:?}"),
            }
            assert!(Instant::now() < deadline, "{key} is never accepted\n{}", self.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// How an order stands as a whole, if anybody answers.
    pub async fn overall(&self, id: &str) -> Option<String> {
        let path = format!("/api/orders/{id}");
        let answer = try_send(&self.endpoints.http, Method::GET, &path, &[], "").await?;
        (answer.status == 200).then(|| answer.json()["overall"].as_str().unwrap().to_owned())
    }

    /// Cancels an order; the status, if there is any answer.
    pub async fn try_cancel(&self, id: &str) -> Option<u16> {
        let path = format!("/api/orders/{id}/cancel");
        let answer = try_send(&self.endpoints.http, Method::POST, &path, &[], "").await;
        answer.map(|answer| answer.status.as_u16())
    }

    /// Waits until the order is as wanted; the order then. Fails with the order's own history.
    pub async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_within(id, DONE_WITHIN, what, wanted).await
    }

    /// As [`Self::until`], with a limit of its own.
    pub async fn until_within(
        &self,
        id: &str,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + limit;
        let path = format!("/api/orders/{id}");
        loop {
            let answer = try_send(&self.endpoints.http, Method::GET, &path, &[], "").await;
            let found = answer.filter(|answer| answer.status == 200).map(|answer| answer.json());
            let Some(order) = found else {
                assert!(Instant::now() < deadline, "order {id} cannot be read");
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            if wanted(&order) {
                return order;
            }
            if Instant::now() > deadline {
                panic!("order {id} is not {what}: {order:#}\n{}", self.log());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub async fn until_completed(&self, id: &str) -> Value {
        self.until(id, "completed", |order| order["overall"] == "completed").await
    }

    /// Waits until nothing about the order moves any more: completed, and the customer told.
    pub async fn until_quiet(&self, id: &str) -> Value {
        let told = |order: &Value| order["messages"].as_array().is_some_and(|m| m.len() == 2);
        self.until(id, "completed and told", |order| order["overall"] == "completed" && told(order))
            .await
    }

    /// Waits until the order is closed, however it ends.
    pub async fn until_closed(&self, id: &str) -> Value {
        self.until(id, "closed", |order| order["overall"] != "accepted").await
    }

    pub async fn cancel(&self, id: &str) -> Answer {
        self.send(Method::POST, &format!("/api/orders/{id}/cancel"), &[], "").await
    }

    /// The process id of a process, which changes when it is started again.
    pub fn pid(&self, process: &str) -> i32 {
        let text = std::fs::read_to_string(self.directory.join("ready.json")).unwrap();
        let endpoints: Endpoints = serde_json::from_str(&text).unwrap();
        let mut processes = endpoints.processes.iter();
        let found = processes.find(|p| p.name == process).expect(process);
        i32::try_from(found.pid).unwrap()
    }

    /// The process id of a host's handler, if it runs one right now. The host's other child is the
    /// watchdog that ends the handler with the host.
    pub fn handler_pid(&self, app: &str) -> Option<i32> {
        let host = self.pid(&format!("host {app}"));
        let threads = std::fs::read_dir(format!("/proc/{host}/task")).ok()?;
        let children: String = threads
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
            .collect();
        let named =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let found = children.split_whitespace().find(|pid| named(pid).trim() == "handler");
        found.map(|pid| pid.parse().unwrap())
    }

    /// Asks the bank.
    pub async fn bank(&self, method: Method, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(&self.endpoints.bank, method, path, &json, body).await
    }

    /// What the bank has written down about an order, oldest first.
    pub async fn ledger_of(&self, id: &str) -> Vec<String> {
        let lines = self.ledger().await;
        let about = lines.iter().filter(|line| line["reference"] == id);
        about.map(|line| line["effect"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything that the bank has written down.
    pub async fn ledger(&self) -> Vec<Value> {
        let answer = self.bank(Method::GET, "/v1/ledger", &Value::Null).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Puts a text into a storage queue, encoded as the Functions host expects it.
    pub async fn enqueue(&self, queue: &str, text: &str) {
        let encoded = base64(text.as_bytes());
        let body = format!("<QueueMessage><MessageText>{encoded}</MessageText></QueueMessage>");
        let answer = self.storage(Method::POST, &format!("{queue}/messages"), &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// The texts at the front of a storage queue, up to 32, without taking them.
    pub async fn queued(&self, queue: &str) -> Vec<String> {
        let path = format!("{queue}/messages?peekonly=true&numofmessages=32");
        let answer = self.storage(Method::GET, &path, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let xml = String::from_utf8(answer.body.to_vec()).unwrap();
        let texts = xml.split("<MessageText>").skip(1);
        texts.map(|rest| unbase64(rest.split("</MessageText>").next().unwrap())).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "requests are signed with the time of day")]
    async fn storage(&self, method: Method, path: &str, body: &str) -> Answer {
        let part = |name: &str| {
            let found = self.endpoints.queue.split(';').find_map(|part| part.strip_prefix(name));
            found.unwrap().to_owned()
        };
        let (endpoint, account, key) =
            (part("QueueEndpoint="), part("AccountName="), part("AccountKey="));
        let base = endpoint.strip_suffix(&format!("/{account}")).unwrap();
        let target = format!("/{account}/{path}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let date = queue::auth::http_date(u64::try_from(now.as_millis()).unwrap());
        let mut headers = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2024-08-04")];
        if !body.is_empty() {
            headers.push(("content-type", "application/xml"));
        }
        let mut signed = HeaderMap::new();
        for (name, value) in &headers {
            signed.insert(*name, value.parse().unwrap());
        }
        let authorization =
            queue::auth::sign(&account, &key, method.as_str(), &target, &signed, body.len());
        headers.push(("authorization", &authorization));
        send(base, method, &target, &headers, body.to_owned()).await
    }

    /// Messages in a dead-letter queue: id, order, reason, description, delivery count.
    pub async fn dead_letters(&self, subscription: &str) -> Vec<Received> {
        const MESSAGES_MAX: u32 = 250;
        let path = format!("orders/Subscriptions/{subscription}/$DeadLetterQueue");
        let management = self.bus().management(&path);
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let page = management.peek(from, MESSAGES_MAX).await.unwrap();
            let Some(last) = page.last() else { return found };
            from = last.sequence_number + 1;
            found.extend(page);
        }
    }

    /// A client of the bus, to look at what the apps left there.
    pub fn bus(&self) -> BusClient {
        let connection = BusConnection::from_connection_string(&self.endpoints.bus).unwrap();
        BusClient::new(connection, Default::default())
    }

    /// A client of the store, to look at what the apps left there.
    pub fn store(&self) -> Store {
        let Endpoints { cosmos, cosmos_key, .. } = &self.endpoints;
        let text = format!("AccountEndpoint={cosmos}/;AccountKey={cosmos_key};");
        let connection = CosmosConnection::from_connection_string(&text).unwrap();
        // Patient: the tests share two cores with everything that they start.
        let options = StoreOptions { deadline: Duration::from_secs(20), ..Default::default() };
        Store::new(connection, "bulkhead", options)
    }
}

impl Drop for TestStack {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Waits, so that a test binary leaves nothing behind.
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("logs are kept in {}", self.directory.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Sends a request and reads the answer to its end.
pub async fn send(
    base: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    try_send(base, method, path, headers, body).await.expect("an answer")
}

/// As [`send`], or `None` when nobody answers.
pub async fn try_send(
    base: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Answer> {
    let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    // A client per request: a shared stack outlives the runtime of each test that uses it.
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.ok()?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Answer { status: parts.status, headers: parts.headers, body })
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn unbase64(text: &str) -> String {
    use ::base64::Engine as _;
    let bytes = ::base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Waits until `check` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    check: impl FnMut() -> F,
) -> T {
    eventually_within(DONE_WITHIN, what, check).await
}

/// As [`eventually`], with a limit of its own.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Sends a signal to a process; whether there was one.
pub fn signal(pid: i32, signal: &str) -> bool {
    let status = std::process::Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success()
}

/// A valid order of one unit, with faults.
pub fn order_with(faults: Value) -> Value {
    let mut order = order();
    order["faults"] = faults;
    order
}

/// A valid order.
pub fn order() -> Value {
    json!({
        "customerId": "c-test",
        "currency": "EUR",
        "items": [{"sku": "vitamin-c", "quantity": 2}, {"sku": "magnesium", "quantity": 1}],
    })
}

/// One stack for all tests that only add orders. Tests that break things start their own.
pub async fn shared() -> Arc<TestStack> {
    use std::sync::Weak;
    use tokio::sync::Mutex;
    static SHARED: Mutex<Weak<TestStack>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(stack) = shared.upgrade() {
        return stack;
    }
    let stack = Arc::new(TestStack::start().await);
    *shared = Arc::downgrade(&stack);
    stack
}
