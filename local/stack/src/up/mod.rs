//! `stack up`: build, stage, start, seed, say what runs where, keep it running, stop it in order.

mod control;
mod journal;
mod keys;
mod options;
mod plan;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::child::{LineSink, Running, Spec};
use crate::endpoints::{Endpoints, Process, write_ready_file};
use crate::fault::Fault;
use crate::report::{Outcome, Report};
use crate::serve::{BUS_KEY, BUS_KEY_NAME, COSMOS_KEY};
use crate::signal::stop_signal;
use crate::topology::Topology;
use crate::workspace::Workspace;
use crate::{lines, output, ports, seed, stage};
use control::{Control, Known};
use keys::{Keys, Wish};
pub use options::{Options, PORTS};

/// Pause before a process that died is started again, so that one that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Tries to start a process again before the whole stack gives up. The port may be taken for a
/// moment: free ports are what outgoing connections get theirs from.
const RESTART_TRIES_MAX: u32 = 5;

/// Wishes of people that wait while one is fulfilled.
const WISHES_MAX: usize = 4;

/// What the endpoint of the sample subscriber is called in the topology.
const SUBSCRIBER_URL: &str = "SUBSCRIBER_URL";

/// Runs the stack until Ctrl-C.
///
/// # Errors
/// Something could not be started; what had been started is stopped again.
pub async fn up(options: Options) -> Result<(), Fault> {
    let report = Report::default();
    let mut workspace = Workspace::locate()?;
    if let Some(apps) = &options.apps_dir {
        workspace.apps.clone_from(apps);
    }
    let topology = Topology::read(&workspace.topology())?;
    for (port, (_, option)) in options.ports().into_iter().zip(PORTS) {
        ports::check_free(port, option)?;
    }

    if options.no_build || options.no_hosts {
        report.step(Outcome::Skipped, "Building handler", None);
    } else {
        build(&workspace, &report).await?;
    }
    if !options.no_hosts {
        let since = Instant::now();
        let staged = stage::stage(&workspace, &topology, &[])?;
        let text = format!("Staging {} function apps → {}", staged.len(), workspace.apps.display());
        report.step(Outcome::Done, &text, Some(since));
    }

    let readers = TaskTracker::new();
    let control = Control::new(workspace.root.join("portal"), options.watch);
    let verbose = Arc::new(AtomicBool::new(options.verbose));
    let (wishes, wished) = mpsc::channel(WISHES_MAX);
    let bank_ledger = options.bank_ledger.clone().unwrap_or_else(|| temporary("bank.jsonl"));
    let data = options.data.clone().unwrap_or_else(|| temporary("data"));
    let mut stack = Stack {
        bank_ledger: std::path::absolute(&bank_ledger).unwrap_or(bank_ledger),
        data: std::path::absolute(&data).unwrap_or(data),
        lines: line_sink(Arc::clone(&verbose), Arc::clone(&control)),
        verbose,
        control,
        wishes,
        wished,
        readers,
        options,
        workspace,
        topology,
        services: Vec::new(),
        hosts: Vec::new(),
        endpoints: None,
    };
    let stop = stop_signal(stack.options.until_stdin_closes);
    let outcome = tokio::select! {
        outcome = async {
            stack.start(&report).await?;
            stack.keep_running(&report).await
        } => outcome,
        () = stop.cancelled() => Ok(()),
    };
    stack.stop(&report).await;
    outcome
}

/// Everything that runs.
struct Stack {
    options: Options,
    workspace: Workspace,
    topology: Topology,
    lines: LineSink,
    /// Whether every line is shown; a key changes it.
    verbose: Arc<AtomicBool>,
    /// What only the stack knows, for the portal.
    control: Arc<Control>,
    wishes: mpsc::Sender<Wish>,
    wished: mpsc::Receiver<Wish>,
    readers: TaskTracker,
    /// The bank's ledger.
    bank_ledger: PathBuf,
    /// What the services store, a folder for each.
    data: PathBuf,
    /// The stand-ins, each with how to start it again.
    services: Vec<(Spec, Running)>,
    /// One host per app.
    hosts: Vec<(Spec, Running)>,
    /// What the ready file says, once everything is there.
    endpoints: Option<Endpoints>,
}

