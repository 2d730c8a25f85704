//! The handler under test: a small scripted server. `FIXTURE_START` says how it starts; paths and
//! message bodies say what it does.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Arguments that start this handler instead of the tests.
pub(crate) const ARGUMENTS: [&str; 4] = ["--ignored", "--exact", "fixture::handler", "--nocapture"];

fn say(line: &str) {
    // Whole lines, so that concurrent ones do not mix.
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

/// Not a test: the handler process.
#[test]
#[ignore = "this is the handler the other tests start"]
fn handler() {
    #[expect(clippy::disallowed_methods, reason = "a handler gets its settings this way")]
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let start = var("FIXTURE_START");
    if let Some(code) = start.strip_prefix("exit:") {
        eprintln!("one\ntwo\nthree\nfour: cannot open the database");
        std::process::exit(code.parse().unwrap());
    }
    if start == "deaf" {
        loop {
            std::thread::park();
        }
    }
    if start == "garbage" {
        garbage(var("FUNCTIONS_CUSTOMHANDLER_PORT").parse().unwrap());
    }
    say(&format!(
        "ENV {}",
        json!({
            "port": var("FUNCTIONS_CUSTOMHANDLER_PORT"),
            "legacy": var("FUNCTIONS_HTTPWORKER_PORT"),
            "worker": var("FUNCTIONS_CUSTOMHANDLER_WORKER_ID"),
            "root": var("FUNCTIONS_APP_ROOT_PATH"),
            "setting": var("FROM_SETTINGS"),
            "local": var("FROM_FILE"),
            "runtime": var("FUNCTIONS_WORKER_RUNTIME"),
            "cwd": std::env::current_dir().unwrap(),
            "inherited": var("CARGO_MANIFEST_DIR"),
        })
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(var("FUNCTIONS_CUSTOMHANDLER_PORT").parse().unwrap()));
}

/// Answers every connection with what is no HTTP.
fn garbage(port: u16) -> ! {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"\x00\x01 this is no HTTP \xff\r\n\r\n");
    }
}

/// Prints mebibytes, half of them without any line end.
fn shout(mebibytes: usize) {
    let (lines, line) = (mebibytes * 8, vec![b'x'; 64 * 1024]);
    let mut out = std::io::stdout().lock();
    for _ in 0..lines {
        let _ = out.write_all(&line);
    }
    for _ in 0..lines {
        let _ = out.write_all(&line[..64 * 1024 - 1]);
        let _ = out.write_all(b"\n");
    }
    let _ = out.write_all(b"END OF SHOUT\n");
}

async fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (release, tasks) = (Arc::new(Semaphore::new(0)), TaskTracker::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let release = Arc::clone(&release);
        let service = service_fn(move |request| {
            let release = Arc::clone(&release);
            async move { Ok::<_, Infallible>(answer(request, &release).await) }
        });
        tasks.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, release: &Arc<Semaphore>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(code) = path.strip_prefix("/api/exit/") {
        eprintln!("asked to exit with {code}");
        std::process::exit(code.parse().unwrap());
    }
    if let Some(mebibytes) = path.strip_prefix("/api/shout/") {
        let mebibytes = mebibytes.parse().unwrap();
        tokio::task::spawn_blocking(move || shout(mebibytes)).await.unwrap();
        return text(StatusCode::OK, "enough");
    }
    match path.as_str() {
        "/" => text(StatusCode::NOT_FOUND, "no page"),
        "/api/echo" | "/api/Echo" => echo(request).await,
        "/api/pid" => text(StatusCode::OK, &std::process::id().to_string()),
        "/api/teapot" => text(StatusCode::IM_A_TEAPOT, "short and stout"),
        "/api/pipe" => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        "/api/events" => events(Arc::clone(release)),
        "/api/release" => {
            release.add_permits(1);
            text(StatusCode::OK, "released")
        }
        "/api/never" => {
            let _gone = SayOnDrop("CANCELLED");
            say("WAITING");
            std::future::pending().await
        }
        _ => invocation(&path, request).await,
    }
}

