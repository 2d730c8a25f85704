//! What the broker answers over HTTP: the administration API, and the door to AMQP over
//! WebSockets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::door::Stream;
use super::hub::Hub;
use super::{admin, connection, websocket};
use crate::broker::ConnectionId;
use crate::limits::{ADMIN_BODY_BYTES_MAX, HANDSHAKE_MS_MAX, READ_BUFFER_BYTES};

/// Where clients ask for a WebSocket; the SDKs differ in the slash at the end.
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";

/// Serves the requests of one connection.
pub(super) async fn serve(
    stream: impl Stream,
    tls: bool,
    hub: Arc<Hub>,
    id: ConnectionId,
    shutdown: CancellationToken,
) {
    let stop = shutdown.clone();
    let tasks = tokio_util::task::TaskTracker::new();
    let sockets = tasks.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (hub, shutdown, sockets) = (Arc::clone(&hub), shutdown.clone(), sockets.clone());
        async move {
            let path = request.uri().path().trim_end_matches('/');
            if path.eq_ignore_ascii_case(WEBSOCKET_PATH) {
                return Ok::<_, Infallible>(upgrade(request, hub, id, shutdown, &sockets));
            }
            Ok(answer(request, tls, &hub).await)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HANDSHAKE_MS_MAX.unsigned_abs()))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection failed");
            }
        }
        () = stop.cancelled() => {}
    }
    tasks.close();
    tasks.wait().await;
}

/// Answers one request of an administration client.
async fn answer(request: Request<Incoming>, tls: bool, hub: &Hub) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let limit = Duration::from_millis(HANDSHAKE_MS_MAX.unsigned_abs());
    let body = Limited::new(body, ADMIN_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(limit, body).await {
        Ok(Ok(body)) => {
            let (response, position) = admin::answer(hub, &head, &body.to_bytes(), tls);
            let mut durable = hub.durable();
            let done = durable
                .wait_for(|durable| durable.failed.is_some() || durable.position >= position);
            match done.await.map(|durable| durable.failed.is_none()) {
                Ok(true) => response,
                _ => admin::problem(StatusCode::SERVICE_UNAVAILABLE, "The disk takes nothing."),
            }
        }
        Ok(Err(_)) => admin::problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
        Err(_) => admin::problem(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."),
    }
}

/// Agrees to a WebSocket and serves AMQP on it.
fn upgrade(
    mut request: Request<Incoming>,
    hub: Arc<Hub>,
    id: ConnectionId,
    shutdown: CancellationToken,
    sockets: &tokio_util::task::TaskTracker,
) -> Response<Full<Bytes>> {
    let text =
        |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_upgrade = text(header::UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    let speaks = text(header::SEC_WEBSOCKET_PROTOCOL)
        .is_some_and(|all| all.split(',').any(|one| one.trim() == websocket::SUBPROTOCOL));
    let (Some(key), true, &Method::GET) =
        (text(header::SEC_WEBSOCKET_KEY), is_upgrade && speaks, request.method())
    else {
        let text = "Only WebSockets with the subprotocol AMQPWSB10 are served here.";
        return admin::problem(StatusCode::BAD_REQUEST, text);
    };
    let Ok(accept) = HeaderValue::from_str(&websocket::accept_key(key)) else {
        return admin::problem(StatusCode::BAD_REQUEST, "The key of the handshake is malformed.");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    sockets.spawn(async move {
        let socket = match upgraded.await {
            Ok(socket) => TokioIo::new(socket),
            Err(error) => return tracing::debug!(%error, "a WebSocket was not taken over"),
        };
        let (plain, broker) = tokio::io::duplex(READ_BUFFER_BYTES);
        let (reader, writer) = tokio::io::split(broker);
        let engine = connection::serve(reader, writer, hub, id, shutdown);
        let (carried, ()) = tokio::join!(websocket::carry(socket, plain), engine);
        if let Err(error) = carried {
            tracing::debug!(%error, "a WebSocket failed");
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers
        .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(websocket::SUBPROTOCOL));
    response
}
