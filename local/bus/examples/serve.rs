//! Serves the namespace of a topology file until Ctrl-C: `serve <topology.json> [ready-file]`.
//!
//! Prints `listening 127.0.0.1:PORT`; a ready file gets `{"address": "127.0.0.1:PORT"}`.

use std::error::Error;

use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let topology = arguments.next().ok_or("usage: serve <topology.json> [ready-file]")?;
    let ready_file = arguments.next();

    let mut topology: serde_json::Value = serde_json::from_slice(&std::fs::read(topology)?)?;
    let namespace = serde_json::from_value(topology["serviceBus"].take())?;
    let options = bus::Options { namespace, ..bus::Options::default() };
    let server = bus::Server::bind(options).await?;
    let address = server.local_addr();
    println!("listening {address}");
    if let Some(path) = ready_file {
        std::fs::write(path, serde_json::json!({ "address": address }).to_string())?;
    }

    let shutdown = CancellationToken::new();
    let mut run = std::pin::pin!(server.run(shutdown.clone()));
    tokio::select! {
        served = run.as_mut() => return Ok(served?),
        _ = tokio::signal::ctrl_c() => shutdown.cancel(),
    }
    Ok(run.await?)
}
