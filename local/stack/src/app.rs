//! `cargo stack host`: any custom-handler app from its folder, in one instance or in many.
//!
//! Several instances compete for messages, leases and calls, as they do when Azure scales out:
//! each has a handler process of its own. Timers run in one of them, as a lock sees to in Azure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use host::{FunctionInfo, Host, Level, LocalHost, LogLine};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::output;
use crate::ports::check_free;
use crate::serve::settings;
use crate::signal::stop_signal;

/// The port of `func start`.
const PORT: u16 = 7071;

/// Connections that are passed on at once; further ones wait in the listen backlog.
const CONNECTIONS_MAX: usize = 400;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The folder with host.json, the handler, and one folder per function.
    #[arg(default_value = ".")]
    pub root: PathBuf,
    /// Where callers reach the app; 0 chooses a free port [default: LocalHttpPort of
    /// local.settings.json, or 7071].
    #[arg(long)]
    pub port: Option<u16>,
    /// How many instances compete.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub instances: u16,
    /// Gives every scaling group its own instances, as Flex Consumption does: one group for all
    /// HTTP functions, one for each other function.
    #[arg(long)]
    pub per_function: bool,
    /// Asks callers for keys; this one opens everything.
    #[arg(long, env = "STACK_MASTER_KEY", hide_env_values = true)]
    pub master_key: Option<String>,
    /// Takes faults at PUT /admin/local/faults.
    #[arg(long)]
    pub faults: bool,
    /// Keeps the schedules of timers in this directory.
    #[arg(long)]
    pub state: Option<PathBuf>,
    /// Announces the length of envelopes, as `func` does, instead of sending chunks, as Azure does.
    #[arg(long)]
    pub announce_length: bool,
}

/// One instance: what it is called, and which functions it serves.
#[derive(Debug, PartialEq, Eq)]
struct Instance {
    name: String,
    only: Option<BTreeSet<String>>,
    takes_calls: bool,
}

/// Runs the app until it is told to stop.
///
/// # Errors
/// The app cannot be run, or an instance has given up.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let local = LocalHost::read(&options.root);
    let port = options.port.or(local.port).unwrap_or(PORT);
    check_free(port, "--port")?;
    let one_for_all = options.instances == 1 && !options.per_function;
    let public = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bind = async |listen, only, settings, name: String| {
        let log = Arc::new(move |line: LogLine| print(&name, &line));
        let mut options_of = host::Options::new(options.root.clone(), listen, settings, log);
        options_of.only = only;
        options_of.local = local.clone();
        options_of.key.clone_from(&options.master_key);
        options_of.faults_over_http = options.faults;
        options_of.state.clone_from(&options.state);
        options_of.announce_length = options.announce_length;
        Host::bind(options_of).await
    };
    if one_for_all {
        let host = bind(public, None, settings(), String::new()).await?;
        return Ok(host.run(stop_signal(false)).await?);
    }
    let front = TcpListener::bind(public).await.context("the port cannot be used")?;
    let public = front.local_addr()?;
    let mut settings = settings();
    // Handlers make links of it, and nobody outside knows the port of an instance.
    let shown = || format!("localhost:{}", public.port());
    settings.entry("WEBSITE_HOSTNAME".to_owned()).or_insert_with(shown);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let silent = Arc::new(|_: LogLine| {});
    let first = host::Options::new(options.root.clone(), any, settings.clone(), silent);
    let functions = Host::bind(first).await?.functions().to_vec();
    let stop = stop_signal(false);
    let (mut hosts, mut behind) = (JoinSet::new(), Vec::new());
    for Instance { name, only, takes_calls } in plan(&functions, &options) {
        let host = bind(any, only, settings.clone(), name).await?;
        if takes_calls {
            behind.push(host.local_addr());
        }
        hosts.spawn(host.run(stop.clone()));
    }
    output::note(format_args!("{} instances behind http://{}", hosts.len(), shown()));
    hosts.spawn({
        let stop = stop.clone();
        async move {
            pass_on(front, behind, stop).await;
            Ok(())
        }
    });
    let mut outcome = Ok(());
    while let Some(ended) = hosts.join_next().await {
        if let Err(error) = ended? {
            outcome = Err(error);
        }
        // One that gives up ends the others: somebody has to look at it first.
        stop.cancel();
    }
    Ok(outcome?)
}

