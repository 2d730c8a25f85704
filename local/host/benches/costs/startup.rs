//! Six apps: how long until all are ready, and what their hosts hold when nothing happens.

use std::time::{Duration, Instant};

use bus::{Options, Server};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Result;
use crate::app::{self, App};
use crate::process::{Process, megabytes, processor_time};

/// As many apps as `cargo stack up` runs.
const APPS: usize = 6;

/// Starts of all apps.
const STARTS: usize = 5;

/// How long the idle apps are watched.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// Prints the time to readiness, and the memory and processor time of idle hosts.
pub(crate) async fn measure(start: bool, idle: bool) -> Result<()> {
    let queues: Vec<_> = (0..APPS).map(|app| json!({ "name": format!("work-{app}") })).collect();
    let namespace = serde_json::from_value(json!({ "queues": queues }))?;
    let server = Server::bind(Options { namespace, ..Options::default() }).await?;
    let (broker, stop) = (server.local_addr(), CancellationToken::new());
    let serving = TaskTracker::new().spawn(server.run(stop.clone()));
    let connection = app::connection_string(broker);
    let mut apps = Vec::new();
    for number in 0..APPS {
        let queue = format!("work-{number}");
        apps.push(App::new(
            number,
            &[
                ("Hop", app::http("hop")),
                ("Work", app::service_bus(&queue)),
                ("Tick", app::timer()),
            ],
        )?);
    }
    let start_all = || -> Result<(Vec<Process>, Duration)> {
        let begun = Instant::now();
        // All at once: each start reads the line with which its host says that it listens.
        let mut hosts = std::thread::scope(|scope| {
            let starts: Vec<_> = apps
                .iter()
                .map(|app| {
                    let settings = [("Bus", connection.clone())];
                    scope.spawn(move || Process::start(app.root(), &settings))
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().map_err(|_| "a start panicked")?)
                .collect::<Result<Vec<Process>>>()
        })?;
        for host in &mut hosts {
            host.wait_until_ready()?;
        }
        Ok((hosts, begun.elapsed()))
    };
    if start {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            times.push(start_all()?.1);
        }
        times.sort_unstable();
        println!(
            "\nstart of {APPS} apps to all ready, {STARTS} times: p50 {:.0?}, max {:.0?}",
            times[STARTS / 2],
            times[STARTS - 1]
        );
    }
    if idle {
        let (hosts, _) = start_all()?;
        let used = |hosts: &[Process]| -> Result<Duration> {
            hosts.iter().map(|host| processor_time(host.pid())).sum()
        };
        let before = used(&hosts)?;
        tokio::time::sleep(IDLE_FOR).await;
        let spent = used(&hosts)? - before;
        let value = |file, name| -> Result<Vec<f64>> {
            hosts.iter().map(|host| megabytes(host.pid(), file, name)).collect()
        };
        let resident = value("status", "VmRSS")?;
        let share = value("smaps_rollup", "Pss")?;
        let private = value("smaps_rollup", "Private_Dirty")?;
        println!("\n{APPS} idle apps, one host process each");
        for (name, values) in [
            ("resident, what is shared counted every time", resident),
            ("resident, what is shared counted once", share),
            ("written to by the process (heap and stacks)", private),
        ] {
            println!(
                "  {name:<46} each {:>5.1} MB   all {:>5.1} MB",
                values.iter().sum::<f64>() / f64::from(u32::try_from(APPS)?),
                values.iter().sum::<f64>()
            );
        }
        println!("  processor time of all in {IDLE_FOR:?}: {spent:?}");
    }
    stop.cancel();
    serving.await??;
    Ok(())
}
