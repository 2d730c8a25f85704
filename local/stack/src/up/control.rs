//! What only the stack knows, over HTTP on this machine alone: which processes run and how often
//! they were started again, what they printed, and switches to stop them for a while or for good.
//! The order API passes the portal's requests on (`/api/ops/local/…`), so that its rules of access
//! hold here too.
//!
//! | route | |
//! | --- | --- |
//! | `GET /processes` | every process with its state, restarts and handler |
//! | `POST /processes/{name}/kill` | `SIGKILL`; `{"what": "handler"}` for the handler of a host |
//! | `POST /processes/{name}/pause` | `SIGSTOP` for `{"seconds": 1 to 120}` |
//! | `POST /processes/{name}/resume` | `SIGCONT` |
//! | `GET /logs` | records, filtered by `after`, `app`, `level`, `order`, `text` |
//! | `/bank/v1/summary`, `/bank/v1/script` | the bank's books, and how it misbehaves |
//! | `GET`, `POST /cosmos/faults` | how the store misbehaves: the rules of its `/admin/faults` |
//! | `GET /portal` | a version of the portal's files, for a page that wants to follow them |

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::journal::{Filter, Journal};

/// Longest pause of a process: after it, it goes on by itself, whoever forgot it.
const PAUSE_SECONDS_MAX: u64 = 120;

/// Time for an answer to travel before the process that passes it on is killed.
const ANSWER_FIRST: Duration = Duration::from_millis(100);

/// How long a host may take to say which handler it runs, and the bank or the store to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is known of one process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    /// `cosmos`, `bus`, …, or the name of an app.
    pub(crate) name: String,
    /// `service` or `host`.
    pub(crate) kind: &'static str,
    pub(crate) pid: u32,
    pub(crate) address: String,
    /// `running`, `paused`, `restarting`.
    pub(crate) state: &'static str,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// The last lines of the process before this one.
    pub(crate) last_words: String,
    /// The handler of a host, while it runs one.
    handler_pid: Option<u32>,
    /// How often another handler was seen.
    handler_restarts: u32,
}

impl Known {
    pub(crate) fn new(name: &str, kind: &'static str, pid: u32, address: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            pid,
            address: address.to_owned(),
            state: "running",
            restarts: 0,
            started_at: super::now(),
            last_words: String::new(),
            handler_pid: None,
            handler_restarts: 0,
        }
    }
}

/// What the routes share with the stack.
pub(super) struct Control {
    processes: Mutex<BTreeMap<String, Known>>,
    pub(super) journal: Journal,
    http: reqwest::Client,
    bank: Mutex<String>,
    cosmos: Mutex<String>,
    portal: PathBuf,
    watch: bool,
    tasks: TaskTracker,
}

