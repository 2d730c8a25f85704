//! What the host costs: the figures of docs/performance.md, "The host by itself".
//!
//! `cargo bench --package host` prints; nothing is asserted, because the numbers are the machine's.
//! `-- hop`, `dispatch`, `idle`, `start` measure one part, `requests=N` and `messages=N` less or more
//! of it. Host and handler are processes of their own (this executable again) as `cargo stack up`
//! runs them, their log goes nowhere; the broker lives in this process.

mod app;
mod dispatch;
mod handler;
mod hop;
mod process;
mod startup;

use std::error::Error;

use mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// As in `stack`, which is what serves elsewhere.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Requests of one load, unless said otherwise.
const REQUESTS: usize = 20_000;

/// Messages of the backlog, unless said otherwise.
const MESSAGES: usize = 30_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["host", root] => return process::serve(root),
        ["handler", ..] => return handler::serve(),
        _ => {}
    }
    // Cargo adds `--bench`.
    let wanted = |part: &str| {
        let named = words.iter().any(|word| ["hop", "dispatch", "idle", "start"].contains(word));
        !named || words.contains(&part)
    };
    let count = |name: &str, default: usize| {
        let given = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        given.map_or(Ok(default), str::parse)
    };
    let (requests, messages) = (count("requests", REQUESTS)?, count("messages", MESSAGES)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wanted("hop") {
        hop::measure(requests)?;
    }
    if wanted("dispatch") {
        runtime.block_on(dispatch::measure(messages))?;
    }
    if wanted("start") || wanted("idle") {
        runtime.block_on(startup::measure(wanted("start"), wanted("idle")))?;
    }
    Ok(())
}
