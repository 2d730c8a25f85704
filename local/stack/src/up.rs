//! `stack up`: build, stage, start, seed, say what runs where, keep it running, stop it in order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::child::{LineSink, Running, Spec};
use crate::endpoints::{Endpoints, Process, write_ready_file};
use crate::fault::Fault;
use crate::report::{Outcome, Report};
use crate::serve::{BUS_KEY, BUS_KEY_NAME, COSMOS_KEY};
use crate::topology::Topology;
use crate::workspace::Workspace;
use crate::{lines, ports, seed, stage};

/// Pause before a process that died is started again, so that one that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How the stack is started.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one flag each on the command line")]
pub struct Options {
    /// Port of the portal and the API; 0 chooses a free one.
    #[arg(long, default_value_t = 7071)]
    pub port: u16,
    /// Port of the Cosmos DB stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = 8081)]
    pub cosmos_port: u16,
    /// Port of the Service Bus stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = 5672)]
    pub bus_port: u16,
    /// Does not build the handler first.
    #[arg(long)]
    pub no_build: bool,
    /// Starts with an empty store.
    #[arg(long)]
    pub no_seed: bool,
    /// Stages into this directory.
    #[arg(long)]
    pub apps_dir: Option<PathBuf>,
    /// Writes where everything is to this file once ready.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// Prints every line of every process, invocations included.
    #[arg(long, short)]
    pub verbose: bool,
    /// Refuses orders that ask for failures.
    #[arg(long)]
    pub no_faults: bool,
    /// Stops when standard input closes, as it does when the parent dies.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

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
    ports::check_free(options.port, "--port")?;
    ports::check_free(options.cosmos_port, "--cosmos-port")?;
    ports::check_free(options.bus_port, "--bus-port")?;

    if options.no_build {
        report.step(Outcome::Skipped, "Building handler", None);
    } else {
        build(&workspace, &report).await?;
    }
    let since = Instant::now();
    let staged = stage::stage(&workspace, &topology, &[])?;
    let text = format!("Staging {} function apps → {}", staged.len(), workspace.apps.display());
    report.step(Outcome::Done, &text, Some(since));

    let readers = TaskTracker::new();
    let mut stack = Stack {
        lines: line_sink(options.verbose),
        readers,
        options,
        workspace,
        topology,
        services: Vec::new(),
        hosts: Vec::new(),
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
    readers: TaskTracker,
    /// Cosmos and bus, each with how to start it again.
    services: Vec<(Spec, Running)>,
    /// One host per app.
    hosts: Vec<(Spec, Running)>,
}

impl Stack {
    async fn start(&mut self, report: &Report) -> Result<(), Fault> {
        let topology = self.workspace.topology();
        let cosmos = self.service("cosmos", self.options.cosmos_port, &topology);
        let since = Instant::now();
        let cosmos = self.launch(cosmos).await?;
        let cosmos_endpoint = format!("http://{cosmos}");
        let (databases, containers) = self.topology.containers();
        let text = format!(
            "Starting cosmos  {cosmos_endpoint}  {databases} database, {containers} containers"
        );
        report.step(Outcome::Done, &text, Some(since));

        let bus = self.service("bus", self.options.bus_port, &topology);
        let since = Instant::now();
        let bus = self.launch(bus).await?;
        let text = format!("Starting bus     amqp://{bus}  {}", self.topology.topics());
        report.step(Outcome::Done, &text, Some(since));

        self.seed(&cosmos_endpoint, report).await?;

        let since = Instant::now();
        let endpoints = |http: String, processes| Endpoints {
            http,
            cosmos: cosmos_endpoint.clone(),
            cosmos_key: COSMOS_KEY.to_owned(),
            bus: format!(
                "Endpoint=sb://{bus};SharedAccessKeyName={BUS_KEY_NAME};\
                 SharedAccessKey={BUS_KEY};UseDevelopmentEmulator=true;"
            ),
            processes,
        };
        let settings = self.settings(&endpoints(String::new(), Vec::new()));
        for index in 0..self.topology.apps.len() {
            let spec = self.host(index, &settings);
            let running = Running::start(&spec, &self.lines, &self.readers).await?;
            let spec = pin_port(spec, running.address());
            self.hosts.push((spec, running));
        }
        let text = format!("Starting {} hosts", self.hosts.len());
        report.step(Outcome::Done, &text, Some(since));

        let address = self.hosts.first().map(|(_, host)| host.address()).unwrap_or_default();
        let endpoints = endpoints(format!("http://{address}"), self.processes());
        self.say_where(&endpoints, report);
        if let Some(path) = &self.options.ready_file {
            write_ready_file(path, &endpoints).map_err(|error| {
                let why = format!("{}: {error}", path.display());
                Fault::new("The ready file cannot be written.", why, "choose another path")
            })?;
        }
        Ok(())
    }

