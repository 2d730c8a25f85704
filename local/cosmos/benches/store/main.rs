//! What the service carries: durable writes, reads, batches and patches over plain HTTP, as
//! documents accumulate; what memory and restart cost then.
//!
//! `cargo bench -p cosmos` prints the figures and asserts nothing: machines differ. The service is
//! a process of its own (this executable again), the load generator this one; both share the
//! machine. `-- documents=100000` changes how many documents there are
//! in the end.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cosmos::{Account, EMULATOR_KEY, Options, Server};
use load::{Kind, Load};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const SERVE: &str = "serve";
const DOCUMENTS: usize = 1_000_000;
const CONNECTIONS: usize = 64;
const SAMPLE: Duration = Duration::from_secs(6);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|word| word == SERVE) {
        Some(at) => runtime.block_on(serve(Path::new(&arguments[at + 1]))),
        None => runtime.block_on(measure()),
    }
}

async fn serve(folder: &Path) {
    let account: Account =
        serde_json::from_value(json!({"databases": [{"id": "db", "containers": [
            {"id": "c", "partitionKey": {"paths": ["/pk"]}},
        ]}]}))
        .unwrap();
    let data = Some(folder.join("data"));
    let server = Server::bind(Options { account, data, ..Options::default() }).await.unwrap();
    std::fs::write(folder.join("address.tmp"), server.local_addr().to_string()).unwrap();
    std::fs::rename(folder.join("address.tmp"), folder.join("address")).unwrap();
    server.run(CancellationToken::new()).await.unwrap();
}

/// The service as a process; killed when dropped.
struct Service {
    process: Child,
    address: SocketAddr,
    started_in: Duration,
}

impl Service {
    async fn start(folder: &Path) -> Self {
        let ready = folder.join("address");
        let _ = std::fs::remove_file(&ready);
        let begun = Instant::now();
        let process = Command::new(std::env::current_exe().unwrap())
            .arg(SERVE)
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break text.parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        Self { process, address, started_in: begun.elapsed() }
    }

    /// Resident memory in MB.
    fn resident_mb(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kb = line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok());
        kb.unwrap_or(f64::NAN) / 1024.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn measure() {
    let wanted = std::env::args().find_map(|word| word.strip_prefix("documents=")?.parse().ok());
    let documents: usize = wanted.unwrap_or(DOCUMENTS);
    let folder = std::env::temp_dir().join(format!("cosmos-bench-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = Folder(folder);
    let service = Service::start(&folder.0).await;
    println!("start, empty: {:.1?}, {:.1} MB resident", service.started_in, service.resident_mb());
    let mut load = Load::new(service.address, EMULATOR_KEY);
    load.run(Kind::Create, CONNECTIONS, None, Some(2000)).await;
    for part in 1..=4 {
        let until = documents * part / 4;
        // What is measured comes first, so that all four steps are alike.
        println!("\nwith {} documents", load.created());
        for kind in [Kind::Create, Kind::Read, Kind::Batch, Kind::Patch] {
            let done = load.run(kind, CONNECTIONS, Some(SAMPLE), None).await;
            done.print(&format!("{kind:?}, {CONNECTIONS} connections"));
            if kind == Kind::Create {
                let paced = done.rate() * 0.7;
                let paced = load.paced(kind, CONNECTIONS, SAMPLE, paced).await;
                paced.print("Create at 70 % of that");
            }
        }
        let missing = until.saturating_sub(load.created());
        load.run(Kind::Create, CONNECTIONS, None, Some(missing)).await;
    }
    println!("\nwith {} documents", load.created());
    for kind in [Kind::Read, Kind::Create] {
        let done = load.run(kind, CONNECTIONS, Some(SAMPLE), None).await;
        done.print(&format!("{kind:?}, {CONNECTIONS} connections"));
    }
    println!("{:.0} MB resident", service.resident_mb());
    drop(service);
    let service = Service::start(&folder.0).await;
    println!(
        "killed and started again: {:.2?}, {:.0} MB resident",
        service.started_in,
        service.resident_mb()
    );
}
