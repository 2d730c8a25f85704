//! Forwarding: the buffered predecessor of proxying, with its losses.
//!
//! Source: `HttpRequestExtensions.ToHttpRequestMessage` of the Azure Functions host. Repeated
//! query keys collapse into one, content headers other than type and length are lost, and a body
//! without a Content-Length does not arrive.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::client::{Body, HandlerClient, USER_AGENT, empty, full, remove_hop_by_hop, stamp};
use super::limits::BODY_MAX_BYTES;
use super::proxy::status;
use crate::error::chain;
use crate::faults::Fault;
use crate::invocation::Invoker;
use crate::invocation::invoker::DROPPED;
use crate::invocation::record::Record;
use crate::log::Level;

/// Content headers of .NET that are not copied.
const LOST: [&str; 9] = [
    "allow",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-md5",
    "content-range",
    "expires",
    "last-modified",
];

/// Sends `request` on to the handler, at `path` if that is another one, and buffers its answer.
pub(crate) async fn forward(
    invoker: &Invoker,
    record: Record,
    request: Request<Incoming>,
    path: Option<&str>,
    body_max_bytes: u64,
) -> Response<Body> {
    let pid = invoker.handler.pid();
    warn_of_losses(invoker, &record, &request);
    let exchange = exchange(&invoker.client, &record, request, path, body_max_bytes);
    let outcome = match invoker.function_timeout {
        None => exchange.await,
        Some(limit) => timeout(limit, exchange).await.unwrap_or_else(|_| {
            let error = invoker.time_out(&record, limit, pid);
            Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }),
    };
    let outcome = match (outcome, invoker.faults.take(record.function(), Fault::is_of_the_answer)) {
        (Ok(_), Some(Fault::Timeout)) => {
            let limit = invoker.function_timeout.unwrap_or_default();
            let error = invoker.time_out(&record, limit, pid);
            Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }
        (Ok(_), Some(_)) => Err((StatusCode::INTERNAL_SERVER_ERROR, DROPPED.to_owned())),
        (outcome, _) => outcome,
    };
    match outcome {
        Ok(response) => {
            record.succeeded();
            response
        }
        Err((code, why)) => {
            record.failed(&why);
            status(code)
        }
    }
}

async fn exchange(
    client: &HandlerClient,
    record: &Record,
    request: Request<Incoming>,
    path: Option<&str>,
    body_max_bytes: u64,
) -> Result<Response<Body>, (StatusCode, String)> {
    let failed = |why: String| (StatusCode::INTERNAL_SERVER_ERROR, why);
    let (parts, body) = request.into_parts();
    let announced = parts.headers.contains_key(header::CONTENT_LENGTH);
    if !announced && parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(failed(
            "a chunked body cannot be forwarded: 'Transfer-Encoding' is copied without content, \
             which the host's client refuses. Use enableProxyingHttpRequest"
                .to_owned(),
        ));
    }
    let limit = usize::try_from(body_max_bytes).unwrap_or(usize::MAX);
    let body = match announced {
        false => empty(),
        true => full(
            Limited::new(body, limit)
                .collect()
                .await
                .map_err(|error| (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?
                .to_bytes(),
        ),
    };
    let query = collapse(parts.uri.query().unwrap_or_default());
    let separator = if query.is_empty() { "" } else { "?" };
    let mut outgoing = Request::builder()
        .method(parts.method)
        .uri(client.uri(&format!("{}{separator}{query}", path.unwrap_or(parts.uri.path()))))
        .body(body)
        .map_err(|error| failed(error.to_string()))?;
    let mut headers = parts.headers;
    remove_hop_by_hop(&mut headers);
    for name in LOST {
        headers.remove(name);
    }
    stamp(&mut headers, record.id());
    append_user_agent(&mut headers);
    *outgoing.headers_mut() = headers;
    let answer = client.send(outgoing).await.map_err(|error| failed(chain(&error)))?;
    let (mut parts, body) = answer.into_parts();
    let answer_limit = usize::try_from(BODY_MAX_BYTES).unwrap_or(usize::MAX);
    let body: Bytes = Limited::new(body, answer_limit)
        .collect()
        .await
        .map_err(|error| failed(format!("the answer broke off: {error}")))?
        .to_bytes();
    remove_hop_by_hop(&mut parts.headers);
    Ok(Response::from_parts(parts, full(body)))
}

/// Says what of a request does not arrive.
fn warn_of_losses(invoker: &Invoker, record: &Record, request: &Request<Incoming>) {
    let mut lost: Vec<String> = LOST
        .iter()
        .filter(|name| request.headers().contains_key(**name))
        .map(|name| format!("the header {name}"))
        .collect();
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').filter(|pair| !pair.is_empty()).count() > collapse(query).split('&').count()
    {
        lost.push("all but one of the query parameters of one name".to_owned());
    }
    if lost.is_empty() {
        return;
    }
    let name = record.function();
    let cause = format!("A call of function '{name}' was forwarded with losses");
    invoker.log.sharp_edge(Level::Warning, &cause, || {
        format!(
            "A call of function '{name}' is forwarded without {}, as in Azure. Fix: set \
             customHandler.enableProxyingHttpRequest in host.json, which hands on everything.",
            lost.join(", ")
        )
    });
}

fn append_user_agent(headers: &mut http::HeaderMap) {
    const NAME: HeaderName = header::USER_AGENT;
    let agent = match headers.get(NAME).and_then(|value| value.to_str().ok()) {
        Some(original) => format!("{original} {USER_AGENT}"),
        None => USER_AGENT.to_owned(),
    };
    if let Ok(agent) = HeaderValue::from_str(&agent) {
        headers.insert(NAME, agent);
    }
}

/// Repeated keys become one, their values joined by commas, at the place of the first.
fn collapse(query: &str) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match pairs.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
            Some((_, joined)) => {
                joined.push_str("%2C");
                joined.push_str(value);
            }
            None => pairs.push((key, value.to_owned())),
        }
    }
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::collapse;

    #[test]
    fn repeated_query_keys_collapse() {
        assert_eq!(collapse("a=1&b=2&A=3&c"), "a=1%2C3&b=2&c=");
        assert_eq!(collapse(""), "");
    }
}
