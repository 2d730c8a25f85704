//! Access keys: one master key, and keys of the host and of each function.
//!
//! As in Azure, the master key opens everything, a key of the host every function, a key of a
//! function that function alone. They live as long as the process. Source: `KeysController` and
//! `SecretManager` of the Azure Functions host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::bindings::{AuthLevel, Function};

/// The name of the key that opens everything.
pub(crate) const MASTER: &str = "_master";

/// The key that every host and function has from the start.
const DEFAULT: &str = "default";

/// Keys of one host or function.
const KEYS_MAX: usize = 100;

/// Longest name or value of a key, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Whose keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Host,
    /// The name of the function in lower case.
    Function(String),
}

/// What became of a key that was set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Created(String),
    Changed(String),
    /// There are too many, or it is too long.
    Refused,
}

/// All keys of a host that asks for them.
#[derive(Debug)]
pub(crate) struct Keys {
    scopes: Mutex<BTreeMap<Scope, BTreeMap<String, String>>>,
}

impl Keys {
    /// The default keys, besides the master key.
    pub(crate) fn new(master: String, functions: &[Arc<Function>]) -> Self {
        let default = || BTreeMap::from([(DEFAULT.to_owned(), generated())]);
        let mut host = default();
        host.insert(MASTER.to_owned(), master);
        let of = |function: &Arc<Function>| (Scope::function(&function.name), default());
        let mut scopes: BTreeMap<_, _> = functions.iter().map(of).collect();
        scopes.insert(Scope::Host, host);
        Self { scopes: Mutex::new(scopes) }
    }

    /// Whether somebody with `key` may call `function`, or the host itself.
    pub(crate) fn admits(
        &self,
        level: AuthLevel,
        function: Option<&str>,
        key: Option<&str>,
    ) -> bool {
        let scopes = self.scopes();
        let found = |scope: &Scope, wanted: fn(&str) -> bool| {
            let keys = scopes.get(scope).into_iter().flatten();
            keys.filter(|(name, _)| wanted(name)).any(|(_, value)| Some(value.as_str()) == key)
        };
        match level {
            AuthLevel::Anonymous => true,
            AuthLevel::Admin => found(&Scope::Host, |name| name == MASTER),
            AuthLevel::Function => {
                found(&Scope::Host, |_| true)
                    || function.is_some_and(|name| found(&Scope::function(name), |_| true))
            }
        }
    }

    /// Names and values, without the master key; `None` for a function that is not known.
    pub(crate) fn list(&self, scope: &Scope) -> Option<Vec<(String, String)>> {
        let scopes = self.scopes();
        let keys = scopes.get(scope)?.iter().filter(|(name, _)| *name != MASTER);
        Some(keys.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// One value.
    pub(crate) fn get(&self, scope: &Scope, name: &str) -> Option<String> {
        self.scopes().get(scope)?.get(name).cloned()
    }

    /// Sets a key to `value`, or to one that is made up; `None` for a function that is not known.
    pub(crate) fn set(&self, scope: &Scope, name: &str, value: Option<String>) -> Option<Set> {
        let value = value.unwrap_or_else(generated);
        let mut scopes = self.scopes();
        let keys = scopes.get_mut(scope)?;
        let too_many = keys.len() >= KEYS_MAX && !keys.contains_key(name);
        let too_long = name.len().max(value.len()) > TEXT_BYTES_MAX;
        if too_many || too_long || name.is_empty() || value.is_empty() {
            return Some(Set::Refused);
        }
        let before = keys.insert(name.to_owned(), value.clone());
        Some(if before.is_some() { Set::Changed(value) } else { Set::Created(value) })
    }

    /// Removes a key; whether there was one. The master key stays.
    pub(crate) fn remove(&self, scope: &Scope, name: &str) -> bool {
        let mut scopes = self.scopes();
        name != MASTER && scopes.get_mut(scope).is_some_and(|keys| keys.remove(name).is_some())
    }

    fn scopes(&self) -> MutexGuard<'_, BTreeMap<Scope, BTreeMap<String, String>>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    pub(crate) fn function(name: &str) -> Self {
        Self::Function(name.to_ascii_lowercase())
    }
}

fn generated() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