impl Stack {
    async fn start(&mut self, report: &Report) -> Result<(), Fault> {
        let topology = arguments("--topology", &self.workspace.topology());
        let with = || topology.clone();
        let mut further = with();
        further.extend(arguments("--data", &self.data.join("cosmos")));
        // The portal's experiments order some; nothing else does.
        further.push("--faults".to_owned());
        if self.options.data.is_none() {
            // What goes with the stack has to outlive processes, not the machine.
            further.push("--no-fsync".to_owned());
        }
        let cosmos = self.launch("cosmos", self.options.cosmos_port, further).await?;
        let (databases, containers) = self.topology.containers();
        let text = format!("{databases} database, {containers} containers");
        cosmos.say("http://", &text, report);

        let mut further = with();
        further.extend(arguments("--data", &self.data.join("bus")));
        further.extend(["--operations", "127.0.0.1:0", "--faults"].map(str::to_owned));
        if self.options.data.is_none() {
            further.push("--no-fsync".to_owned());
        }
        let bus = self.launch("bus", self.options.bus_port, further).await?;
        bus.say("amqp://", &self.topology.topics(), report);

        let mut further = with();
        further.extend(arguments("--data", &self.data.join("queue")));
        if self.options.data.is_none() {
            further.push("--no-fsync".to_owned());
        }
        let queue = self.launch("queue", self.options.queue_port, further).await?;
        queue.say("http://", &self.topology.queues(), report);

        let ledger = arguments("--ledger", &self.bank_ledger);
        let bank = self.launch("bank", self.options.bank_port, ledger).await?;
        let text = format!("ledger {}", self.bank_ledger.display());
        bank.say("http://", &text, report);

        let port = self.options.subscriber_port;
        let subscriber = self.launch("subscriber", port, Vec::new()).await?;
        subscriber.say("http://", "of Event Grid; GET /events", report);
        let subscriber = format!("http://{}", subscriber.address);

        let grid_dead_letters = self.workspace.apps.join("grid.state");
        let mut further = with();
        further.extend(arguments("--dead-letters", &grid_dead_letters));
        let scale = self.options.grid_time_scale.to_string();
        let fill = format!("{SUBSCRIBER_URL}={subscriber}");
        further.extend(["--time-scale".to_owned(), scale, "--fill".to_owned(), fill]);
        let grid = self.launch("grid", self.options.grid_port, further).await?;
        grid.say("http://", &self.topology.grid_topics(), report);

        self.control.bank_is_at(&format!("http://{}", bank.address));
        self.control.cosmos_is_at(&format!("http://{}", cosmos.address));
        let control = self.control.serve().await.map_err(|error| {
            let fix = "free a port, then try again";
            Fault::new("No port is free for the portal's own questions.", error.to_string(), fix)
        })?;
        let mut endpoints = Endpoints {
            http: String::new(),
            control: format!("http://{control}"),
            cosmos: format!("http://{}", cosmos.address),
            cosmos_key: COSMOS_KEY.to_owned(),
            bus: format!(
                "Endpoint=sb://{};SharedAccessKeyName={BUS_KEY_NAME};\
                 SharedAccessKey={BUS_KEY};UseDevelopmentEmulator=true;",
                bus.address
            ),
            bus_operations: String::new(),
            queue: queue::connection_string(queue.address),
            bank: format!("http://{}", bank.address),
            bank_ledger: self.bank_ledger.clone(),
            grid: format!("http://{}/{}/api/events", grid.address, self.topology.grid_topic()),
            grid_key: grid::LOCAL_KEY.to_owned(),
            grid_dead_letters,
            subscriber,
            processes: Vec::new(),
        };
        self.seed(&endpoints.cosmos, report).await?;

        let since = Instant::now();
        let settings = plan::settings(&self.topology, &endpoints, &self.options);
        let apps = if self.options.no_hosts { &[][..] } else { &self.topology.apps };
        for (index, app) in apps.iter().enumerate() {
            // The first app is the one that people open; the others have only admin endpoints.
            let port = if index == 0 { self.options.port } else { 0 };
            let spec = plan::host(&self.workspace, app, port, &self.options, &settings);
            let running = Running::start(&spec, &self.lines, &self.readers).await?;
            self.control.started(known(&running, "host"));
            self.hosts.push((plan::pin_port(spec, running.address()), running));
        }
        if let Some((_, host)) = self.hosts.first() {
            let text = format!("Starting {} hosts", self.hosts.len());
            report.step(Outcome::Done, &text, Some(since));
            endpoints.http = format!("http://{}", host.address());
            self.say_where(&endpoints, report);
        }
        self.endpoints = Some(endpoints);
        self.write_ready_file().map_err(|why| {
            Fault::new("The ready file cannot be written.", why, "choose another path")
        })?;
        self.listen_to_people();
        Ok(())
    }

