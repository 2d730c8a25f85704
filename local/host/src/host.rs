//! The host of one Function App, put together: read, bind, run, stop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::bindings::Function;
use crate::clock::{Clock, system_clock};
use crate::config::settings::LocalHost;
use crate::config::{HostJson, Settings, function_json, host_json};
use crate::error::{HostError, Problem};
use crate::faults::Faults;
use crate::functions::{FunctionInfo, shown};
use crate::http::admin::Admin;
use crate::http::client::{HandlerClient, Length};
use crate::http::cors::Cors;
use crate::http::keys::Keys;
use crate::http::{BODY_MAX_BYTES, Mode, Server, ServerOptions, server};
use crate::invocation::Invoker;
use crate::log::{Level, LogSink, Logger, category};
use crate::outputs::Outputs;
use crate::process::{HandlerStatus, Launch, Supervisor};
use crate::triggers::{self, Listeners};

/// At stop, invocations in flight get this long before the handler is killed
/// (`WebJobsScriptHostService.StopAsync`).
const DRAIN: Duration = Duration::from_secs(10);

/// Once the handler is dead, what was in flight gets this long to be settled as failed.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// How long a queue message is leased at a time (`QueueListener` of the Storage extension).
const QUEUE_LEASE: Duration = Duration::from_mins(10);

/// Reasons to give up that may wait; the first one decides.
const GIVE_UPS_MAX: usize = 1;

/// What to run and how.
#[derive(Clone)]
pub struct Options {
    /// Directory with `host.json`, the handler and one folder per function.
    pub script_root: PathBuf,
    /// Where callers reach the host. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// The host's environment: app settings and everything the handler inherits.
    /// `local.settings.json` completes it and never overrides it.
    pub settings: BTreeMap<String, String>,
    /// Receives every log line.
    pub log: LogSink,
    /// Stamps log lines and envelopes.
    pub clock: Clock,
    /// When set, this is the master key, and calls to functions with `authLevel` `function` or
    /// `admin`, and to `/admin`, need a key. By default nobody needs one, as under `func`.
    pub key: Option<String>,
    /// The functions that this instance serves, in any case; `None` for all. The others are
    /// indexed and listed, but neither called nor listened for: another instance does that.
    pub only: Option<BTreeSet<String>>,
    /// Which origins may call, and whether with credentials: `Host` of `local.settings.json`.
    pub local: LocalHost,
    /// What is to go wrong on request.
    pub faults: Faults,
    /// Whether faults can be asked for at `/admin/local/faults` too.
    pub faults_over_http: bool,
    /// Announce the length of envelopes (as under `func`) instead of sending them in chunks (as in
    /// Azure, and the default).
    pub announce_length: bool,
    /// Where the host keeps what has to outlive it: the schedules of timers. `None`, the default,
    /// keeps it in memory, and a timer that is due while the host is down is not made up for.
    pub state: Option<PathBuf>,
    /// How long invocations in flight may run on at stop, ten seconds by default.
    pub drain: Duration,
    /// How long a queue message is invisible to others at a time while its function runs, in whole
    /// seconds; renewed at half-time. Ten minutes in Azure and by default; a shorter one brings the
    /// messages of a host that was killed back sooner.
    pub queue_lease: Duration,
}

impl Options {
    /// Options with the defaults of a local host.
    #[must_use]
    pub fn new(
        script_root: impl Into<PathBuf>,
        listen: SocketAddr,
        settings: BTreeMap<String, String>,
        log: LogSink,
    ) -> Self {
        Self {
            script_root: script_root.into(),
            listen,
            settings,
            log,
            clock: system_clock(),
            key: None,
            only: None,
            local: LocalHost::default(),
            faults: Faults::default(),
            faults_over_http: false,
            announce_length: false,
            state: None,
            drain: DRAIN,
            queue_lease: QUEUE_LEASE,
        }
    }
}

/// A host that has read its app and bound its port, and waits to be run.
pub struct Host {
    address: SocketAddr,
    listener: TcpListener,
    infos: Arc<[FunctionInfo]>,
    functions: Vec<Arc<Function>>,
    config: HostJson,
    launch: Launch,
    log: Logger,
    key: Option<String>,
    cors: Cors,
    has_home_page: bool,
    faults: Faults,
    faults_over_http: bool,
    body_max_bytes: u64,
    body_length: Length,
    state: Option<PathBuf>,
    drain: Duration,
    queue_lease: Duration,
    status: watch::Sender<HandlerStatus>,
}

