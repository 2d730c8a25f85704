//! Serves a topology file alone, for SDK suites and by hand:
//! `cargo run -p cosmos --example serve -- --listen 127.0.0.1:0 --topology FILE [--ready-file FILE]
//! [--request-units N]`. The executable of the product is `stack serve cosmos`.

use std::collections::HashMap;
use std::error::Error;

use cosmos::{Account, Options, Server};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = HashMap::new();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") => flags.insert(name.as_str(), value.as_str()),
            _ => return Err(format!("expected --name value, got {pair:?}").into()),
        };
    }
    let mut options = Options::default();
    if let Some(listen) = flags.get("--listen") {
        options.listen = listen.parse()?;
    }
    if let Some(path) = flags.get("--topology") {
        options.account = account(&std::fs::read_to_string(path)?)?;
    }
    if let Some(units) = flags.get("--request-units") {
        options.request_units_per_second = Some(units.parse()?);
    }
    let server = Server::bind(options).await?;
    let address = server.local_addr();
    if let Some(path) = flags.get("--ready-file") {
        // Whoever waits for the file must never see half of it.
        let partial = format!("{path}.partial");
        std::fs::write(&partial, serde_json::json!({"address": address}).to_string())?;
        std::fs::rename(&partial, path)?;
    }
    println!("Cosmos DB stand-in at http://{address}");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let stopped = async move {
        tokio::signal::ctrl_c().await?;
        stop.cancel();
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(async { server.run(shutdown).await.map_err(std::io::Error::other) }, stopped)?;
    Ok(())
}

/// The account in a topology file: its `cosmos` section, or the whole file.
fn account(text: &str) -> Result<Account, serde_json::Error> {
    let mut topology: serde_json::Value = serde_json::from_str(text)?;
    let section = topology.get_mut("cosmos").map(serde_json::Value::take).unwrap_or(topology);
    serde_json::from_value(section)
}