struct SayOnDrop(&'static str);

impl Drop for SayOnDrop {
    fn drop(&mut self) {
        say(self.0);
    }
}

fn events(release: Arc<Semaphore>) -> Response<Body> {
    let stream = futures::stream::unfold(0, move |number| {
        let release = Arc::clone(&release);
        async move {
            if number == 3 {
                return None;
            }
            if number > 0 {
                release.acquire().await.unwrap().forget();
            }
            let event = Bytes::from(format!("data: {number}\n\n"));
            Some((Ok::<_, Infallible>(Frame::data(event)), number + 1))
        }
    });
    let mut response = Response::new(StreamBody::new(stream).map_err(Into::into).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "length": body.len(),
        "body": String::from_utf8_lossy(&body[..body.len().min(200)]),
    });
    json_answer(&seen.to_string())
}

/// What a message asks for, as the `do` of its JSON text, or the `answer` it dictates.
async fn invocation(path: &str, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return text(StatusCode::BAD_REQUEST, "broken") };
    let envelope: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let header = |name: &str| {
        parts.headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned())
    };
    say(&format!(
        "INVOKED {}",
        json!({
            "path": path,
            "method": parts.method.as_str(),
            "envelope": envelope,
            "host": header("host"),
            "version": header("x-azure-functions-hostversion"),
            "id": header("x-azure-functions-invocationid"),
            "agent": header("user-agent"),
            "trace": header("traceparent"),
            "type": header("content-type"),
            "coding": header("transfer-encoding"),
            "length": header("content-length"),
        })
    ));
    let asked = match path {
        // A timer has no body to say what it wants.
        "/Slow" => json!({ "delayMs": 1_500 }),
        "/Flaky" => json!({ "failUntilRetry": 2 }),
        _ => wanted(&envelope),
    };
    let delay = asked["delayMs"].as_u64().unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(delay)).await;
    record(&envelope);
    if asked["answer"].is_object() {
        return json_answer(&asked["answer"].to_string());
    }
    let retries = &envelope["Metadata"]["RetryContext"]["RetryCount"];
    if asked["failUntilRetry"].as_u64() > retries.as_u64() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "not yet");
    }
    match asked["do"].as_str().unwrap_or("ok") {
        "fail" => text(StatusCode::INTERNAL_SERVER_ERROR, "no"),
        "plain" => text(StatusCode::OK, "{}"),
        "empty" => {
            let mut response = json_answer("");
            *response.body_mut() = Empty::new().map_err(Into::into).boxed_unsync();
            response
        }
        "never" => {
            let _gone = SayOnDrop("CANCELLED");
            std::future::pending().await
        }
        "exit" => std::process::exit(7),
        "http" => json_answer(
            r#"{"Outputs":{"res":{"statusCode":201,"body":{"ok":true},
                "headers":{"x-made-by":"fixture"}}},"Logs":["a line"]}"#,
        ),
        _ => json_answer("{}"),
    }
}

/// Writes down what is done by now, where a test counts what several handlers have done.
fn record(envelope: &Value) {
    #[expect(clippy::disallowed_methods, reason = "a handler gets its settings this way")]
    let Ok(ledger) = std::env::var("FIXTURE_LEDGER") else { return };
    // One write at the end of the file: lines of several handlers do not mix.
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(ledger).unwrap();
    file.write_all(format!("{envelope}\n").as_bytes()).unwrap();
}

fn wanted(envelope: &Value) -> Value {
    let data = envelope["Data"].as_object().and_then(|data| data.values().next());
    let text = match data {
        Some(Value::String(encoded)) => serde_json::from_str(encoded).unwrap_or_default(),
        Some(request) => request["Body"].as_str().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    match serde_json::from_str(&text).unwrap_or_default() {
        // A page of changes: the first one that wants something.
        Value::Array(items) => items.into_iter().find(asks).unwrap_or_default(),
        item => item,
    }
}

fn asks(item: &Value) -> bool {
    ["answer", "do", "delayMs", "failUntilRetry"].iter().any(|name| item.get(name).is_some())
}

fn json_answer(body: &str) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(code: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(Into::into).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
