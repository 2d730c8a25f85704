//! The host's own endpoints below `/admin`, and the page at `/`.
//!
//! Source: `HostController`, `FunctionsController` of the Azure Functions host.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::admin_keys;
use super::client::{Body, full};
use super::keys::{Keys, Scope};
use super::limits::ADMIN_BODY_MAX_BYTES;
use super::proxy::status;
use crate::bindings::{Function, Trigger};
use crate::faults::{FaultPlan, Faults};
use crate::functions::FunctionInfo;
use crate::invocation::Invoker;
use crate::process::HandlerStatus;
use crate::triggers::{self, Drain, Listeners};

/// State of the admin endpoints.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) infos: Arc<[FunctionInfo]>,
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) invoker: Arc<Invoker>,
    /// For the triggers of functions that are run here.
    pub(crate) shared: triggers::Shared,
    /// Invocations started here run on after the answer.
    pub(crate) background: TaskTracker,
    pub(crate) started: Instant,
    pub(crate) instance: Uuid,
    pub(crate) has_extensions: bool,
    pub(crate) listeners: Arc<Listeners>,
    /// `None` lets everybody in.
    pub(crate) keys: Option<Arc<Keys>>,
    /// `None` unless faults may be asked for over HTTP.
    pub(crate) faults: Option<Faults>,
    /// Whether there is a page at `/`.
    pub(crate) has_home_page: bool,
}

/// Path of the faults below `/admin`; the Azure host has nothing there.
const FAULTS: [&str; 2] = ["local", "faults"];

