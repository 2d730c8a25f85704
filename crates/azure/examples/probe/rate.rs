//! Measuring: pace, latency, processor time, and failures.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{Outcome, chain};

/// Callers at a time when measuring under load.
pub(crate) const CALLERS: usize = 16;

/// How long a caller whose operation failed stays away.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// What one caller saw.
#[derive(Default)]
pub(crate) struct Run {
    times: Vec<Duration>,
    failures: usize,
    longest_failure: Duration,
    last_failure: String,
}

impl Run {
    pub(crate) async fn record<A, E>(&mut self, operation: impl FnOnce() -> A)
    where
        A: Future<Output = Result<(), E>>,
        E: Error,
    {
        let begun = Instant::now();
        match operation().await {
            Ok(()) => self.times.push(begun.elapsed()),
            Err(error) => {
                self.failures += 1;
                self.longest_failure = self.longest_failure.max(begun.elapsed());
                self.last_failure = chain(error).to_string();
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

pub(crate) async fn report(
    what: &str,
    callers: usize,
    started: Instant,
    cpu: Duration,
    mut tasks: JoinSet<Run>,
) -> Outcome {
    let mut total = Run::default();
    while let Some(run) = tasks.join_next().await {
        let run = run?;
        total.times.extend(run.times);
        total.failures += run.failures;
        total.longest_failure = total.longest_failure.max(run.longest_failure);
        if run.failures > 0 {
            total.last_failure = run.last_failure;
        }
    }
    let elapsed = started.elapsed();
    let cpu = cpu_time()?.saturating_sub(cpu);
    let mut times = total.times;
    times.sort();
    let count = times.len().max(1);
    println!(
        "{what:<24} {callers:>3} callers  {:>7.0}/s  p50 {:>9.3?}  p99 {:>9.3?}  {:>7.1?} CPU each",
        times.len() as f64 / elapsed.as_secs_f64(),
        times.get(count / 2).copied().unwrap_or_default(),
        times.get(count * 99 / 100).copied().unwrap_or_default(),
        cpu / count as u32,
    );
    if total.failures > 0 {
        let Run { failures, longest_failure, last_failure, .. } = total;
        println!("{:<24} {failures} failed, within {longest_failure:?}: {last_failure}", "");
    }
    Ok(())
}

/// Processor time of this process so far, from `/proc`; zero where there is none.
pub(crate) fn cpu_time() -> Outcome<Duration> {
    /// Clock ticks of `/proc`, in milliseconds: 100 per second on every Linux.
    const TICK_MILLIS: u64 = 10;
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let spent = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Ok(Duration::from_millis(spent * TICK_MILLIS))
}
