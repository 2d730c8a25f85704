//! A client of a running system's HTTP API, on this machine or in Azure, for the commands of `stack`:
//! JSON in, JSON out, and every refusal as a [`Fault`] in three lines.

use std::time::Duration;

use clap::Args;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Url};
use serde_json::Value;

use crate::fault::Fault;
use crate::table::text;

/// How long an answer may take: a replay of the largest selection takes a few seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// What every command says of the running system that it asks.
#[derive(Debug, Args)]
pub(crate) struct System {
    /// The system's address.
    #[arg(long, global = true, default_value = "http://localhost:7071")]
    url: String,
    /// A header for every request, e.g. 'authorization: Bearer …'; may be repeated.
    #[arg(long, global = true, value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Prints JSON, as the API answers, instead of a table; of lines, one object each.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl System {
    /// The way to it.
    pub(crate) fn api(&self) -> Api {
        Api { url: self.url.clone(), headers: self.header.clone() }
    }
}

/// A running system.
pub(crate) struct Api {
    /// Its address.
    pub(crate) url: String,
    /// Sent with every request: credentials, where they are asked for.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads `NAME: VALUE`; the value is taken for a secret.
pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wanted = || "wanted: NAME: VALUE".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wanted)?;
    let name = name.trim().parse().map_err(|_| wanted())?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| wanted())?;
    value.set_sensitive(true);
    Ok((name, value))
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
        self.send(Method::GET, &format!("{path}{query}"), &[], String::new()).await
    }

    /// Posts a JSON body; the JSON of the answer.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Fault> {
        self.send(Method::POST, path, headers, body.to_string()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Value, Fault> {
        let base = self.url.trim_end_matches('/');
        let away = |why: String| {
            let fix = "start it with `cargo stack up`, or say where it is with --url";
            Fault::new(format!("Nobody answers at {base}."), why, fix)
        };
        let url = Url::parse(&format!("{base}{path}"))
            .map_err(|error| away(format!("that is no address: {error}")))?;
        let client = Client::builder().timeout(ANSWER_WITHIN);
        // No proxy stands between this machine and itself.
        let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let client = if here { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| away(reason(&error)))?;
        let request = client.request(method, url).header("content-type", "application/json");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let given = self.headers.iter();
        let request = given.fold(request, |request, (name, value)| request.header(name, value));
        let response = request.body(body).send().await.map_err(|error| away(reason(&error)))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| away(reason(&error)))?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() {
            return Err(refused(status, &answer));
        }
        if answer.is_null() {
            let why = format!("{status} with a body that is no JSON");
            let fix = "say with --url where the API is; a page for people has been answered";
            return Err(Fault::new(format!("{base} is no system of ours."), why, fix));
        }
        Ok(answer)
    }
}

/// What went wrong on the way, down to its cause, without the address.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A problem in three lines.
pub(crate) fn refused(status: StatusCode, problem: &Value) -> Fault {
    let title = problem["title"].as_str().unwrap_or("The system refused.");
    let kind = problem["type"].as_str().map_or(String::new(), |kind| format!(" {kind}"));
    let mut why = vec![format!("{status}{kind}")];
    why.extend(problem["detail"].as_str().map(str::to_owned));
    for error in problem["errors"].as_array().into_iter().flatten() {
        why.push(format!("{} {}", text(&error["pointer"]), text(&error["detail"])));
    }
    let fix = match (status.as_u16(), problem["traceId"].as_str()) {
        (401, _) => "say who you are: --header 'authorization: Bearer …'".to_owned(),
        (_, Some(trace)) => format!("see docs/operations.md; the log has trace {trace}"),
        (_, None) => "see docs/operations.md".to_owned(),
    };
    Fault::new(title, why.join("\n"), fix)
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
