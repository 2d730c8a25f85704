//! How the server listens and what it puts up with.

use std::time::Duration;

use crate::logging;

/// Names the port; set by the host.
pub const PORT_VARIABLE: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// The same under its name from before custom handlers were released; hosts set both.
const PORT_VARIABLE_LEGACY: &str = "FUNCTIONS_HTTPWORKER_PORT";

/// How the server listens. [`Config::new`] gives the defaults, of which single ones can be changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Port on 127.0.0.1; 0 lets the system choose.
    pub port: u16,
    /// How long requests may finish after the server was asked to stop. Below the ten seconds that
    /// the host waits before it kills the process.
    pub grace: Duration,
    /// What a client may cost.
    pub limits: Limits,
    /// Log filter for [`run`](crate::run()), as `tracing` reads it; `info` if `None`.
    pub log_filter: Option<String>,
    /// Form of log lines for [`run`](crate::run()).
    pub log_format: logging::Format,
}

/// What a client may cost the server, in time and in memory. They keep a broken or hostile client
/// from taking the server away from the host; a host never comes near them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections served at once. More wait in the system's backlog, and while some wait, those
    /// are closed that are idle or take half a second over the head of a request. Leaves room for the app's own sockets in the usual 1,024 descriptors.
    pub connections_max: usize,
    /// From the acceptance of a connection to its first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// From the end of a response to the next request. Longer than the minute for which the
    /// .NET client of the host keeps an idle connection: if the server closed first, it might do
    /// so just as a request is on its way, which the client does not repeat.
    pub idle: Duration,
    /// Without a byte of a request's body while somebody waits for it.
    pub body_stall: Duration,
    /// Without a byte taken by the client while there is something to write.
    pub write_stall: Duration,
    /// Size of a request's head.
    pub head_bytes_max: usize,
    /// Size of an invocation. Twice the largest page of the change feed; the HTTP router sets its
    /// own limits.
    pub invocation_bytes_max: usize,
}

/// What is wrong with the environment, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("; "))]
#[non_exhaustive]
pub struct ConfigError {
    /// One sentence each.
    pub problems: Vec<String>,
}

impl Config {
    /// The defaults, on this port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self {
            port,
            grace: Duration::from_secs(8),
            limits: Limits::default(),
            log_filter: None,
            log_format: logging::Format::default(),
        }
    }

    /// Reads `FUNCTIONS_CUSTOMHANDLER_PORT`, and for [`run`](crate::run()) `RUST_LOG` and
    /// `LOG_FORMAT` (`text` or `json`). This is all of the environment that the crate reads.
    ///
    /// # Errors
    /// The port is missing, or something cannot be used; the error says what would be usable.
    #[expect(clippy::disallowed_methods, reason = "the only place of the crate that reads it")]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::resolve(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into()))
    }

    fn resolve(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let port = variable(PORT_VARIABLE).or_else(|| variable(PORT_VARIABLE_LEGACY));
        let port = match port.map(|text| text.trim().parse::<u16>().map_err(|_| text)) {
            Some(Ok(port)) => port,
            Some(Err(text)) => {
                problems.push(format!("{PORT_VARIABLE} is {text:?}, which is no port"));
                0
            }
            None => {
                problems.push(format!(
                    "{PORT_VARIABLE} is not set; the Functions host sets it when it starts a \
                     custom handler, and by hand it is, for example, {PORT_VARIABLE}=3000"
                ));
                0
            }
        };
        let log_format = match variable("LOG_FORMAT").as_deref() {
            None | Some("" | "text") => logging::Format::Text,
            Some("json") => logging::Format::Json,
            Some(other) => {
                problems.push(format!("LOG_FORMAT is {other:?}; it can be text or json"));
                logging::Format::Text
            }
        };
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        Ok(Self { log_filter: variable("RUST_LOG"), log_format, ..Self::new(port) })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            body_stall: Duration::from_secs(15),
            write_stall: Duration::from_secs(30),
            head_bytes_max: 32 * 1024,
            invocation_bytes_max: 8 * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::resolve(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_port_is_found_or_asked_for() {
        assert_eq!(resolve(&[(PORT_VARIABLE, "4711")]).unwrap().port, 4711);
        assert_eq!(resolve(&[(PORT_VARIABLE_LEGACY, "4712")]).unwrap().port, 4712);
        let missing = resolve(&[]).unwrap_err().to_string();
        assert!(missing.contains("FUNCTIONS_CUSTOMHANDLER_PORT=3000"), "{missing}");
    }

    #[test]
    fn every_problem_is_reported() {
        let both = resolve(&[(PORT_VARIABLE, "70000"), ("LOG_FORMAT", "xml")]).unwrap_err();
        assert_eq!(both.problems.len(), 2);
        let json = resolve(&[(PORT_VARIABLE, "1"), ("LOG_FORMAT", "json"), ("RUST_LOG", "debug")]);
        let json = json.unwrap();
        assert_eq!(json.log_format, logging::Format::Json);
        assert_eq!(json.log_filter.as_deref(), Some("debug"));
    }

    #[test]
    fn limits_fit_together() {
        let limits = Limits::default();
        assert!(limits.first_byte <= limits.idle && limits.head <= limits.idle);
        assert!(limits.idle > Duration::from_secs(60), "the host's own idle limit");
        assert!(Config::new(0).grace < Duration::from_secs(10), "the host's patience");
    }
}