impl Control {
    pub(super) fn new(portal: PathBuf, watch: bool) -> Arc<Self> {
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build();
        Arc::new(Self {
            processes: Mutex::default(),
            journal: Journal::default(),
            http: http.unwrap_or_default(),
            bank: Mutex::default(),
            cosmos: Mutex::default(),
            portal,
            watch,
            tasks: TaskTracker::new(),
        })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process was started, for the first time or again.
    pub(super) fn started(&self, known: Known) {
        let mut processes = self.known();
        let again = processes.remove(&known.name);
        let known = match again {
            None => known,
            Some(before) => Known {
                restarts: before.restarts + 1,
                last_words: before.last_words,
                handler_restarts: before.handler_restarts,
                handler_pid: before.handler_pid,
                ..known
            },
        };
        processes.insert(known.name.clone(), known);
    }

    /// A process is gone, and will be started again.
    pub(super) fn exited(&self, name: &str, last_words: String) {
        if let Some(process) = self.known().get_mut(name) {
            process.state = "restarting";
            process.last_words = last_words;
        }
    }

    pub(super) fn bank_is_at(&self, address: &str) {
        address.clone_into(&mut self.bank.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn cosmos_is_at(&self, address: &str) {
        address.clone_into(&mut self.cosmos.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Passes a request on to a service; what it is called in an answer without one.
    async fn pass_on(
        &self,
        (name, url): (&str, String),
        method: Method,
        body: axum::body::Bytes,
    ) -> Response {
        // The portal can only post.
        let method = if method == Method::POST { Method::PUT } else { method };
        let request = self.http.request(method, url);
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let Ok(answer) = request.send().await else {
            return problem(StatusCode::BAD_GATEWAY, &format!("The {name} does not answer."));
        };
        let (status, json) = (answer.status(), [(header::CONTENT_TYPE, "application/json")]);
        match answer.bytes().await {
            Ok(bytes) => (status, json, bytes).into_response(),
            Err(_) => problem(StatusCode::BAD_GATEWAY, &format!("The {name}'s answer broke off.")),
        }
    }

    /// Serves until the stack ends; where.
    pub(super) async fn serve(self: &Arc<Self>) -> std::io::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = router(Arc::clone(self));
        self.tasks.spawn(async move {
            // It ends with the process: nothing of it has to be finished.
            let _ = axum::serve(listener, router).await;
        });
        Ok(address)
    }

    /// Asks every host which handler it runs, and counts those that are new.
    async fn look_at_handlers(&self) {
        let hosts: Vec<(String, String)> = {
            let known = self.known();
            let hosts = known.values().filter(|known| known.kind == "host");
            let running = hosts.filter(|known| known.state == "running");
            running.map(|known| (known.name.clone(), known.address.clone())).collect()
        };
        let mut looks = tokio::task::JoinSet::new();
        for (name, address) in hosts {
            let http = self.http.clone();
            looks.spawn(async move {
                let url = format!("http://{address}/admin/host/processes");
                let answer: Value = http.get(url).send().await.ok()?.json().await.ok()?;
                let pid = answer["processes"][0]["processId"].as_u64()?;
                Some((name, u32::try_from(pid).ok()?))
            });
        }
        let found: BTreeMap<String, u32> = looks.join_all().await.into_iter().flatten().collect();
        for process in self.known().values_mut().filter(|process| process.kind == "host") {
            let now = found.get(&process.name).copied();
            match (process.handler_pid, now) {
                (Some(before), Some(now)) if before != now => process.handler_restarts += 1,
                _ => {}
            }
            // While none runs, the last one is remembered, to tell the next one from it.
            process.handler_pid = now.or(process.handler_pid);
        }
    }
}

fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/processes", get(processes))
        .route("/processes/{name}/kill", post(kill))
        .route("/processes/{name}/pause", post(pause))
        .route("/processes/{name}/resume", post(resume))
        .route("/logs", get(logs))
        .route("/bank/{*path}", any(bank))
        .route("/cosmos/faults", get(store_faults).post(store_faults))
        .route("/portal", get(portal))
        .with_state(control)
}

type Shared = State<Arc<Control>>;

async fn processes(State(control): Shared) -> Json<Value> {
    control.look_at_handlers().await;
    let processes: Vec<Known> = control.known().values().cloned().collect();
    Json(json!({ "processes": processes }))
}

async fn logs(State(control): Shared, Query(filter): Query<Filter>) -> Json<Value> {
    let (records, newest) = control.journal.find(&filter);
    Json(json!({ "records": records, "newest": newest }))
}

#[derive(Debug, Default, Deserialize)]
struct Wish {
    #[serde(default)]
    what: String,
    seconds: Option<u64>,
}

async fn kill(
    State(control): Shared,
    Path(name): Path<String>,
    Json(wish): Json<Wish>,
) -> Response {
    control.look_at_handlers().await;
    let Some(known) = control.known().get(&name).cloned() else { return unknown(&name) };
    let pid = match wish.what.as_str() {
        "handler" => known.handler_pid,
        _ => Some(known.pid),
    };
    let Some(pid) = pid else {
        return problem(StatusCode::CONFLICT, "It runs no handler right now.");
    };
    // The answer first: it may travel through the very process.
    let tasks = control.tasks.clone();
    tasks.spawn(async move {
        tokio::time::sleep(ANSWER_FIRST).await;
        // A process that is gone by then needs no signal.
        let _ = signal("KILL", &[pid]).await;
    });
    told(Ok(()), &json!({"name": name, "pid": pid, "signal": "KILL"}))
}

async fn pause(
    State(control): Shared,
    Path(name): Path<String>,
    Json(wish): Json<Wish>,
) -> Response {
    let seconds = wish.seconds.unwrap_or(PAUSE_SECONDS_MAX).clamp(1, PAUSE_SECONDS_MAX);
    let Some(pids) = mark(&control, &name, "paused") else { return unknown(&name) };
    let outcome = signal("STOP", &pids).await;
    let again = Arc::clone(&control);
    let waits_for = name.clone();
    control.tasks.spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        if let Some(pids) = mark(&again, &waits_for, "running") {
            // A process that is gone by then needs no signal.
            let _ = signal("CONT", &pids).await;
        }
    });
    told(outcome, &json!({"name": name, "seconds": seconds, "signal": "STOP"}))
}

async fn resume(State(control): Shared, Path(name): Path<String>) -> Response {
    let Some(pids) = mark(&control, &name, "running") else { return unknown(&name) };
    told(signal("CONT", &pids).await, &json!({"name": name, "signal": "CONT"}))
}

/// Notes the state of a process that is not being started again; its process ids.
fn mark(control: &Control, name: &str, state: &'static str) -> Option<Vec<u32>> {
    let mut processes = control.known();
    let process = processes.get_mut(name)?;
    if process.state != "restarting" {
        process.state = state;
    }
    Some(vec![process.pid])
}

/// Sends a signal. The shell's own `kill` is there wherever a shell is.
async fn signal(name: &str, pids: &[u32]) -> std::io::Result<()> {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let line = format!("kill -s {name} {}", pids.join(" "));
    let output = tokio::process::Command::new("/bin/sh").args(["-c", &line]).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn told(outcome: std::io::Result<()>, done: &Value) -> Response {
    match outcome {
        Ok(()) => Json(done).into_response(),
        Err(error) => problem(StatusCode::CONFLICT, &format!("It cannot be reached: {error}.")),
    }
}

fn unknown(name: &str) -> Response {
    problem(StatusCode::NOT_FOUND, &format!("There is no process `{name}`."))
}

fn problem(status: StatusCode, title: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16()});
    let headers = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, headers, body.to_string()).into_response()
}

