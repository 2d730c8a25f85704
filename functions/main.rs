//! The executable of every Function App: binds the port that the Functions host chose, then serves
//! the functions that are staged beside it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use azure::bus::{BusClient, BusOptions};
use azure::cosmos::{Store, StoreOptions, StoreStats};
use functions::access::Access;
use functions::access::trail::Refusals;
use functions::crash;
use functions::grid::Grid;
use functions::order_api::OrderApi;
use functions::payments::bank::Bank;
use functions::publisher::{Channel, Outbox, Publisher};
use functions::settings::Settings;
use functions::staging::{self, Function};
use functions::store::OrderStore;
use functions::topology::TOPOLOGY;
use functions::{billing, inventory, notification, payments};
use handler::{App, Config, Server, telemetry};
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Most of what a handler does is to build and drop small things: requests, headers, documents. The
/// allocators of glibc and, far more so, of musl take several times as long for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often the totals of the store are logged, at level debug.
const COSTS_EVERY: Duration = Duration::from_secs(2);

/// On one thread: the smallest instance of Flex Consumption has a quarter of a processor, the usual
/// one has one, and what the apps do is to wait. A second thread is woken for every other message
/// and has next to nothing to do then: orders cost a tenth less without it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        // Never 0: the host takes that for a handler that is well, and does not start another.
        Ok(()) => ExitCode::from(handler::EXIT_RESTART),
        Err(error) => {
            eprintln!("handler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    // Bound before anything else: connections wait in the backlog while the rest is made ready.
    let config = Config::from_env()?;
    let server = Server::bind(&config).await?;

    let functions = staging::discover(&app_root()?)?;
    let mut settings = Settings::from_env(&functions)?;
    handler::logging::init(Some(&settings.log_filter), settings.log_format)?;

    crash::arm_from(settings.crash_points.clone());

    let shutdown = CancellationToken::new();
    let background = TaskTracker::new();
    let store = Store::new(settings.store.clone(), TOPOLOGY.database(), StoreOptions::default());
    let store = OrderStore::new(store);
    if let Some(destination) = settings.telemetry.take() {
        let exporter = telemetry::start(functions::telemetry::options(destination, &functions))?;
        background.spawn(exporter.run(shutdown.clone()));
    }
    let (refusals, trail) = Refusals::new(store.audit());
    let (app, publisher) = app(&functions, &store, &settings, &refusals)?;
    background.spawn(trail.run(shutdown.clone()));
    background.spawn(publisher.run(shutdown.clone()));
    // The first order should not pay for the connection. If the store is not there yet, it does.
    background.spawn(shutdown.clone().run_until_cancelled_owned(store.clone().warm_up()));
    background.spawn(shutdown.clone().run_until_cancelled_owned(tell_costs(store.clone())));
    background.close();
    let served = server.serve(app, handler::shutdown_signal()).await;
    shutdown.cancel();
    background.wait().await;
    served.context("serving stopped")
}

/// Says now and then what the store has cost, for whoever asks for such lines.
async fn tell_costs(store: OrderStore) {
    let mut before = StoreStats::default();
    loop {
        tokio::time::sleep(COSTS_EVERY).await;
        let stats = store.stats();
        if stats != before {
            debug!(
                requests = stats.requests,
                request_units = stats.request_units,
                retries = stats.retries,
                throttled = stats.throttled,
                "store totals"
            );
            before = stats;
        }
    }
}

/// The folder that holds the function folders.
fn app_root() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("the executable's own path is unknown")?;
    let root = executable.parent().context("the executable lies in no folder")?;
    Ok(root.to_owned())
}

/// Mounts what is staged, over clients that connect on first use.
fn app(
    functions: &[Function],
    store: &OrderStore,
    settings: &Settings,
    refusals: &Refusals,
) -> anyhow::Result<(App, Publisher)> {
    let bus = BusClient::new(settings.bus.clone(), BusOptions::default());
    let channel = Channel::new(store.clone(), bus.sender(&TOPOLOGY.topic().name));
    let (outbox, publisher) = Outbox::new(channel.clone());
    let mut app = App::new();
    for function in functions {
        let (store, outbox) = (store.clone(), outbox.clone());
        app = match function {
            Function::Http => {
                let access = settings.access.as_ref().context("the app serves, so it asks who")?;
                let access = Access::new(access, refusals.clone())?;
                access.announce();
                app.http(OrderApi::new(store, outbox, settings, access).router())
            }
            Function::Reserve => inventory::mount(app, &bus, store, outbox),
            Function::Charge => billing::mount(app, &bus, store, outbox),
            Function::Settle => payments::mount(app, &bus, store, outbox, bank(settings)?),
            Function::Notify => {
                let grid = Grid::new(settings.grid.clone())?;
                notification::mount(app, &bus, store, outbox, grid)
            }
            Function::Relay => functions::outbox::mount_relay(app, channel.clone()),
            Function::Sweep => {
                let queues = settings.queues.as_ref();
                functions::outbox::mount_sweep(app, channel.clone(), &bus, queues)
            }
            Function::Reconcile => functions::outbox::mount_reconcile(app, store, bank(settings)?),
        };
    }
    Ok((app, publisher))
}

/// A client of the bank, for the functions that speak to it.
fn bank(settings: &Settings) -> anyhow::Result<Bank> {
    let url = settings.bank.clone().context("the app speaks to the bank, so it needs one")?;
    Ok(Bank::new(url)?)
}
