//! Which functions this process serves: those whose folders lie beside the executable.
//!
//! The Functions host finds `function.json` one level below the app root and sends invocations for
//! what it finds. If that and what the executable can serve differed, messages would fail one by
//! one until they were dead-lettered; so a mismatch stops the process at start instead.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A function that this executable can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// `order-api`: every HTTP route.
    Http,
    /// `inventory`.
    Reserve,
    /// `billing`.
    Charge,
    /// `payments`.
    Settle,
    /// `notification`.
    Notify,
    /// `outbox`: the change feed.
    Relay,
    /// `outbox`: every minute.
    Sweep,
}

impl Function {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http,
        Self::Reserve,
        Self::Charge,
        Self::Settle,
        Self::Notify,
        Self::Relay,
        Self::Sweep,
    ];

    /// The folder name, which is the function's name to the host.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Reserve => "reserve",
            Self::Charge => "charge",
            Self::Settle => "settle",
            Self::Notify => "notify",
            Self::Relay => "relay",
            Self::Sweep => "sweep",
        }
    }

    /// The `function.json` that this executable was built with.
    #[must_use]
    pub fn definition(self) -> &'static str {
        match self {
            Self::Http => include_str!("order_api/http/function.json"),
            Self::Reserve => include_str!("inventory/reserve/function.json"),
            Self::Charge => include_str!("billing/charge/function.json"),
            Self::Settle => include_str!("payments/settle/function.json"),
            Self::Notify => include_str!("notification/notify/function.json"),
            Self::Relay => include_str!("outbox/relay/function.json"),
            Self::Sweep => include_str!("outbox/sweep/function.json"),
        }
    }
}

/// Why the staged folders cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The app root cannot be read.
    #[error("the app root {} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// There is no function to serve.
    #[error(
        "no function is staged in {}: expected a folder with a function.json beside the \
         executable; stage one with `cargo stack stage`", .0.display()
    )]
    Empty(PathBuf),
    /// A folder names a function that this executable does not have.
    #[error(
        "function `{name}` is staged in {} but not part of this executable, which has: {known}; \
         stage and build from the same commit", .root.display()
    )]
    Unknown {
        /// The folder name.
        name: String,
        /// The app root.
        root: PathBuf,
        /// What there is.
        known: String,
    },
    /// A staged definition is not the one that was built in.
    #[error(
        "{} is not the function.json that this executable was built with; stage again with \
         `cargo stack stage`", .0.display()
    )]
    Differs(PathBuf),
}

/// The functions staged in `root`, in a stable order.
///
/// # Errors
/// The root cannot be read, holds no function, or holds one that this executable was not built
/// with.
pub fn discover(root: &Path) -> Result<Vec<Function>, StagingError> {
    let unreadable = |error| StagingError::Unreadable(root.to_owned(), error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path().join("function.json");
        let Ok(staged) = std::fs::read_to_string(&path) else { continue };
        let name = path
            .parent()
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Some(function) = Function::ALL.into_iter().find(|f| f.name() == name) else {
            let known = Function::ALL.map(Function::name).join(", ");
            return Err(StagingError::Unknown { name, root: root.to_owned(), known });
        };
        let built = serde_json::from_str::<Value>(function.definition()).ok();
        if built.is_none() || serde_json::from_str::<Value>(&staged).ok() != built {
            return Err(StagingError::Differs(path));
        }
        found.push(function);
    }
    if found.is_empty() {
        return Err(StagingError::Empty(root.to_owned()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_built_is_served() {
        let root = std::env::temp_dir().join(format!("bulkhead-staging-{}", uuid::Uuid::new_v4()));
        let stage = |name: &str, definition: &str| {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("function.json"), definition).unwrap();
        };
        assert!(matches!(discover(&root), Err(StagingError::Unreadable(..))));
        std::fs::create_dir_all(root.join("data")).unwrap();
        assert!(matches!(discover(&root), Err(StagingError::Empty(_))));
        stage("charge", Function::Charge.definition());
        stage("notify", &Function::Notify.definition().replace('\n', " "));
        assert_eq!(discover(&root).unwrap(), [Function::Charge, Function::Notify]);
        stage("charge", &Function::Charge.definition().replace("billing-sub", "other"));
        assert!(matches!(discover(&root), Err(StagingError::Differs(_))));
        stage("charge", Function::Charge.definition());
        stage("ship", "{}");
        let error = discover(&root).unwrap_err();
        assert!(error.to_string().contains("`ship`") && error.to_string().contains("charge"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
