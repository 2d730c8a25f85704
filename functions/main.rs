//! The executable of every Function App: binds the port that the Functions host chose, then serves
//! the functions that are staged beside it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use azure::bus::BusClient;
use azure::cosmos::Store;
use functions::order_api::OrderApi;
use functions::outbox::{Outbox, Publisher};
use functions::settings::Settings;
use functions::staging::{self, Function};
use functions::store::OrderStore;
use functions::topology::TOPOLOGY;
use functions::{billing, inventory, notification};
use handler::{App, Config, Server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handler: {error:#}");
            // Exit code 0 would tell the host that all is well, and it would not start us again.
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    // Bound before anything else: connections wait in the backlog while the rest is made ready.
    let config = Config::from_env()?;
    let server = Server::bind(&config).await?;

    let functions = staging::discover(&app_root()?)?;
    let publishes = functions.contains(&Function::Http);
    let settings = Settings::from_env(publishes)?;
    handler::logging::init(Some(&settings.log_filter), settings.log_format)?;

    let shutdown = CancellationToken::new();
    let background = TaskTracker::new();
    let (app, publisher) = app(&functions, settings)?;
    if let Some(publisher) = publisher {
        background.spawn(publisher.run(shutdown.clone()));
    }
    background.close();
    let served = server.serve(app, handler::shutdown_signal()).await;
    shutdown.cancel();
    background.wait().await;
    served.context("serving stopped")
}

/// The folder that holds the function folders.
fn app_root() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe().context("the executable's own path is unknown")?;
    let root = executable.parent().context("the executable lies in no folder")?;
    Ok(root.to_owned())
}

/// Mounts what is staged, over clients that connect on first use.
fn app(functions: &[Function], settings: Settings) -> anyhow::Result<(App, Option<Publisher>)> {
    let store = Store::new(settings.store, TOPOLOGY.database(), Default::default());
    let store = OrderStore::new(store);
    let mut app = App::new();
    let mut publisher = None;
    for function in functions {
        app = match function {
            Function::Http => {
                let bus = settings.bus.clone().context("the app publishes, so it needs a bus")?;
                let bus = BusClient::new(bus, Default::default());
                let (outbox, runs) = Outbox::new(store.clone(), bus.sender(&TOPOLOGY.topic().name));
                publisher = Some(runs);
                let api = OrderApi::new(store.clone(), outbox, settings.faults_allowed);
                app.http(api.router())
            }
            Function::Reserve => inventory::mount(app, store.clone()),
            Function::Charge => billing::mount(app, store.clone()),
            Function::Notify => notification::mount(app, store.clone()),
        };
    }
    Ok((app, publisher))
}
