//! `cargo stack`: the whole system on one machine.

// A closed pipe must not end in a panic: see `output` and `report`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use stack::fault::Fault;
use stack::report::Report;
use stack::topology::Topology;
use stack::workspace::Workspace;
use stack::{
    app, declare, dlq, doctor, emulators, logs, order, output, package, serve, settings, slo,
    stage, up,
};

/// As in the handlers: the services build and drop many small things.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Runs Bulkhead on one machine: no Docker, no cloud, no account.
#[derive(Debug, Parser)]
#[command(name = "stack", bin_name = "cargo stack", version)]
enum Cli {
    /// Builds, stages and starts everything; Ctrl-C stops it.
    Up(up::Options),
    /// Lays out target/apps/<app>, as `func start` and the deployment want it.
    Stage {
        /// The apps; none means all.
        apps: Vec<String>,
        /// With the handler that packages contain, in place of this profile's.
        #[arg(long)]
        release: bool,
    },
    /// Makes target/packages/<app>.zip of the static release build, refusing anything else.
    Package(package::Options),
    /// Prints the local.settings.json of an app, for `func start`.
    Settings {
        /// One more setting, `NAME=VALUE`; may be repeated, and wins.
        #[arg(long, value_parser = serve::name_and_value)]
        set: Vec<(String, String)>,
    },
    /// Prints the Config.json of the official Service Bus emulator.
    Emulators,
    /// Creates databases, containers and queues on the official emulators, and writes the seed.
    Declare(declare::Options),
    /// Dead letters of a running system: see, replay, discard, and who did so.
    Dlq(dlq::Options),
    /// What the processes of a running stack print, filtered.
    Logs(logs::Options),
    /// Orders of a running system: submit, show, watch.
    Order(order::Options),
    /// Checks what the stack needs and says what is missing.
    Doctor,
    /// Says how a running system keeps its service levels; fails where it does not.
    Slo(slo::Options),
    /// Runs any custom-handler app from its folder, as `func start` does.
    Host(app::Options),
    /// Runs one service by itself.
    #[command(subcommand)]
    Serve(serve::Role),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match cli {
        Cli::Serve(serve::Role::Host { .. }) => host::runtime(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            Report::default().line(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli));
    // A read of standard input cannot be called off, and would hold up a process that is done.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(Failure::Fault(fault)) => {
            Report::default().line(&format!("\n  (x) Failed: {fault}"));
            ExitCode::FAILURE
        }
        Err(Failure::Other(error)) => {
            Report::default().line(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Fault(Fault),
    Other(anyhow::Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli {
        Cli::Up(options) => up::up(options).await?,
        Cli::Stage { apps, release } => {
            let workspace = Workspace::locate()?;
            let topology = Topology::read(&workspace.topology())?;
            let handler = if release { workspace.release_handler() } else { workspace.handler() };
            let into = &workspace.apps;
            for directory in stage::stage_with(&workspace, &topology, &apps, &handler, into)? {
                output::line(directory.display());
            }
        }
        Cli::Package(options) => {
            let workspace = Workspace::locate()?;
            let topology = Topology::read(&workspace.topology())?;
            for package in package::package(&workspace, &topology, &options)? {
                let (path, bytes) = (package.path.display(), package.bytes);
                output::line(format_args!("{path}  {bytes} bytes  sha256 {}", package.sha256));
            }
        }
        Cli::Settings { set } => {
            let settings = settings::local(&Workspace::locate()?, &set)?;
            output::line(format_args!("{settings:#}"));
        }
        Cli::Emulators => {
            let topology = Topology::read(&Workspace::locate()?.topology())?;
            let config = emulators::bus(&topology)?;
            for lowered in &config.lowered {
                Report::default().line(&format!("lowered for the emulator: {lowered}"));
            }
            output::line(format_args!("{:#}", config.document));
        }
        Cli::Declare(options) => {
            let workspace = Workspace::locate()?;
            let topology = Topology::read(&workspace.topology())?;
            let done = declare::declare(&workspace, &topology, &options).await?;
            let (created, seeded) = (done.created, done.seeded);
            output::line(format_args!("{created} created, {seeded} documents written"));
        }
        Cli::Dlq(options) => output::print(dlq::dlq(options).await?),
        Cli::Logs(options) => logs::logs(&options).await?,
        Cli::Order(options) => order::order(options).await?,
        Cli::Doctor => {
            return Ok(if doctor::doctor()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Cli::Slo(options) => {
            let kept = slo::slo(&options).await.map_err(Failure::Other)?;
            return Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Cli::Host(options) => app::run(options).await.map_err(Failure::Other)?,
        Cli::Serve(role) => {
            init_logging();
            serve::serve(role).await.map_err(Failure::Other)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Services log to standard error: standard output says when they are ready.
fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
}
