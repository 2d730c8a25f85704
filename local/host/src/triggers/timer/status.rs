//! What is remembered of a timer, so that an occurrence that was missed is noticed.
//!
//! The Azure host keeps it in a blob per function; here it is a small file, or only memory.
//! Source: `ScheduleMonitor`, `FileSystemScheduleMonitor` of the timer extension.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use tokio::io::AsyncWriteExt as _;

use super::schedule::Schedule;
use crate::invocation::envelope::{date_time, date_time_with_fraction};

/// `ScheduleStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The last occurrence; `None` before the first one.
    pub(crate) last: Option<OffsetDateTime>,
    /// The one after it; `None` if there is none.
    pub(crate) next: Option<OffsetDateTime>,
    pub(crate) last_updated: OffsetDateTime,
}

impl Status {
    /// Of a timer that has never run.
    pub(crate) fn first(schedule: &Schedule, now: OffsetDateTime) -> Self {
        Self { last: None, next: schedule.next_after(now), last_updated: now }
    }

    /// After an occurrence at `time`.
    pub(crate) fn after(schedule: &Schedule, time: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { last: Some(time), next: schedule.next_after(time), last_updated: now }
    }

    /// What to go on with when the host starts, and the occurrence that was missed since.
    pub(crate) fn resumed(
        self,
        schedule: &Schedule,
        now: OffsetDateTime,
    ) -> (Self, Option<OffsetDateTime>) {
        let expected = schedule.next_after(self.last.unwrap_or(self.last_updated));
        if self.next != expected {
            // The schedule was changed: what the old one has missed does not count.
            let next = schedule.next_after(now);
            return (Self { next, last_updated: now, ..self }, None);
        }
        (self, self.next.filter(|next| *next < now))
    }

    /// As it is stored, and as a function gets to see it.
    pub(crate) fn to_json(self) -> Value {
        // `default(DateTime)` has no zone.
        let last = self.last.map_or_else(|| "0001-01-01T00:00:00".to_owned(), local);
        let next = self.next.map_or_else(|| "9999-12-31T23:59:59.9999999".to_owned(), local);
        json!({ "Last": last, "Next": next, "LastUpdated": local(self.last_updated) })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let time = |name| OffsetDateTime::parse(value[name].as_str()?, &Iso8601::DEFAULT).ok();
        // The two that stand for "none" have no zone, which is how they are told.
        Some(Self { last: time("Last"), next: time("Next"), last_updated: time("LastUpdated")? })
    }
}

/// A .NET `DateTime` of kind `Local` on a machine in UTC.
fn local(time: OffsetDateTime) -> String {
    let text = date_time_with_fraction(time);
    format!("{}+00:00", text.strip_suffix('Z').unwrap_or(&text))
}

/// As .NET's round-trip format has it: seven digits, always.
pub(super) fn round_trip(time: OffsetDateTime) -> String {
    format!("{}.{:07}+00:00", date_time(time), time.nanosecond() / 100)
}

/// The right to run a timer. The system takes it back when this is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Turn(
    #[expect(dead_code, reason = "the lock lives as long as the file")] Option<File>,
);

/// Keeps the status of every timer of a host.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    directory: Option<PathBuf>,
    known: Mutex<HashMap<String, Status>>,
}

impl Monitor {
    /// With files below `directory`, or with nothing that outlives the process.
    pub(crate) fn new(directory: Option<&Path>) -> Self {
        Self {
            directory: directory.map(|directory| directory.join("timers")),
            known: Mutex::default(),
        }
    }

