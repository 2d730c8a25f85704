//! What a Function App consists of: functions by name, and a router for proxied HTTP.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::context::Context;
use crate::envelope::InvocationResponse;
use crate::failure::Failure;
use crate::invocation::{Invocation, Trigger};
use crate::reply::Reply;

/// How long an invocation may take unless the app says otherwise: below the five minutes for which
/// the host renews the lock of a message, and below `functionTimeout` on every plan. Whoever
/// exceeds that one has the host kill the process, with every other invocation in it.
const INVOCATION_DEADLINE_DEFAULT: Duration = Duration::from_secs(4 * 60);

/// Longest name of a function.
const NAME_CHARS_MAX: usize = 128;

/// A Function App: its functions and its HTTP routes.
///
/// ```
/// use handler::{App, Context, Failure, Reply, ServiceBusMessage};
///
/// async fn charge(message: ServiceBusMessage, _context: Context) -> Result<Reply, Failure> {
///     let order: serde_json::Value = message.json()?;
///     Ok(Reply::done().log(format!("charged {}", order["orderId"])))
/// }
///
/// let app = App::new().function("charge", charge);
/// # let _ = app;
/// ```
#[must_use = "an app does nothing until it is served"]
pub struct App {
    pub(crate) functions: BTreeMap<Arc<str>, Function>,
    pub(crate) router: Option<Router>,
    pub(crate) invocation_deadline: Duration,
}

/// A mounted function, whatever its trigger.
pub(crate) type Function =
    Arc<dyn Fn(Invocation, Context) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

impl App {
    /// An app without functions or routes.
    #[expect(clippy::new_without_default, reason = "an app is built, not assumed")]
    pub fn new() -> Self {
        Self {
            functions: BTreeMap::new(),
            router: None,
            invocation_deadline: INVOCATION_DEADLINE_DEFAULT,
        }
    }

    /// Serves everything that is no invocation: proxied HTTP functions, pages, health.
    ///
    /// A proxied request arrives with the path that the client used, so routes begin with `/api`
    /// unless `host.json` sets `extensions.http.routePrefix`. `GET /` is also how the host asks
    /// whether the process is ready, several times a second at first; a router without a route for
    /// it need not have one. Limits on bodies and time are the router's own; see
    /// [`http_limits`](crate::http_limits).
    ///
    /// # Panics
    /// A router was set before, and both have the same route or a fallback.
    pub fn http(mut self, router: Router) -> Self {
        self.router = Some(match self.router {
            Some(routers) => routers.merge(router),
            None => router,
        });
        self
    }

    /// Mounts a function: the host posts its invocations to `/<name>`, where `name` is that of the
    /// folder that holds its `function.json`. It is reached before any route of the same path.
    ///
    /// The function's future is dropped at the deadline, and when the host hangs up. Work that
    /// must not stop in between has to survive that like it has to survive a crash.
    ///
    /// # Panics
    /// The name is no name of a function (a letter, then up to 127 letters, digits, `_` or `-`,
    /// and not `host`), or is taken.
    pub fn function<T, F, Fut, E>(mut self, name: impl Into<String>, f: F) -> Self
    where
        T: Trigger,
        F: Fn(T, Context) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, E>> + Send + 'static,
        E: Into<Failure>,
    {
        let name: Arc<str> = name.into().into();
        assert!(is_function_name(&name), "{name:?} is no name of a function");
        let function: Function = Arc::new(move |invocation, context| {
            let f = f.clone();
            // Decoding and the call itself happen within the future, so that a panic in either
            // is caught with it.
            Box::pin(async move {
                let trigger = T::from_invocation(invocation)
                    .map_err(|error| Failure::new("trigger-not-decoded", chain(&error)))?;
                f(trigger, context).await.map_err(Into::into)
            })
        });
        let taken = self.functions.insert(Arc::clone(&name), function).is_some();
        assert!(!taken, "the function {name:?} is mounted twice");
        self
    }

    /// How long one invocation may take, the reading of its body included; four minutes unless
    /// set. Keep it below `functionTimeout`: at that limit the host does not end the invocation
    /// but the process.
    pub fn invocation_deadline(mut self, limit: Duration) -> Self {
        self.invocation_deadline = limit;
        self
    }

    /// Runs one invocation until it ends, panics or reaches its deadline.
    pub(crate) async fn invoke(
        function: &Function,
        invocation: Invocation,
        context: Context,
    ) -> Result<InvocationResponse, Failure> {
        let deadline = context.deadline;
        let work = AssertUnwindSafe(async { function(invocation, context).await }).catch_unwind();
        match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(result)) => result.and_then(Reply::into_envelope),
            Ok(Err(panic)) => Err(Failure::new("panic", panic_message(&*panic))),
            Err(_) => Err(Failure::new("deadline", "the invocation took too long")),
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("functions", &self.functions.keys().collect::<Vec<_>>())
            .field("http", &self.router.is_some())
            .field("invocation_deadline", &self.invocation_deadline)
            .finish()
    }
}

/// What was said in a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// The host's rule for names.
pub(crate) fn is_function_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && !name.eq_ignore_ascii_case("host")
}

fn chain(error: &crate::DecodeError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_the_host() {
        for name in ["a", "Charge", "on-change_2", &"a".repeat(128)] {
            assert!(is_function_name(name), "{name}");
        }
        for name in ["", "1st", "-a", "a b", "a/b", "ä", "host", "Host", &"a".repeat(129)] {
            assert!(!is_function_name(name), "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "mounted twice")]
    fn a_name_is_taken_once() {
        async fn nothing(_: Invocation, _: Context) -> Result<Reply, Failure> {
            Ok(Reply::done())
        }
        let _ = App::new().function("twice", nothing).function("twice", nothing);
    }
}
