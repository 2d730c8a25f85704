//! Named crash points: places before and after each write, where a test can make the process die
//! or stall, so that the order flow is proved to survive exactly there.
//!
//! Off unless setting `CRASH_POINTS` names a directory. A file `<point>` in it arms that point for
//! one use, in whichever process takes the file away first; its content says what happens:
//!
//! | content | effect |
//! | --- | --- |
//! | `abort` | the process ends as by SIGKILL |
//! | `stall <ms>` | this task sleeps: a worker that outlives its lease |
//! | `hold` | this task waits until somebody removes the file, which is `<point>.held` by then |
//! | `fail` | the invocation panics |
//!
//! In production the setting is absent and a point costs one comparison.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::warn;

/// The longest stall, so that a forgotten file cannot hang a worker for ever.
const STALL_MAX: Duration = Duration::from_secs(120);

/// Pause between two looks at a file that holds a worker.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Takes points from this directory; called once, at start.
pub fn arm_from(directory: Option<PathBuf>) {
    if let Some(directory) = &directory {
        warn!(directory = %directory.display(), "crash points are on: for tests only");
    }
    // A second call would come from a second start in one process, which does not happen.
    let _ = DIRECTORY.set(directory);
}

/// Passes the crash point `<service>.<place>`; the name is put together only when points are on.
pub(crate) async fn point_of(service: &str, place: &str) {
    if let Some(Some(_)) = DIRECTORY.get() {
        point(&format!("{service}.{place}")).await;
    }
}

/// Passes a crash point. `name` is `<function>.<place>`, e.g. `reserve.after-claim`.
pub(crate) async fn point(name: &str) {
    let Some(Some(directory)) = DIRECTORY.get() else { return };
    let path = directory.join(name);
    let Ok(action) = std::fs::read_to_string(&path) else { return };
    let held = directory.join(format!("{name}.held"));
    // Of all that read it, one gets to take it away.
    let taken = match action.trim() {
        "hold" => std::fs::rename(&path, &held),
        _ => std::fs::remove_file(&path),
    };
    if taken.is_err() {
        return;
    }
    warn!(point = name, action = action.trim(), "crash point");
    match action.trim().split_once(' ').unwrap_or((action.trim(), "")) {
        ("abort", _) => std::process::abort(),
        ("stall", ms) => {
            let stall = Duration::from_millis(ms.parse().unwrap_or(0)).min(STALL_MAX);
            tokio::time::sleep(stall).await;
        }
        ("hold", _) => {
            let released = async {
                while held.exists() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            // Too long is as good as released.
            let _ = tokio::time::timeout(STALL_MAX, released).await;
        }
        #[expect(clippy::panic, reason = "this is what the point is for")]
        ("fail", _) => panic!("crash point {name}"),
        (other, _) => warn!(point = name, action = other, "unknown action"),
    }
}