    /// Follows the keys and the source files, where that is wanted.
    fn listen_to_people(&self) {
        if self.options.watch {
            let root = self.workspace.root.clone();
            self.readers.spawn(stop_with(&self.wishes, watch::watch(root, self.wishes.clone())));
        }
        if let Some(endpoints) = &self.endpoints
            && keys::are_there()
            && !self.options.until_stdin_closes
        {
            let keys = Keys {
                portal: endpoints.http.clone(),
                bank: endpoints.bank.clone(),
                verbose: Arc::clone(&self.verbose),
                wishes: self.wishes.clone(),
            };
            self.readers.spawn(stop_with(&self.wishes, keys::read(keys)));
        }
    }

    /// Writes where everything is by now, if anybody wants to know.
    fn write_ready_file(&mut self) -> Result<(), String> {
        let processes = self.processes();
        let operations = self.bus_operations();
        let (Some(path), Some(endpoints)) = (&self.options.ready_file, &mut self.endpoints) else {
            return Ok(());
        };
        endpoints.processes = processes;
        endpoints.bus_operations = operations;
        write_ready_file(path, endpoints).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Starts a service and remembers the port it got, for the next time.
    async fn launch(
        &mut self,
        role: &'static str,
        port: u16,
        further: Vec<String>,
    ) -> Result<Launched, Fault> {
        let since = Instant::now();
        let spec = plan::service(&self.workspace, role, port, further);
        let running = Running::start(&spec, &self.lines, &self.readers).await?;
        let said = running.address().to_owned();
        self.control.started(known(&running, "service"));
        self.services.push((plan::pin_port(spec, &said), running));
        let address = said.parse().map_err(|_| {
            let what = format!("{role} did not say where it listens.");
            Fault::new(what, format!("it said: {said:?}"), "cargo build --workspace")
        })?;
        Ok(Launched { role, address, since })
    }

    async fn seed(&self, cosmos: &str, report: &Report) -> Result<(), Fault> {
        if self.options.no_seed {
            report.step(Outcome::Skipped, "Seeding", None);
            return Ok(());
        }
        let since = Instant::now();
        let count = seed::seed(&self.workspace.seed(), cosmos, COSMOS_KEY).await?;
        report.step(Outcome::Done, &format!("Seeding {count} documents"), Some(since));
        Ok(())
    }

    /// Where the bus tells how it is, which is another port each time it starts.
    fn bus_operations(&self) -> String {
        let bus = self.services.iter().find(|(_, running)| running.name == "bus");
        let address = bus.and_then(|(_, bus)| bus.ready["operations"].as_str());
        address.map_or_else(String::new, |address| format!("http://{address}"))
    }

    fn processes(&self) -> Vec<Process> {
        let entry = |prefix: &str, running: &Running| Process {
            name: format!("{prefix}{}", running.name),
            pid: running.pid,
            address: running.address().to_owned(),
        };
        let services = self.services.iter().map(|(_, running)| entry("", running));
        services.chain(self.hosts.iter().map(|(_, running)| entry("host ", running))).collect()
    }

    fn say_where(&self, endpoints: &Endpoints, report: &Report) {
        report.line("\n  Functions:");
        for (_, host) in &self.hosts {
            for function in host.ready["functions"].as_array().map_or(&[][..], Vec::as_slice) {
                let text = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
                report.line(&format!(
                    "    {:<13} {:<8} {:<18} {}",
                    host.name,
                    text("name"),
                    text("trigger"),
                    text("source"),
                ));
                for problem in function["problems"].as_array().map_or(&[][..], Vec::as_slice) {
                    let text = problem.as_str().unwrap_or_default();
                    report.step(Outcome::Warning, text, None);
                }
            }
        }
        let http = &endpoints.http;
        report.line(&format!("\n  Portal:  {http}/\n  API:     {http}/api/openapi.json"));
        report.line(&format!("  Bank:    {}/v1/summary", endpoints.bank));
        report.line(&format!("  Events:  {}/events", endpoints.subscriber));
        report.line(&format!(
            "  Try:     curl -i -X POST {http}/api/orders -H 'content-type: application/json' \
             -d @tests/fixtures/order.json"
        ));
        if self.options.watch {
            report.line("  Watch:   a source file that is written is built and swapped in");
        }
        let keys = keys::are_there() && !self.options.until_stdin_closes;
        report.line(&match keys {
            true => format!("  Keys:    {}, or Ctrl-C\n", keys::HELP),
            false => "  Stop:    Ctrl-C\n".to_owned(),
        });
    }

    /// Restarts whatever dies, and does what people wish, for as long as it is polled.
    async fn keep_running(&mut self, report: &Report) -> Result<(), Fault> {
        loop {
            let exit = tokio::select! {
                exit = any_exit(self.services.iter_mut().chain(&mut self.hosts)) => exit,
                wish = self.wished.recv() => match wish {
                    Some(Wish::Quit) | None => return Ok(()),
                    Some(Wish::Rebuild) => {
                        self.swap(report).await?;
                        continue;
                    }
                },
            };
            let (index, status) = exit;
            let is_service = index < self.services.len();
            let (spec, running) = if is_service {
                &mut self.services[index]
            } else {
                &mut self.hosts[index - self.services.len()]
            };
            self.control.exited(&spec.name, running.last_words());
            let text = format!("{} exited ({status}); starting it again", spec.name);
            report.step(Outcome::Warning, &text, None);
            tokio::time::sleep(RESTART_PAUSE).await;
            *running = start_again(spec, &self.lines, &self.readers, report).await?;
            self.control.started(known(running, if is_service { "service" } else { "host" }));
            report.step(Outcome::Done, &format!("Starting {}", spec.name), None);
            self.tell_where(report);
        }
    }

    /// Last after a start, so that whoever reads the new process id meets a process that is ready.
    fn tell_where(&mut self, report: &Report) {
        if let Err(why) = self.write_ready_file() {
            let text = format!("The ready file is not up to date: {why}");
            report.step(Outcome::Warning, &text, None);
        }
    }

    /// Builds, then starts every host again with the new handler, one at a time. A host that stops
    /// finishes what it can; what it cannot is delivered again to the next one.
    async fn swap(&mut self, report: &Report) -> Result<(), Fault> {
        if let Err(fault) = build(&self.workspace, report).await {
            report.step(Outcome::Failed, &fault.to_string(), None);
            report.line("  The apps go on as they are.");
            return Ok(());
        }
        if let Err(fault) = stage::stage(&self.workspace, &self.topology, &[]) {
            report.step(Outcome::Failed, &fault.to_string(), None);
            return Ok(());
        }
        for at in 0..self.hosts.len() {
            let since = Instant::now();
            let (spec, running) = self.hosts.remove(at);
            self.control.exited(&spec.name, running.last_words());
            running.stop().await;
            let running = start_again(&spec, &self.lines, &self.readers, report).await?;
            self.control.started(known(&running, "host"));
            report.step(Outcome::Done, &format!("Swapping {}", spec.name), Some(since));
            self.hosts.insert(at, (spec, running));
        }
        self.tell_where(report);
        Ok(())
    }

    /// Hosts first: they finish what they have begun while the services are still there.
    async fn stop(self, report: &Report) {
        let since = Instant::now();
        futures_join(self.hosts.into_iter().map(|(_, host)| host.stop())).await;
        futures_join(self.services.into_iter().map(|(_, service)| service.stop())).await;
        // Ends those who bring wishes.
        drop(self.wished);
        self.readers.close();
        self.readers.wait().await;
        if self.options.bank_ledger.is_none() {
            // Not there if the bank never started.
            let _ = std::fs::remove_file(&self.bank_ledger);
        }
        if self.options.data.is_none() {
            let _ = std::fs::remove_dir_all(&self.data);
        }
        report.step(Outcome::Done, "Stopping", Some(since));
    }
}

/// Starts a process whose port may be taken for a moment.
async fn start_again(
    spec: &Spec,
    lines: &LineSink,
    readers: &TaskTracker,
    report: &Report,
) -> Result<Running, Fault> {
    let mut tries = 1;
    loop {
        match Running::start(spec, lines, readers).await {
            Ok(running) => return Ok(running),
            Err(fault) if tries == RESTART_TRIES_MAX => return Err(fault),
            Err(fault) => report.step(Outcome::Warning, &fault.to_string(), None),
        }
        tries += 1;
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// A process as the portal hears of it.
fn known(running: &Running, kind: &'static str) -> Known {
    Known::new(&running.name, kind, running.pid, running.address())
}

/// Ends with the stack, which takes no more wishes then.
fn stop_with(
    wishes: &mpsc::Sender<Wish>,
    work: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let wishes = wishes.clone();
    async move {
        tokio::select! {
            () = work => {}
            () = wishes.closed() => {}
        }
    }
}

/// An option and the path it is given.
fn arguments(option: &str, path: &std::path::Path) -> Vec<String> {
    vec![option.to_owned(), path.display().to_string()]
}

/// A service that was just started.
struct Launched {
    role: &'static str,
    address: SocketAddr,
    since: Instant,
}

impl Launched {
    fn say(&self, scheme: &str, text: &str, report: &Report) {
        let text = format!("Starting {:<6}  {scheme}{}  {text}", self.role, self.address);
        report.step(Outcome::Done, &text, Some(self.since));
    }
}

/// A path that no other run has used.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn temporary(what: &str) -> PathBuf {
    let form = time::macros::format_description!("[year][month][day]-[hour][minute][second]");
    let now = time::OffsetDateTime::now_utc().format(&form).unwrap_or_default();
    std::env::temp_dir().join(format!("bulkhead-{now}-{}-{what}", std::process::id()))
}

/// Waits for all, side by side.
async fn futures_join<F: Future<Output = ()> + Send + 'static>(all: impl Iterator<Item = F>) {
    let mut tasks = tokio::task::JoinSet::new();
    all.for_each(|one| {
        tasks.spawn(one);
    });
    tasks.join_all().await;
}

/// Waits until any process exits; its position and how it did.
async fn any_exit(
    processes: impl Iterator<Item = &mut (Spec, Running)>,
) -> (usize, std::process::ExitStatus) {
    let mut waits: Vec<_> = processes
        .enumerate()
        .map(|(index, (_, running))| Box::pin(async move { (index, running.exited().await) }))
        .collect();
    std::future::poll_fn(|context| {
        for wait in &mut waits {
            if let std::task::Poll::Ready(exit) = wait.as_mut().poll(context) {
                return std::task::Poll::Ready(exit);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Builds the handler in this executable's own profile.
async fn build(workspace: &Workspace, report: &Report) -> Result<(), Fault> {
    let since = Instant::now();
    let release = !cfg!(debug_assertions);
    let mut cargo = tokio::process::Command::new("cargo");
    // By executable, not by package: see `.cargo/config.toml`.
    cargo.current_dir(&workspace.root).args(["build", "--bin", "handler"]);
    if release {
        cargo.arg("--release");
    }
    let fix = "see the compiler's message above";
    let status = cargo.kill_on_drop(true).status().await.map_err(|error| {
        let fix = "install the Rust toolchain: https://rustup.rs";
        Fault::new("cargo cannot be run.", error.to_string(), fix)
    })?;
    if !status.success() {
        return Err(Fault::new("The handler does not build.", status.to_string(), fix));
    }
    let text = format!("Building handler (release: {})", if release { "yes" } else { "no" });
    report.step(Outcome::Done, &text, Some(since));
    Ok(())
}

/// Merges the lines of all processes: time, who, what. The portal gets them as well.
fn line_sink(verbose: Arc<AtomicBool>, control: Arc<Control>) -> LineSink {
    Arc::new(move |name, line| {
        control.journal.note(name, line, &now());
        if let Some(text) = lines::render(line, verbose.load(Ordering::Relaxed)) {
            output::note(format_args!("{} {name:<13} {text}", time_of_day()));
        }
    })
}

/// This moment, RFC 3339 in UTC with milliseconds.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn now() -> String {
    let form = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    time::OffsetDateTime::now_utc().format(&form).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn time_of_day() -> String {
    let form = time::macros::format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    time::OffsetDateTime::now_utc().format(&form).unwrap_or_default()
}