impl Host {
    /// Reads the app directory and binds the port. Nothing is started yet.
    ///
    /// A function that cannot be indexed is no error here: see [`FunctionInfo::problems`].
    ///
    /// # Errors
    /// [`HostError::Config`] with every problem of `host.json`, `local.settings.json` and the
    /// handler executable; [`HostError::Bind`] when the port is taken.
    pub async fn bind(options: Options) -> Result<Self, HostError> {
        let log = Logger::new(options.log, options.faults.over(options.clock));
        let mut problems = Vec::new();
        let mut settings = Settings::new(options.settings);
        let root = std::path::absolute(&options.script_root).unwrap_or(options.script_root);
        let kept = settings.merge_local(&root, &mut problems);
        let config = host_json::load(&root, &settings, &mut problems);
        let Some(config) = config else { return Err(HostError::Config(problems)) };
        let indexed = function_json::discover(&root, &config, &settings, &mut problems);
        let body_max_bytes = body_limit(&settings, &mut problems);
        check_runtime(&settings, &mut problems);

        let listener = server::bind(options.listen).await;
        let address = match &listener {
            Ok(listener) => listener.local_addr().unwrap_or(options.listen),
            Err(_) => options.listen,
        };
        set_host_defaults(&mut settings, address, &root.display().to_string());
        let port = match handler_port(config.handler.port) {
            Ok(port) => port,
            Err(problem) => {
                problems.push(problem);
                0
            }
        };
        let launch = Launch::prepare(&root, &config.handler, &settings, port, &mut problems);
        if !problems.is_empty() {
            return Err(HostError::Config(problems));
        }
        let listener = listener.map_err(|source| HostError::Bind {
            problem: Problem::new(
                format!("the host cannot listen on {}", options.listen),
                source.to_string(),
                "stop what uses the port, or choose another one (0 picks a free one)",
            ),
            source,
        })?;
        for name in kept {
            log.line(
                Level::Warning,
                category::STARTUP,
                format!(
                    "Skipping '{name}' from local settings as it's already defined in current \
                     environment variables."
                ),
            );
        }
        for note in &config.notes {
            log.line(Level::Warning, category::STARTUP, note.clone());
        }
        for note in function_json::notes_together(&indexed, &config) {
            log.line(Level::Warning, category::STARTUP, note);
        }
        for note in indexed.iter().flat_map(|found| &found.notes) {
            log.line(Level::Warning, category::STARTUP, note.clone());
        }
        let infos: Arc<[FunctionInfo]> =
            indexed.iter().map(|found| FunctionInfo::new(found, address)).collect();
        let functions = indexed
            .into_iter()
            .filter(|found| !found.disabled)
            .filter_map(|found| found.outcome.ok())
            .filter(|function| {
                let served = options.only.as_ref();
                served.is_none_or(|served| {
                    served.iter().any(|name| name.eq_ignore_ascii_case(&function.name))
                })
            })
            .collect();
        let cors = options.local.cors.as_deref().unwrap_or_default();
        let cors = Cors::new(cors, options.local.cors_credentials);
        let has_home_page = !settings.is_on("AzureWebJobsDisableHomepage");
        Ok(Self {
            address,
            listener,
            infos,
            functions,
            config,
            launch,
            log,
            key: options.key,
            cors,
            has_home_page,
            faults: options.faults,
            faults_over_http: options.faults_over_http,
            body_max_bytes,
            body_length: if options.announce_length { Length::Announced } else { Length::Chunked },
            state: options.state,
            drain: options.drain,
            queue_lease: options.queue_lease,
            status: watch::Sender::new(HandlerStatus::Starting),
        })
    }

    /// Where callers reach the host.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Every function found, usable or not, in name order.
    #[must_use]
    pub fn functions(&self) -> &[FunctionInfo] {
        &self.infos
    }

    /// The port the handler listens on. It stays the same over restarts.
    #[must_use]
    pub fn handler_port(&self) -> u16 {
        self.launch.port
    }

    /// Follows the handler process: whether it answers, and its process id.
    #[must_use]
    pub fn handler_status(&self) -> watch::Receiver<HandlerStatus> {
        self.status.subscribe()
    }