    /// Starts a service and remembers the port it got, for the next time; its address.
    async fn launch(&mut self, spec: Spec) -> Result<String, Fault> {
        let running = Running::start(&spec, &self.lines, &self.readers).await?;
        let address = running.address().to_owned();
        self.services.push((pin_port(spec, &address), running));
        Ok(address)
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

    fn service(&self, role: &str, port: u16, topology: &Path) -> Spec {
        let arguments = ["serve", role, "--until-stdin-closes", "--topology"];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
        arguments.push(topology.display().to_string());
        arguments.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        Spec {
            name: role.to_owned(),
            program: self.workspace.stack(),
            arguments,
            environment: Vec::new(),
        }
    }

    fn host(&self, index: usize, settings: &[(String, String)]) -> Spec {
        let app = &self.topology.apps[index];
        // The first app is the one that people open; the others have only admin endpoints.
        let port = if index == 0 { self.options.port } else { 0 };
        let root = self.workspace.apps.join(&app.name);
        let arguments = ["serve", "host", "--until-stdin-closes", "--root"];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
        arguments.push(root.display().to_string());
        arguments.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        Spec {
            name: app.name.clone(),
            program: self.workspace.stack(),
            arguments,
            environment: settings.to_vec(),
        }
    }

    /// The app settings: what the portal of Azure would hold, with the stand-ins' endpoints.
    fn settings(&self, endpoints: &Endpoints) -> Vec<(String, String)> {
        let store = Topology::connection(&self.topology.cosmos);
        let bus = Topology::connection(&self.topology.service_bus);
        let store_value =
            format!("AccountEndpoint={}/;AccountKey={};", endpoints.cosmos, endpoints.cosmos_key);
        vec![
            ("FUNCTIONS_WORKER_RUNTIME".to_owned(), "custom".to_owned()),
            (store.to_owned(), store_value),
            (bus.to_owned(), endpoints.bus.clone()),
            // The store's client would ask Azure's metadata service where it runs.
            ("COSMOS_DISABLE_IMDS".to_owned(), "1".to_owned()),
            ("LOG_FORMAT".to_owned(), "json".to_owned()),
            ("FAULTS_ALLOWED".to_owned(), (!self.options.no_faults).to_string()),
        ]
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
        report.line(&format!("\n  Portal:  {http}/\n  API:     {http}/api/orders"));
        report.line(&format!(
            "  Try:     curl -i -X POST {http}/api/orders -H 'content-type: application/json' \
             -d @tests/fixtures/order.json\n  Stop:    Ctrl-C\n"
        ));
    }

    /// Restarts whatever dies, for as long as it is polled.
    async fn keep_running(&mut self, report: &Report) -> Result<(), Fault> {
        loop {
            let (index, status) = any_exit(self.services.iter_mut().chain(&mut self.hosts)).await;
            let is_service = index < self.services.len();
            let (spec, running) = if is_service {
                &mut self.services[index]
            } else {
                &mut self.hosts[index - self.services.len()]
            };
            let text = format!("{} exited ({status}); starting it again", spec.name);
            report.step(Outcome::Warning, &text, None);
            tokio::time::sleep(RESTART_PAUSE).await;
            *running = Running::start(spec, &self.lines, &self.readers).await?;
            report.step(Outcome::Done, &format!("Starting {}", spec.name), None);
            if spec.name == "cosmos" {
                let endpoint = format!("http://{}", running.address());
                self.seed(&endpoint, report).await?;
            }
        }
    }

    /// Hosts first: they finish what they have begun while the services are still there.
    async fn stop(self, report: &Report) {
        let since = Instant::now();
        futures_join(self.hosts.into_iter().map(|(_, host)| host.stop())).await;
        futures_join(self.services.into_iter().map(|(_, service)| service.stop())).await;
        self.readers.close();
        self.readers.wait().await;
        report.step(Outcome::Done, "Stopping", Some(since));
    }
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

/// The same start with the port that was chosen the first time: others have it in their settings.
fn pin_port(mut spec: Spec, address: &str) -> Spec {
    if let Some(position) = spec.arguments.iter().position(|argument| argument == "--listen") {
        spec.arguments[position + 1] = address.to_owned();
    }
    spec
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

/// Cancelled by Ctrl-C, SIGTERM, or the end of standard input if asked for.
pub(crate) fn stop_signal(until_stdin_closes: bool) -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let cancel = token.clone();
    let asked = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            }
            // Without a handler the signal ends the process, which is what is wanted.
            Err(_) => std::future::pending().await,
        }
    };
    let parent_gone = async move {
        if until_stdin_closes {
            let mut sink = [0; 64];
            let mut stdin = tokio::io::stdin();
            while let Ok(1..) = stdin.read(&mut sink).await {}
        } else {
            std::future::pending::<()>().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "lives exactly as long as the process")]
    tokio::spawn(async move {
        tokio::select! {
            () = asked => {}
            () = parent_gone => {}
        }
        cancel.cancel();
    });
    token
}

/// Merges the lines of all processes: time, who, what.
fn line_sink(verbose: bool) -> LineSink {
    Arc::new(move |name, line| {
        if let Some(text) = lines::render(line, verbose) {
            // A closed terminal must not stop the system.
            let _ = writeln!(std::io::stdout().lock(), "{} {name:<13} {text}", time_of_day());
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn time_of_day() -> String {
    let form = time::macros::format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    time::OffsetDateTime::now_utc().format(&form).unwrap_or_default()
}