/// Which instances there are.
fn plan(functions: &[FunctionInfo], options: &Options) -> Vec<Instance> {
    let is = |function: &FunctionInfo, kind: &str| function.trigger_type.eq_ignore_ascii_case(kind);
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for function in functions {
        let group = match (options.per_function, is(function, "httpTrigger")) {
            (false, _) => String::new(),
            (true, true) => "http".to_owned(),
            (true, false) => function.name.clone(),
        };
        groups.entry(group).or_default().insert(function.name.clone());
    }
    let calls = groups.keys().position(|group| group == "http").unwrap_or_default();
    let timers: BTreeSet<String> = functions
        .iter()
        .filter(|function| is(function, "timerTrigger"))
        .map(|function| function.name.clone())
        .collect();
    let mut instances = Vec::new();
    for (index, (group, members)) in groups.iter().enumerate() {
        for number in 1..=options.instances {
            let mut only = members.clone();
            if number > 1 {
                only.retain(|name| !timers.contains(name));
            }
            if only.is_empty() {
                continue;
            }
            let name =
                if group.is_empty() { number.to_string() } else { format!("{group} {number}") };
            instances.push(Instance { name, only: Some(only), takes_calls: index == calls });
        }
    }
    instances
}

/// Passes connections on to the instances, one after the other, until `stop`.
async fn pass_on(front: TcpListener, behind: Vec<SocketAddr>, stop: CancellationToken) {
    let (slots, tasks) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    let next = AtomicUsize::new(0);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((front.accept().await?.0, slot))
        };
        let (mut caller, slot) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    // For want of descriptors, most likely: asking again at once would not help.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let chosen = next.fetch_add(1, Ordering::Relaxed);
        let Some(address) = behind.get(chosen % behind.len().max(1)).copied() else { continue };
        let passed_on = async move {
            if let Ok(mut instance) = TcpStream::connect(address).await {
                let _ = (caller.set_nodelay(true), instance.set_nodelay(true));
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut instance).await;
            }
            drop(slot);
        };
        // The instances end what is under way in time; then these end as well.
        tasks.spawn(passed_on);
    }
    drop(front);
    tasks.close();
    tasks.wait().await;
}

/// Host log lines on standard output, errors included, as `func` prints them.
fn print(instance: &str, line: &LogLine) {
    let level = match line.level {
        Level::Debug => return,
        Level::Information => "",
        Level::Warning => "warning: ",
        Level::Error => "error: ",
    };
    let who = if instance.is_empty() { String::new() } else { format!("[{instance}] ") };
    output::note(format_args!("{who}{level}{}", line.text));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn function(name: &str, trigger: &str) -> FunctionInfo {
        FunctionInfo {
            name: name.to_owned(),
            trigger_type: trigger.to_owned(),
            methods: Vec::new(),
            route: None,
            url: None,
            entity: None,
            disabled: false,
            problems: Vec::new(),
            config: Value::Null,
        }
    }

    fn planned(arguments: &[&str]) -> Vec<(String, String, bool)> {
        let functions = [
            function("charge", "serviceBusTrigger"),
            function("pay", "httpTrigger"),
            function("show", "httpTrigger"),
            function("sweep", "timerTrigger"),
        ];
        let options = Cli::try_parse_from(["host"].iter().chain(arguments)).unwrap().options;
        let shown = plan(&functions, &options).into_iter().map(|instance| {
            let only = instance.only.unwrap_or_default().into_iter().collect::<Vec<_>>();
            (instance.name, only.join(" "), instance.takes_calls)
        });
        shown.collect()
    }

    #[test]
    fn instances_share_everything_but_timers() {
        let of = |name: &str, only: &str, calls| (name.to_owned(), only.to_owned(), calls);
        assert_eq!(
            planned(&["--instances", "2"]),
            [of("1", "charge pay show sweep", true), of("2", "charge pay show", true)]
        );
        assert_eq!(
            planned(&["--per-function", "--instances", "2"]),
            [
                of("charge 1", "charge", false),
                of("charge 2", "charge", false),
                of("http 1", "pay show", true),
                of("http 2", "pay show", true),
                of("sweep 1", "sweep", false),
            ]
        );
        assert!(Cli::try_parse_from(["host", "--instances", "0"]).is_err());
    }
}