    /// Runs until `shutdown`, then lets invocations in flight end for at most ten seconds and kills
    /// the handler.
    ///
    /// # Errors
    /// [`HostError::GaveUp`] when the handler failed three times, could not be started, or was not
    /// ready while an invocation waited for it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), HostError> {
        self.print_listing();
        // Three stages, so that invocations in flight still have a handler.
        let (stop_accepting, stop_handler) = (CancellationToken::new(), CancellationToken::new());
        // Should this future be dropped, the tasks it has spawned must not go on without it.
        let _stopped_with_us =
            (stop_accepting.clone().drop_guard(), stop_handler.clone().drop_guard());
        let client = HandlerClient::new(self.launch.port);
        let (supervisor, link) = Supervisor::new(
            self.launch,
            client.clone(),
            self.config.handler.initialization_timeout,
            self.config.handler.stderr_is_for_errors_only,
            self.log.clone(),
            stop_accepting.clone(),
        );
        let queues = triggers::QueueShared::new(self.config.queues.clone(), self.queue_lease);
        let (give_up, mut give_ups) = mpsc::channel(GIVE_UPS_MAX);
        let (work, background) = (TaskTracker::new(), TaskTracker::new());
        let invoker = Arc::new(Invoker {
            client,
            handler: link.clone(),
            log: self.log.clone(),
            function_timeout: self.config.function_timeout,
            initialization_timeout: self.config.handler.initialization_timeout,
            body_length: self.body_length,
            outputs: Outputs::new(
                self.log.clone(),
                queues.client.clone(),
                self.config.queues.encoding,
                queues.wakers.clone(),
            ),
            stopping: stop_accepting.clone(),
            give_up,
            faults: self.faults.clone(),
            background: background.clone(),
        });
        let shared = triggers::Shared {
            invoker: Arc::clone(&invoker),
            service_bus: self.config.service_bus.clone(),
            queues,
            timers: Arc::new(triggers::timer::Monitor::new(self.state.as_deref())),
        };
        let listening = TaskTracker::new();
        let listeners = Arc::new(Listeners::new(
            shared.clone(),
            &self.functions,
            stop_accepting.clone(),
            listening.clone(),
        ));
        let keys = self.key.map(|master| Arc::new(Keys::new(master, &self.functions)));
        let admin = Admin {
            address: self.address,
            infos: Arc::clone(&self.infos),
            functions: self.functions.clone(),
            invoker: Arc::clone(&invoker),
            shared: shared.clone(),
            background: background.clone(),
            started: Instant::now(),
            instance: Uuid::new_v4(),
            has_extensions: self.config.has_extensions,
            listeners: Arc::clone(&listeners),
            keys: keys.clone(),
            faults: self.faults_over_http.then(|| self.faults.clone()),
            has_home_page: self.has_home_page,
        };
        let handler = &self.config.handler;
        let mode = match (handler.proxying, handler.forwarding) {
            (true, _) => Mode::Proxying,
            (false, true) => Mode::Forwarding,
            (false, false) => Mode::Envelope,
        };
        let server = Server::new(
            &self.functions,
            mode,
            Arc::clone(&invoker),
            admin,
            ServerOptions {
                keys,
                body_max_bytes: self.body_max_bytes,
                cors: self.cors,
                throttle: self.config.throttle,
                forwards_by_name: self.config.handler.forwards_by_name,
            },
        );
        work.spawn(Arc::new(server).run(
            self.listener,
            stop_accepting.clone(),
            stop_handler.clone(),
        ));
        for note in triggers::notes(&self.functions) {
            self.log.line(Level::Warning, category::STARTUP, note);
        }
        listeners.resume();
        let followed = follow(link.status(), self.status);

