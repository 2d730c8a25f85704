//! The host's own HTTP server: accept loop, routing, and the three ways to the handler.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::Admin;
use super::client::Body;
use super::cors::Cors;
use super::exchange::{Counted, Exchanges};
use super::forward::forward;
use super::keys::Keys;
use super::limits::{CONNECTIONS_MAX, HEADER_TIMEOUT};
use super::proxy::{proxy, status};
use super::route::{Params, Template};
use super::{envelope, output};
use crate::bindings::{AuthLevel, Function, HttpTrigger, Trigger};
use crate::config::HttpThrottle;
use crate::invocation::record::reason;
use crate::invocation::{Answer, Call, InvocationError, Invoker};
use crate::log::{Level, category};

/// Pause after a failed accept: the process is out of descriptors, and asking again at once
/// would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How an HTTP function's calls reach the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Proxying,
    Forwarding,
    Envelope,
}

/// Everything a request needs. Shared by all connections.
pub(crate) struct Server {
    routes: Vec<Arc<Function>>,
    mode: Mode,
    invoker: Arc<Invoker>,
    admin: Admin,
    options: ServerOptions,
    /// Calls that run at once; `None` for no bound.
    running: Option<Semaphore>,
    /// Calls that run or wait.
    outstanding: AtomicUsize,
}

/// How callers are let in.
pub(crate) struct ServerOptions {
    /// `function` and `admin` level calls need one. `None` lets everybody in.
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) body_max_bytes: u64,
    pub(crate) cors: Cors,
    pub(crate) throttle: HttpThrottle,
    /// Forwarded calls go to the name of the function, as with `httpWorker`.
    pub(crate) forwards_by_name: bool,
}