impl Admin {
    pub(crate) fn home_page(&self) -> Response<Body> {
        if !self.has_home_page {
            return status(StatusCode::NO_CONTENT);
        }
        let mut response = Response::new(full(
            "<!doctype html><title>Functions host</title><p>Your Functions host is up and \
             running.</p>",
        ));
        let html = header::HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
        response
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).skip(1).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET | &Method::POST, ["host", "ping"]) => status(StatusCode::OK),
            (&Method::GET, ["host", "status"]) => json_response(StatusCode::OK, &self.status()),
            (&Method::GET, ["host", "processes"]) => {
                let pid = self.invoker.handler.pid();
                let list: Vec<Value> = pid.iter().map(|pid| json!({ "processId": pid })).collect();
                json_response(StatusCode::OK, &json!({ "processes": list }))
            }
            (&Method::GET, ["functions"]) => {
                let list: Vec<Value> =
                    self.infos.iter().map(|info| info.admin(self.address)).collect();
                json_response(StatusCode::OK, &Value::Array(list))
            }
            (&Method::GET, ["functions", name]) => match self.info(name) {
                Some(info) => json_response(StatusCode::OK, &info.admin(self.address)),
                None => self.unknown(name),
            },
            (&Method::GET, ["functions", name, "status"]) => match self.info(name) {
                Some(info) => {
                    let errors: Vec<String> =
                        info.problems.iter().map(ToString::to_string).collect();
                    json_response(StatusCode::OK, &json!({ "errors": errors }))
                }
                None => self.unknown(name),
            },
            (&Method::POST, ["functions", name]) => {
                let name = (*name).to_owned();
                self.run(&name, request).await
            }
            (method, ["host", "keys" | "functionkeys", name @ ..]) if name.len() < 2 => {
                let (method, name) = (method.clone(), name.first().map(|name| (*name).to_owned()));
                self.keys(&Scope::Host, &method, name.as_deref(), request).await
            }
            (method, ["functions", function, "keys", name @ ..]) if name.len() < 2 => {
                let (method, name) = (method.clone(), name.first().map(|name| (*name).to_owned()));
                self.keys(&Scope::function(function), &method, name.as_deref(), request).await
            }
            (&Method::POST, ["host", "drain"]) => {
                self.listeners.drain();
                status(StatusCode::ACCEPTED)
            }
            (&Method::GET, ["host", "drain", "status"]) => {
                let state = match self.listeners.state() {
                    Drain::Disabled => "Disabled",
                    Drain::InProgress => "InProgress",
                    Drain::Completed => "Completed",
                };
                json_response(StatusCode::OK, &json!({ "state": state }))
            }
            (&Method::POST, ["host", "resume"]) => {
                self.listeners.resume();
                json_response(StatusCode::OK, &json!({ "state": self.state() }))
            }
            (&Method::POST, ["host", "restart"]) => {
                if let Some(pid) = self.invoker.handler.pid() {
                    self.invoker.handler.restart(pid);
                }
                status(StatusCode::OK)
            }
            // The scale controller that would be told is not here.
            (&Method::POST, ["host", "synctriggers"]) => status(StatusCode::NO_CONTENT),
            (method, path) if *path == FAULTS => {
                let method = method.clone();
                self.faults(&method, request).await
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    /// Runs a function with a text as its trigger item. 202 at once; the log says how it went.
    async fn run(&self, name: &str, request: Request<Incoming>) -> Response<Body> {
        let known = self.functions.iter().find(|f| f.name.eq_ignore_ascii_case(name));
        let Some(function) = known else { return self.unknown(name) };
        let bad = |why: &str| json_response(StatusCode::BAD_REQUEST, &json!({ "error": why }));
        if matches!(function.trigger, Trigger::Http(_)) {
            return bad("an HTTP function is run by calling its URL");
        }
        let Some(body) = read(request).await else {
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let input = match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Object(object)) => match object.get("input") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(_) => return bad("'input' has to be a string"),
            },
            _ => return bad("the body has to be { \"input\": \"…\" }"),
        };
        let (function, shared) = (Arc::clone(function), self.shared.clone());
        self.background.spawn(async move {
            triggers::run_once(&shared, &function, input).await;
        });
        status(StatusCode::ACCEPTED)
    }

    async fn keys(
        &self,
        scope: &Scope,
        method: &Method,
        name: Option<&str>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let Some(keys) = &self.keys else { return status(StatusCode::NOT_FOUND) };
        match read(request).await {
            Some(body) => admin_keys::answer(keys, scope, method, name, &body),
            None => status(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }

    async fn faults(&self, method: &Method, request: Request<Incoming>) -> Response<Body> {
        let Some(faults) = &self.faults else { return status(StatusCode::NOT_FOUND) };
        let plan = match *method {
            Method::GET => return json_response(StatusCode::OK, &json!(faults.plan())),
            Method::DELETE => Ok(FaultPlan::default()),
            Method::PUT => match read(request).await {
                Some(body) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
                None => return status(StatusCode::PAYLOAD_TOO_LARGE),
            },
            _ => return status(StatusCode::METHOD_NOT_ALLOWED),
        };
        match plan.and_then(|plan| faults.set(plan)) {
            Ok(()) => status(StatusCode::NO_CONTENT),
            Err(why) => json_response(StatusCode::BAD_REQUEST, &json!({ "error": why })),
        }
    }

    fn state(&self) -> &'static str {
        match *self.invoker.handler.status().borrow() {
            HandlerStatus::Ready { .. } => "Running",
            HandlerStatus::Starting => "Initialized",
            HandlerStatus::Exited => "Error",
            HandlerStatus::Stopped => "Stopped",
        }
    }

    fn status(&self) -> Value {
        let errors: Vec<String> =
            self.infos.iter().flat_map(|i| i.problems.iter().map(ToString::to_string)).collect();
        let mut status = json!({
            "id": self.instance.simple().to_string(),
            "state": self.state(),
            "version": crate::HOST_VERSION,
            "versionDetails": crate::HOST_VERSION,
            "platformVersion": "",
            "instanceId": self.instance.to_string(),
            "computerName": "localhost",
            "processUptime": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "functionAppContentEditingState": "Unknown",
        });
        if self.has_extensions {
            status["extensionBundle"] =
                json!({ "id": "Microsoft.Azure.Functions.ExtensionBundle" });
        }
        if !errors.is_empty() {
            status["errors"] = json!(errors);
        }
        status
    }

    fn info(&self, name: &str) -> Option<&FunctionInfo> {
        self.infos.iter().find(|info| info.name.eq_ignore_ascii_case(name))
    }

    fn unknown(&self, name: &str) -> Response<Body> {
        let names: Vec<&str> = self.infos.iter().map(|info| info.name.as_str()).collect();
        json_response(
            StatusCode::NOT_FOUND,
            &json!({ "error": format!("no function '{name}'; there are: {}", names.join(", ")) }),
        )
    }
}

/// A whole body; `None` if it is too large or breaks off.
async fn read(request: Request<Incoming>) -> Option<Bytes> {
    let body = Limited::new(request.into_body(), ADMIN_BODY_MAX_BYTES).collect().await;
    body.ok().map(http_body_util::Collected::to_bytes)
}

pub(super) fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = code;
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
