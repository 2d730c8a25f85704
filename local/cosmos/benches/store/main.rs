//! What the service carries: durable writes, reads, batches and patches over plain HTTP, as
//! documents accumulate; what memory and restart cost then.
//!
//! `cargo bench -p cosmos` prints the figures and asserts nothing: machines differ. The service is
//! a process of its own (this executable again), the load generator this one; both share the
//! machine, so the processor time of each is printed beside the rates. It takes about four minutes
//! with a million documents. Arguments after `--`: `documents=100000`, `seconds=2` (per sample) and
//! `connections=4` change how much, any of `create`, `paced`, `read`, `batch`, `patch`, `poll`,
//! `restart` what, and `no-fsync` lets the service answer without waiting for the disk.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

mod load;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cosmos::{Account, Options, Server};
use load::{CONNECTIONS, Kind, Load, Until};
use mimalloc::MiMalloc;
use process::{Service, processor_time};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// As in `stack`, which is what serves elsewhere.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SERVE: &str = "serve";
const NO_FSYNC: &str = "no-fsync";
const PARTS: [&str; 7] = ["create", "paced", "read", "batch", "patch", "poll", "restart"];
const DOCUMENTS: usize = 1_000_000;
const FEW_DOCUMENTS: usize = 10_000;
const SECONDS: u64 = 5;

/// Creates per second whose latency is looked at: 70 % of what the service is meant to carry.
const PACE: f64 = 7_000.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|word| word == SERVE) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.enable_all().build().unwrap();
        return runtime.block_on(serve(Path::new(&arguments[at + 1]), !has(&arguments, NO_FSYNC)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measuring = Measuring::new(&arguments);
    runtime.block_on(tokio::task::LocalSet::new().run_until(measuring.run()));
}

fn has(arguments: &[String], word: &str) -> bool {
    arguments.iter().any(|argument| argument == word)
}

async fn serve(folder: &Path, fsync: bool) {
    let account: Account =
        serde_json::from_value(json!({"databases": [{"id": "db", "containers": [
            {"id": "c", "partitionKey": {"paths": ["/pk"]}},
        ]}]}))
        .unwrap();
    let data = Some(folder.join("data"));
    let server =
        Server::bind(Options { account, data, fsync, ..Options::default() }).await.unwrap();
    std::fs::write(folder.join("address.tmp"), server.local_addr().to_string()).unwrap();
    std::fs::rename(folder.join("address.tmp"), folder.join("address")).unwrap();
    server.run(CancellationToken::new()).await.unwrap();
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What to measure.
struct Measuring {
    documents: usize,
    sample: Duration,
    connections: usize,
    fsync: bool,
    parts: Vec<String>,
}

impl Measuring {
    fn new(arguments: &[String]) -> Self {
        let number = |name: &str| {
            let value = arguments.iter().find_map(|word| word.strip_prefix(name)?.parse().ok());
            value.map(|value: u64| value)
        };
        let chosen: Vec<_> =
            arguments.iter().filter(|word| PARTS.contains(&word.as_str())).cloned().collect();
        Self {
            documents: number("documents=").map_or(DOCUMENTS, |count| count as usize),
            sample: Duration::from_secs(number("seconds=").unwrap_or(SECONDS)),
            connections: number("connections=").map_or(CONNECTIONS, |count| count as usize),
            fsync: !has(arguments, NO_FSYNC),
            parts: if chosen.is_empty() { PARTS.map(str::to_owned).to_vec() } else { chosen },
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }

    async fn run(self) {
        let folder = std::env::temp_dir().join(format!("cosmos-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = Folder(folder);
        let mut service = Service::start(&folder.0, self.fsync).await;
        let (started, resident) = (service.started_in, service.resident_mb());
        println!("start, empty: {started:.1?}, {resident:.1} MB resident");
        let connections = self.connections;
        println!("{connections} connections, documents of 1 KB; processor time per request");
        let mut load = Load::new(service.address, connections);
        for documents in [FEW_DOCUMENTS.min(self.documents), self.documents / 2, self.documents] {
            let filled = load.fill(documents).await;
            let rate = filled.rate() * 100.0;
            if filled.requests() > 1000 {
                println!("\nfilled by requests of a hundred: {rate:.0} documents/s");
            }
            if documents == self.documents && self.wants("restart") {
                let resident = service.resident_mb();
                drop(service);
                println!("\n{} documents: {resident:.0} MB resident", load.documents());
                service = Service::start(&folder.0, self.fsync).await;
                let (started, resident) = (service.started_in, service.resident_mb());
                let used = processor_time(service.id()).as_secs_f64();
                println!(
                    "killed and started again: {started:.2?}, {used:.2} s of processor time, \
                     {resident:.0} MB resident"
                );
                load.moved_to(service.address);
            }
            println!("\nwith {} documents", load.documents());
            self.samples(&mut load, &service).await;
        }
        println!("\n{} documents: {:.0} MB resident", load.documents(), service.resident_mb());
    }

    async fn samples(&self, load: &mut Load, service: &Service) {
        for (part, kind) in [
            ("create", Kind::Create),
            ("paced", Kind::Create),
            ("read", Kind::Read),
            ("batch", Kind::Batch),
            ("patch", Kind::Patch),
            ("poll", Kind::Poll),
        ] {
            if !self.wants(part) {
                continue;
            }
            let pace = (part == "paced").then_some(PACE);
            let name = if pace.is_some() { "create at 7000/s" } else { part };
            let before = (processor_time(service.id()), processor_time(std::process::id()));
            let done = load.run(kind, Until::Time(self.sample), pace).await;
            let per_request = |before: Duration, id: u32| {
                (processor_time(id) - before).as_secs_f64() * 1e6 / done.requests() as f64
            };
            let service_us = per_request(before.0, service.id());
            let generator_us = per_request(before.1, std::process::id());
            let (p50, p99) = (done.quantile_ms(0.5), done.quantile_ms(0.99));
            println!(
                "  {name:<24} {:>7.0}/s   p50 {p50:>6.2} ms   p99 {p99:>7.2} ms   service \
                 {service_us:>4.0} µs   generator {generator_us:>4.0} µs",
                done.rate()
            );
        }
    }
}