/// One call among the outstanding ones.
struct Outstanding<'a>(&'a AtomicUsize);

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Server {
    pub(crate) fn new(
        functions: &[Arc<Function>],
        mode: Mode,
        invoker: Arc<Invoker>,
        admin: Admin,
        options: ServerOptions,
    ) -> Self {
        let mut routes: Vec<Arc<Function>> =
            functions.iter().filter(|function| http(function).is_some()).cloned().collect();
        routes.sort_by(|a, b| match (http(a), http(b)) {
            (Some(a), Some(b)) => a.template.precedence(&b.template),
            _ => Ordering::Equal,
        });
        let running = options.throttle.running.map(Semaphore::new);
        Self { routes, mode, invoker, admin, options, running, outstanding: AtomicUsize::new(0) }
    }

    /// Accepts until `stop`, then lets the running exchanges end, until `cut`.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (connections, graceful) = (TaskTracker::new(), GracefulShutdown::new());
        loop {
            // A full house waits in the backlog of the socket.
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, listener.accept().await))
            };
            let (slot, stream) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accepted => match accepted {
                    Some((slot, Ok((stream, _)))) => (slot, stream),
                    Some((_, Err(error))) => {
                        self.invoker.log.line(
                            Level::Warning,
                            category::GENERAL,
                            format!("A connection could not be accepted: {error}"),
                        );
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                    None => break,
                },
            };
            let exchanges = Exchanges::default();
            let connection =
                graceful.watch(Arc::clone(&self).connection(stream, exchanges.clone()));
            let (stop, cut) = (stop.clone(), cut.clone());
            connections.spawn(async move {
                let unused = async {
                    stop.cancelled().await;
                    exchanges.over().await;
                };
                tokio::select! {
                    // A connection that breaks is the caller's affair.
                    _ = connection => {}
                    () = unused => {}
                    () = cut.cancelled() => {}
                }
                drop(slot);
            });
        }
        drop(listener);
        connections.close();
        graceful.shutdown().await;
        connections.wait().await;
    }

    fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        exchanges: Exchanges,
    ) -> http1::Connection<
        TokioIo<TcpStream>,
        impl hyper::service::Service<
            Request<Incoming>,
            Response = Response<Counted>,
            Error = Infallible,
            Future: Send,
        > + Send,
    > {
        // Without Nagle, or small answers wait for the caller's acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let (server, exchange) = (Arc::clone(&self), exchanges.begin());
            async move {
                let response = server.answer_across_origins(request).await;
                Ok(response.map(|body| exchange.with(body)))
            }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    }

    async fn answer_across_origins(&self, request: Request<Incoming>) -> Response<Body> {
        let cors = &self.options.cors;
        if let Some(preflight) = cors.preflight(request.method(), request.headers()) {
            return preflight;
        }
        let origin = cors.admits(request.headers());
        let mut response = self.answer(request).await;
        if let Some(origin) = origin {
            cors.allow(origin, response.headers_mut());
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("/admin/")) {
            let open = path.eq_ignore_ascii_case("/admin/host/ping");
            let level = if open { AuthLevel::Anonymous } else { AuthLevel::Admin };
            return match self.admitted(&request, level, None) {
                true => self.admin.answer(request).await,
                false => status(StatusCode::UNAUTHORIZED),
            };
        }
        let Some((function, trigger, params)) = self.route(&request) else {
            return match path {
                "/" => self.admin.home_page(),
                _ => status(StatusCode::NOT_FOUND),
            };
        };
        if !self.admitted(&request, trigger.auth, Some(function)) {
            return status(StatusCode::UNAUTHORIZED);
        }
        let most = self.options.throttle.outstanding;
        let before = self.outstanding.fetch_add(1, Relaxed);
        let _outstanding = Outstanding(&self.outstanding);
        if most.is_some_and(|most| before >= most) {
            return status(StatusCode::TOO_MANY_REQUESTS);
        }
        let _running = match &self.running {
            // The semaphore is never closed.
            Some(running) => running.acquire().await.ok(),
            None => None,
        };
        let announced = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.options.body_max_bytes) {
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let call = Call {
            function,
            reason: reason::HOST_API,
            details: None,
            traceparent: traceparent(&request),
        };
        // Proxying and forwarding are for functions with one http in and one http out only.
        let mode = if function.http_in_and_out { self.mode } else { Mode::Envelope };
        if mode == Mode::Envelope {
            return self.envelope(call, request, &params).await;
        }
        let Ok(record) = self.invoker.begin(&call).await else {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        };
        match mode {
            Mode::Forwarding => {
                let by_name = self.options.forwards_by_name.then(|| format!("/{}", function.name));
                let limit = self.options.body_max_bytes;
                forward(&self.invoker, record, request, by_name.as_deref(), limit).await
            }
            Mode::Proxying | Mode::Envelope => {
                proxy(&self.invoker, record, request, self.options.body_max_bytes).await
            }
        }
    }

    /// The first route that fits path and method. A method that is not listed is a 404, as in the
    /// Azure host, where it is part of the route.
    fn route(&self, request: &Request<Incoming>) -> Option<(&Arc<Function>, &HttpTrigger, Params)> {
        let (path, method) = (request.uri().path(), request.method().as_str());
        self.routes.iter().find_map(|function| {
            let trigger = http(function)?;
            let listed = trigger.methods.is_empty()
                || trigger.methods.iter().any(|known| known.eq_ignore_ascii_case(method));
            let template: &Template = &trigger.template;
            let params = if listed { template.matches(path)? } else { return None };
            Some((function, trigger, params))
        })
    }

    fn admitted(
        &self,
        request: &Request<Incoming>,
        level: AuthLevel,
        function: Option<&Arc<Function>>,
    ) -> bool {
        let Some(keys) = &self.options.keys else { return true };
        let header = request.headers().get("x-functions-key").and_then(|key| key.to_str().ok());
        let query = request.uri().query().unwrap_or_default().split('&');
        let code = query.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "code");
        let code = code.and_then(|(_, code)| percent_decode_str(code).decode_utf8().ok());
        let shown = header.or(code.as_deref());
        keys.admits(level, function.map(|function| &*function.name), shown)
    }

    async fn envelope(
        &self,
        call: Call<'_>,
        request: Request<Incoming>,
        params: &Params,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        // The Azure host reads a body only if its length was announced.
        let body = if parts.headers.contains_key(header::CONTENT_LENGTH) {
            let limit = usize::try_from(self.options.body_max_bytes).unwrap_or(usize::MAX);
            match Limited::new(body, limit).collect().await {
                Ok(body) => Some(body.to_bytes()),
                Err(_) => return status(StatusCode::BAD_REQUEST),
            }
        } else {
            if parts.headers.contains_key(header::TRANSFER_ENCODING) {
                self.warn_of_chunks(call.function);
            }
            None
        };
        let function = Arc::clone(call.function);
        let now = self.invoker.log.now();
        let envelope = envelope::envelope(&function, &parts, params, body.as_ref(), now);
        match self.invoker.invoke(call, envelope).await {
            Ok(answer) => self.outputs(&function, answer),
            Err(InvocationError::NotReady) => status(StatusCode::SERVICE_UNAVAILABLE),
            Err(
                InvocationError::Timeout(_)
                | InvocationError::Broken(_)
                | InvocationError::Failed(_),
            ) => status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl Server {
    fn warn_of_chunks(&self, function: &Function) {
        let name = &function.name;
        let cause = format!("A body in chunks did not reach function '{name}'");
        self.invoker.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "A call of function '{name}' has a body without Content-Length, and as in Azure \
                 the JSON envelope goes out without it. Fix: set \
                 customHandler.enableProxyingHttpRequest in host.json, which hands on everything, \
                 or have the callers announce the length."
            )
        });
    }

    fn outputs(&self, function: &Function, answer: Answer) -> Response<Body> {
        let (log, name) = (&self.invoker.log, &function.name);
        if output::has_vain_status(function, &answer) {
            let cause = format!("Function '{name}' answered with 'status'");
            log.sharp_edge(Level::Warning, &cause, || {
                format!(
                    "The http output of function '{name}' has a member 'status', which has no \
                     effect in Azure: the caller gets 200. Fix: call it 'statusCode'."
                )
            });
        }
        output::response(function, answer).unwrap_or_else(|why| {
            log.line(Level::Error, category::GENERAL, why);
            status(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }
}

fn http(function: &Function) -> Option<&HttpTrigger> {
    match &function.trigger {
        Trigger::Http(trigger) => Some(trigger),
        Trigger::ServiceBus(_) | Trigger::Queue(_) | Trigger::CosmosDb(_) | Trigger::Timer(_) => {
            None
        }
    }
}

fn traceparent(request: &Request<Incoming>) -> Option<String> {
    request.headers().get("traceparent")?.to_str().ok().map(str::to_owned)
}

/// Binds the port of the host.
pub(crate) async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(listen).await
}