    /// The right to run the timer of `function`, unless another host has it. The error says why that
    /// is not known.
    pub(crate) fn turn(&self, function: &str) -> Result<Option<Turn>, String> {
        let Some(directory) = &self.directory else { return Ok(Some(Turn(None))) };
        let path = directory.join(format!("{function}.lock"));
        let unusable =
            |error: std::io::Error| format!("{} cannot be used: {error}", path.display());
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let file = File::options().create(true).append(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn(Some(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// What is known of `function`. The error says why its file cannot be used.
    pub(crate) async fn load(&self, function: &str) -> Result<Option<Status>, String> {
        if let Some(status) = self.known(function) {
            return Ok(Some(status));
        }
        let Some(path) = self.path(function) else { return Ok(None) };
        let unusable = |why: String| format!("{} cannot be used: {why}", path.display());
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => serde_json::from_str(&text)
                .ok()
                .and_then(|value| Status::from_json(&value))
                .map(Some)
                .ok_or_else(|| unusable("it is no schedule status".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    /// What this process knows of `function`.
    pub(crate) fn known(&self, function: &str) -> Option<Status> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(function).copied()
    }

    /// Remembers `status`. The error says why only this process does.
    pub(crate) async fn save(&self, function: &str, status: Status) -> Result<(), String> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(function.to_owned(), status);
        let Some(path) = self.path(function) else { return Ok(()) };
        write(&path, status.to_json().to_string().as_bytes())
            .await
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    fn path(&self, function: &str) -> Option<PathBuf> {
        // A function's name is fit to be a file's name.
        Some(self.directory.as_ref()?.join(format!("{function}.json")))
    }
}

/// All or nothing: whoever reads sees the old content or the new one.
async fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    let new = path.with_extension("json.new");
    let mut file = tokio::fs::File::create(&new).await?;
    file.write_all(content).await?;
    file.sync_all().await?;
    drop(file);
    tokio::fs::rename(&new, path).await
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[tokio::test]
    async fn a_status_is_kept_in_a_file_that_is_never_half_written() {
        let directory = std::env::temp_dir().join(format!("host-timer-{}", uuid::Uuid::new_v4()));
        let schedule = Schedule::parse("00:05:00").unwrap();
        let now = datetime!(2026-03-01 09:55:00.1234567 UTC);
        let monitor = Monitor::new(Some(&directory));
        assert_eq!(monitor.load("Tick").await, Ok(None));
        for status in [Status::first(&schedule, now), Status::after(&schedule, now, now)] {
            monitor.save("Tick", status).await.unwrap();
            let other = Monitor::new(Some(&directory));
            assert_eq!(other.load("Tick").await, Ok(Some(status)));
        }
        let file = directory.join("timers/Tick.json");
        let stored: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(
            stored,
            json!({ "Last": "2026-03-01T09:55:00.1234567+00:00",
                "Next": "2026-03-01T10:00:00.1234567+00:00",
                "LastUpdated": "2026-03-01T09:55:00.1234567+00:00" })
        );
        assert_eq!(std::fs::read_dir(directory.join("timers")).unwrap().count(), 1, "nothing else");
        let other = Monitor::new(Some(&directory));
        let turn = monitor.turn("Tick").unwrap().unwrap();
        assert!(other.turn("Tick").unwrap().is_none(), "one host at a time");
        assert!(other.turn("Tock").unwrap().is_some());
        drop(turn);
        assert!(other.turn("Tick").unwrap().is_some());
        std::fs::write(&file, "{").unwrap();
        let broken = Monitor::new(Some(&directory)).load("Tick").await.unwrap_err();
        assert!(broken.contains("Tick.json cannot be used"), "{broken}");
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::write(&directory, "in the way").unwrap();
        let status = Status::first(&schedule, now);
        assert!(monitor.save("Tick", status).await.unwrap_err().contains("cannot be written"));
        assert_eq!(monitor.known("Tick"), Some(status), "in memory it is kept all the same");
        std::fs::remove_file(&directory).unwrap();
    }

    #[test]
    fn what_was_missed_is_noticed_unless_the_schedule_was_changed() {
        let five = Schedule::parse("0 */5 * * * *").unwrap();
        let status = Status::first(&five, datetime!(2026-03-01 10:01 UTC));
        let due = datetime!(2026-03-01 10:05 UTC);
        assert_eq!(status.resumed(&five, datetime!(2026-03-01 10:04 UTC)), (status, None));
        assert_eq!(status.resumed(&five, datetime!(2026-03-01 12:00 UTC)), (status, Some(due)));
        let ran = Status::after(&five, due, due);
        let later = datetime!(2026-03-01 10:10:01 UTC);
        assert_eq!(ran.resumed(&five, later), (ran, Some(datetime!(2026-03-01 10:10 UTC))));
        let ten = Schedule::parse("0 */10 7 * * *").unwrap();
        let (changed, missed) = ran.resumed(&ten, later);
        assert_eq!((changed.next, missed), (Some(datetime!(2026-03-02 07:00 UTC)), None));
        assert_eq!(changed.last, Some(due));
        let text = Status::first(&five, due).to_json();
        assert_eq!(text["Last"], "0001-01-01T00:00:00");
        assert_eq!(text["Next"], "2026-03-01T10:10:00+00:00");
        assert_eq!(round_trip(due), "2026-03-01T10:05:00.0000000+00:00");
    }
}