async fn bank(
    State(control): Shared,
    method: Method,
    Path(path): Path<String>,
    body: axum::body::Bytes,
) -> Response {
    if !["v1/summary", "v1/script"].contains(&path.as_str()) {
        return problem(StatusCode::NOT_FOUND, "Of the bank there are v1/summary and v1/script.");
    }
    let base = control.bank.lock().unwrap_or_else(PoisonError::into_inner).clone();
    control.pass_on(("bank", format!("{base}/{path}")), method, body).await
}

async fn store_faults(State(control): Shared, method: Method, body: axum::body::Bytes) -> Response {
    let base = control.cosmos.lock().unwrap_or_else(PoisonError::into_inner).clone();
    control.pass_on(("store", format!("{base}/admin/faults")), method, body).await
}

async fn portal(State(control): Shared) -> Json<Value> {
    Json(json!({ "watch": control.watch, "version": version(&control.portal) }))
}

/// Changes whenever a file in the folder does.
fn version(folder: &FilePath) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let times = files.filter_map(|file| file.metadata().ok()?.modified().ok());
    let newest = times.filter_map(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).max();
    newest.unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_comes_back_is_counted_and_one_that_is_unknown_is_said_so() {
        let control = Control::new(PathBuf::new(), false);
        control.started(Known::new("bus", "service", 1, "here"));
        control.exited("bus", "last words".to_owned());
        assert_eq!(control.known()["bus"].state, "restarting");
        control.started(Known::new("bus", "service", 2, "here"));
        let known = control.known()["bus"].clone();
        assert_eq!((known.pid, known.restarts, known.state), (2, 1, "running"));
        assert_eq!(known.last_words, "last words");
        let refused = kill(State(control), Path("cat".to_owned()), Json(Wish::default())).await;
        assert_eq!(refused.status(), 404);
    }

    #[tokio::test]
    async fn a_signal_reaches_a_process() {
        let mut sleeper = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        signal("KILL", &[sleeper.id().unwrap()]).await.unwrap();
        assert!(!sleeper.wait().await.unwrap().success());
    }
}