        // No function, no handler: the Azure host does not start it either.
        let idle = self.functions.is_empty();
        let supervising = async {
            match idle {
                true => {
                    stop_handler.cancelled().await;
                    Ok(())
                }
                false => supervisor.run(stop_handler.clone()).await,
            }
        };
        tokio::pin!(supervising, followed);
        let mut ended = None;
        let gave_up = tokio::select! {
            () = shutdown.cancelled() => None,
            outcome = &mut supervising => {
                ended = Some(outcome);
                None
            }
            problem = give_ups.recv() => problem,
            () = &mut followed => None,
        };
        stop_accepting.cancel();
        work.close();
        background.close();
        listening.close();
        let drained = async {
            work.wait().await;
            listening.wait().await;
            background.wait().await;
        };
        tokio::pin!(drained);
        let deadline = Instant::now() + self.drain;
        let late = loop {
            tokio::select! {
                over = timeout_at(deadline, &mut drained) => break over.is_err(),
                outcome = &mut supervising, if ended.is_none() => ended = Some(outcome),
            }
        };
        if late {
            let text = format!(
                "Invocations were still running after {:?}: the handler is killed in the middle of \
                 them, without a signal that it could act on, as in Azure. Fix: do no work that \
                 cannot be cut off and begun again.",
                self.drain
            );
            self.log.line(Level::Warning, category::GENERAL, text);
        }
        stop_handler.cancel();
        let outcome = match ended {
            Some(outcome) => outcome,
            None => supervising.await,
        };
        if late {
            // Without a handler the rest fails at once; let it be settled and logged.
            let _ = timeout(AFTER_KILL, drained).await;
        }
        self.log.sharp_edge_totals();
        match gave_up {
            Some(problem) => Err(HostError::GaveUp(problem)),
            None => outcome,
        }
    }

    fn print_listing(&self) {
        let line = |text: String| self.log.line(Level::Information, category::STARTUP, text);
        let usable: Vec<&FunctionInfo> =
            self.infos.iter().filter(|info| info.problems.is_empty() && !info.disabled).collect();
        if usable.is_empty() {
            self.log.line(
                Level::Warning,
                category::STARTUP,
                "No job functions found: no folder with a usable function.json. The handler is \
                 not started.",
            );
        } else {
            line("Functions:".to_owned());
            for info in usable {
                line(info.listing());
            }
        }
        for info in self.infos.iter() {
            for problem in &info.problems {
                self.log.line(
                    Level::Error,
                    category::STARTUP,
                    format!("The '{}' function is in error: {problem}", info.name),
                );
            }
            if info.disabled {
                line(format!("Function {} is disabled", info.name));
            }
        }
        line(format!("Host started on http://{}", shown(self.address)));
    }
}

async fn follow(mut from: watch::Receiver<HandlerStatus>, to: watch::Sender<HandlerStatus>) {
    loop {
        let status = *from.borrow_and_update();
        to.send_replace(status);
        if from.changed().await.is_err() {
            // The supervisor's own end is what the host waits for.
            std::future::pending::<()>().await;
        }
    }
}

/// What `func` sets for the handler, unless it is set already.
fn set_host_defaults(settings: &mut Settings, address: SocketAddr, root: &str) {
    settings.set_default("AZURE_FUNCTIONS_ENVIRONMENT", || "Development".to_owned());
    settings.set_default("WEBSITE_HOSTNAME", || shown(address));
    settings.set_default("AzureWebJobsScriptRoot", || root.to_owned());
    settings.set_default("FUNCTIONS_WORKER_RUNTIME", || "custom".to_owned());
}

fn check_runtime(settings: &Settings, problems: &mut Vec<Problem>) {
    let runtime = settings.get("FUNCTIONS_WORKER_RUNTIME").unwrap_or("custom");
    if !runtime.eq_ignore_ascii_case("custom") {
        problems.push(Problem::new(
            format!("setting FUNCTIONS_WORKER_RUNTIME is \"{runtime}\""),
            "this host runs custom handlers only",
            "set it to \"custom\", or remove it",
        ));
    }
}

fn body_limit(settings: &Settings, problems: &mut Vec<Problem>) -> u64 {
    const NAME: &str = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT";
    let Some(text) = settings.get(NAME) else { return BODY_MAX_BYTES };
    text.parse().unwrap_or_else(|_| {
        problems.push(Problem::new(
            format!("setting {NAME} is \"{text}\""),
            "it is the largest request body in bytes",
            format!("write e.g. {BODY_MAX_BYTES}, or remove it"),
        ));
        BODY_MAX_BYTES
    })
}

/// The fixed port if it can be bound, or a free one. It is free again when this returns.
fn handler_port(fixed: Option<u16>) -> Result<u16, Problem> {
    let wanted = fixed.unwrap_or_default();
    StdTcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| {
            Problem::new(
                format!("the handler's port {wanted} cannot be used"),
                error.to_string(),
                "stop what uses it, or remove customHandler.port and let the host pick one",
            )
        })
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("address", &self.address).finish_non_exhaustive()
    }
}
