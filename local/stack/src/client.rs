//! A client of a running system's HTTP API, for the commands of `stack`: JSON in, JSON out, and every
//! refusal as a [`Fault`] in three lines.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::fault::Fault;
use crate::table::text;

/// How long an answer may take: a replay of the largest selection takes a few seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A running system.
pub(crate) struct Api {
    /// Its address.
    pub(crate) url: String,
}

impl Api {
    /// Reads; the JSON of the answer.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, Option<String>)],
    ) -> Result<Value, Fault> {
        let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let pairs: Vec<String> =
            given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        self.send(Method::GET, &format!("{path}{query}"), &[], Bytes::new()).await
    }

    /// Posts a JSON body; the JSON of the answer.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Fault> {
        self.send(Method::POST, path, headers, Bytes::from(body.to_string())).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Value, Fault> {
        let base = self.url.trim_end_matches('/');
        let away = |why: String| {
            let fix = "start it with `cargo stack up`, or say where it is with --url";
            Fault::new(format!("Nobody answers at {base}."), why, fix)
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header("content-type", "application/json");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(body)).map_err(|error| away(error.to_string()))?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let exchange = async {
            let response = client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| away("it took too long".to_owned()))?
            .map_err(away)?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }
}

/// A problem in three lines.
pub(crate) fn refused(status: StatusCode, problem: &Value) -> Fault {
    let title = problem["title"].as_str().unwrap_or("The system refused.");
    let mut why = vec![format!("{status} {}", text(&problem["type"]))];
    why.extend(problem["detail"].as_str().map(str::to_owned));
    for error in problem["errors"].as_array().into_iter().flatten() {
        why.push(format!("{} {}", text(&error["pointer"]), text(&error["detail"])));
    }
    let trace = text(&problem["traceId"]);
    Fault::new(title, why.join("\n"), format!("see docs/operations.md; the log has trace {trace}"))
}

/// Percent-encoded for a path segment or a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
