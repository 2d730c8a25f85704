//! Puts a real service, or a local stand-in, through everything this crate asks of it.
//!
//! ```text
//! cargo run -p azure --example probe -- \
//!     --cosmos "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=…" \
//!     --container <database>/<container>/<partition key property> \
//!     --bus "Endpoint=sb://127.0.0.1:5672;…;UseDevelopmentEmulator=true" \
//!     --topic <topic> --subscription <subscription> --property <name>=<value> \
//!     [--rate <seconds>]
//! ```
//!
//! Every line of output is one thing that held. The first one that does not ends the run with its
//! cause. With `--rate`, the pace and the cost of each operation are measured instead, and failures
//! are counted: break the service meanwhile to see how long callers are kept waiting.

mod bus;
mod rate;
mod store;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use azure::{
    bus::{BusClient, BusOptions},
    connection::{BusConnection, CosmosConnection},
    cosmos::{Store, StoreOptions},
};

use crate::{bus::BusProbe, store::StoreProbe};

/// Tells one thing that held, or ends the run.
macro_rules! hold {
    ($condition:expr, $($what:tt)+) => {
        if $condition {
            println!("ok   {}", format!($($what)+));
        } else {
            return Err(format!("does not hold: {} ({})", format!($($what)+), stringify!($condition)).into());
        }
    };
}

use hold;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Default)]
struct Arguments {
    cosmos: Option<String>,
    container: Option<String>,
    bus: Option<String>,
    topic: Option<String>,
    subscription: Option<String>,
    property: Option<String>,
    rate: Option<u64>,
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--cosmos" => arguments.cosmos = Some(value),
            "--container" => arguments.container = Some(value),
            "--bus" => arguments.bus = Some(value),
            "--topic" => arguments.topic = Some(value),
            "--subscription" => arguments.subscription = Some(value),
            "--property" => arguments.property = Some(value),
            "--rate" => arguments.rate = Some(value.parse()?),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok(arguments)
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = arguments()?;
    if let Some(text) = &arguments.cosmos {
        let place = arguments.container.as_deref().ok_or("--container is needed")?;
        let [database, container, key] = place.split('/').collect::<Vec<_>>()[..] else {
            return Err("--container a/b/c".into());
        };
        let connection = CosmosConnection::from_connection_string(text)?;
        let store = Store::new(connection, database, StoreOptions::default());
        let started = Instant::now();
        store.ping().await.map_err(chain)?;
        println!("ok   connected to the store in {:?}", started.elapsed());
        let probe =
            StoreProbe { container: store.container(container), store, key: key.to_owned() };
        match arguments.rate {
            None => probe.check().await.map_err(|error| format!("store: {error}"))?,
            Some(seconds) => probe.measure(Duration::from_secs(seconds)).await?,
        }
    }
    if let Some(text) = &arguments.bus {
        let connection = BusConnection::from_connection_string(text)?;
        let client = BusClient::new(connection, BusOptions::default());
        let started = Instant::now();
        client.ping().await.map_err(chain)?;
        println!("ok   connected to the broker in {:?}", started.elapsed());
        let probe = BusProbe {
            client,
            topic: arguments.topic.clone().ok_or("--topic is needed")?,
            subscription: arguments.subscription.clone().ok_or("--subscription is needed")?,
            property: arguments
                .property
                .as_deref()
                .and_then(|text| text.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        };
        match arguments.rate {
            None => probe.check().await.map_err(|error| format!("bus: {error}"))?,
            Some(seconds) => probe.measure(Duration::from_secs(seconds)).await?,
        }
    }
    Ok(())
}

/// An error with its causes, on one line.
fn chain(error: impl Error) -> Box<dyn Error + Send + Sync> {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.into()
}
