//! Calls the handler with an envelope: waits for it, posts, judges, and enforces the timeout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::answer::{Answer, Verdict, judge};
use super::envelope::Envelope;
use super::record::Record;
use super::retry;
use crate::bindings::{Function, Trigger};
use crate::error::{Problem, chain};
use crate::faults::{Fault, Faults, stand_still};
use crate::http::client::{HandlerClient, INVOCATION_ID, Length, body_of, stamp};
use crate::log::Level;
use crate::log::Logger;
use crate::outputs::{Outputs, Source};
use crate::process::{HandlerLink, HandlerStatus};

/// An answer is held in memory as a whole; the Azure host has no limit, this one has.
const ANSWER_MAX_BYTES: usize = 100 * 1024 * 1024;

/// An early invocation waits this many times `initializationTimeout`: the two restarts and the
/// first start, plus one.
const READY_WAITS: u32 = 4;

/// A broken call is reported this much later at most, once the exit of the process is known. A
/// local broker redelivers within a fraction of a millisecond; without this the message would meet
/// the dead process again and burn its deliveries, which a broker in Azure is too far away for.
const EXIT_NOTICE: Duration = Duration::from_millis(250);

/// What a connection that was dropped on request looks like in the log.
pub(crate) const DROPPED: &str =
    "the connection was dropped in the middle of the answer, as was asked for";

/// One invocation to make.
pub(crate) struct Call<'a> {
    pub(crate) function: &'a Arc<Function>,
    pub(crate) reason: &'a str,
    pub(crate) details: Option<String>,
    /// W3C trace context of the trigger, if it carries one.
    pub(crate) traceparent: Option<String>,
}

/// Why an invocation failed. `Display` is what is logged.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub(crate) enum InvocationError {
    #[error("The handler did not become ready; the host is shutting down.")]
    NotReady,
    #[error("Timeout value of {0:?} was exceeded; the handler is killed and started again.")]
    Timeout(Duration),
    /// The connection broke, most likely because the process is gone.
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    Failed(String),
}

/// The way to the handler, shared by every trigger.
pub(crate) struct Invoker {
    pub(crate) client: HandlerClient,
    pub(crate) handler: HandlerLink,
    pub(crate) log: Logger,
    pub(crate) function_timeout: Option<Duration>,
    pub(crate) initialization_timeout: Duration,
    pub(crate) body_length: Length,
    pub(crate) outputs: Outputs,
    /// Ends retries: the host is stopping.
    pub(crate) stopping: CancellationToken,
    /// Asks the host to stop.
    pub(crate) give_up: mpsc::Sender<Problem>,
    /// What is to go wrong on request.
    pub(crate) faults: Faults,
    /// Pauses of the handler that were asked for.
    pub(crate) background: TaskTracker,
}

impl Invoker {
    /// Starts the record of an invocation and waits until the handler can be called.
    pub(crate) async fn begin(&self, call: &Call<'_>) -> Result<Record, InvocationError> {
        let record = Record::start(
            self.log.clone(),
            Arc::clone(&call.function.name),
            call.reason,
            call.details.as_deref(),
        );
        let patience = self.initialization_timeout * READY_WAITS;
        self.disturb(&record).await;
        match timeout(patience, self.handler.started()).await {
            Ok(HandlerStatus::Ready { .. } | HandlerStatus::Exited) => Ok(record),
            Ok(HandlerStatus::Stopped | HandlerStatus::Starting) => {
                record.failed(&InvocationError::NotReady.to_string());
                Err(InvocationError::NotReady)
            }
            Err(_) => {
                record.failed(&InvocationError::NotReady.to_string());
                // One such message is enough, and the receiver is gone once the host stops.
                let _ = self.give_up.try_send(Problem::new(
                    format!("the handler was not ready after {patience:?}"),
                    "an invocation has waited that long for it, as long as the Azure host waits",
                    "listen on FUNCTIONS_CUSTOMHANDLER_PORT before doing anything slow",
                ));
                Err(InvocationError::NotReady)
            }
        }
    }

    /// Does to the handler's process what was asked for.
    async fn disturb(&self, record: &Record) {
        let Some(pid) = self.handler.pid() else { return };
        let Some(fault) = self.faults.take(record.function(), Fault::is_before_the_call) else {
            return;
        };
        record.note(Level::Information, format!("A fault was asked for: {fault:?}."));
        match fault {
            Fault::Pause { millis } => {
                // It stands still before it is called, and until then the call waits.
                let awakes = stand_still(pid, Duration::from_millis(millis)).await;
                self.background.spawn(awakes);
            }
            Fault::Restart => {
                self.handler.restart(pid);
                self.handler.gone(pid, self.initialization_timeout).await;
            }
            Fault::Duplicate | Fault::Drop | Fault::Timeout => {}
        }
    }

    /// Makes an invocation, and another one for every retry that the function's policy allows.
    /// The error is that of the last one. A stop ends the retries, not what is in flight.
    pub(crate) async fn invoke(
        &self,
        call: Call<'_>,
        envelope: Envelope,
    ) -> Result<Answer, InvocationError> {
        let Some(policy) = call.function.retry else { return self.attempt(&call, &envelope).await };
        let (mut retries, mut why) = (0, None);
        loop {
            let context = policy.context(retries, why.as_deref());
            let envelope = envelope.again(&call.function.name, context, self.log.now());
            let error = match self.attempt(&call, &envelope).await {
                Ok(answer) => return Ok(answer),
                Err(InvocationError::NotReady) => return Err(InvocationError::NotReady),
                Err(error) => error,
            };
            let line = |level, text| {
                let category = format!("Function.{}", call.function.name).into();
                let function = Some(Arc::clone(&call.function.name));
                self.log.emit(level, category, function, None, text);
            };
            if !policy.allows(retries) {
                let text = format!("Function execution failed after '{retries}' retries.");
                line(Level::Error, text);
                return Err(error);
            }
            let pause = policy.pause(retries, retry::chance());
            retries = retries.saturating_add(1);
            let most = policy.most.map_or(-1, i64::from);
            line(
                Level::Debug,
                format!(
                    "Waiting for `{pause:?}` before retrying function execution. Next attempt: \
                     '{retries}'. Max retry count: '{most}'."
                ),
            );
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => {
                    line(Level::Debug, "The host is stopping: no more retries.".to_owned());
                    return Err(error);
                }
                () = sleep(pause) => why = Some(error.to_string()),
            }
        }
    }

    /// Makes one invocation from start to end, and logs both.
    async fn attempt(
        &self,
        call: &Call<'_>,
        envelope: &Envelope,
    ) -> Result<Answer, InvocationError> {
        self.warn_of_forgery(call.function, envelope);
        let mut fault = self.faults.take(&call.function.name, Fault::is_of_the_call);
        if fault == Some(Fault::Duplicate) {
            fault = None;
            // Whatever comes of it, the item is handed out again.
            drop(self.recorded(call, envelope, None).await);
        }
        self.recorded(call, envelope, fault.as_ref()).await
    }

    async fn recorded(
        &self,
        call: &Call<'_>,
        envelope: &Envelope,
        fault: Option<&Fault>,
    ) -> Result<Answer, InvocationError> {
        let record = self.begin(call).await?;
        match self.run(call, &record, envelope, fault).await {
            Ok(answer) => {
                for line in &answer.logs {
                    record.user(line.clone());
                }
                record.succeeded();
                Ok(answer)
            }
            Err(error) => {
                record.failed(&error.to_string());
                self.warn_of_burning(call.function);
                Err(error)
            }
        }
    }

    fn warn_of_forgery(&self, function: &Function, envelope: &Envelope) {
        for name in envelope.forged() {
            let cause = format!("Metadata.{name} of function '{}' came from a body", function.name);
            self.log.sharp_edge(Level::Warning, &cause, || {
                format!(
                    "Metadata.{name} of function '{}' is not what the trigger says: the body is a \
                     JSON object with a property of that name, and as in Azure the property wins. \
                     Anybody who can send can forge it. Fix: decide by what is in the validated \
                     body, not by Metadata.",
                    function.name
                )
            });
        }
    }

    fn warn_of_rejection(&self, function: &Function, why: &str) {
        let name = &function.name;
        let cause = format!("An answer of function '{name}' was rejected despite its status");
        self.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "The handler says that 'Functions.{name}' has succeeded, and as in Azure the \
                 invocation has failed all the same, after the work was done: {why}. Fix: answer \
                 with Content-Type: application/json and a JSON object, {{}} at least."
            )
        });
    }

    fn warn_of_burning(&self, function: &Function) {
        let Trigger::ServiceBus(trigger) = &function.trigger else { return };
        if !trigger.auto_complete {
            return;
        }
        let cause = format!("A message of function '{}' was abandoned", function.name);
        self.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "An invocation of function '{}' failed, and its message is abandoned at once: it \
                 comes back without any delay, and a message that keeps failing burns all its \
                 deliveries within a moment and ends in the dead-letter queue, as in Azure. Fix: \
                 for errors that pass, schedule a copy for later and succeed; for those that do \
                 not, dead-letter it by its lock token.",
                function.name
            )
        });
    }

    async fn run(
        &self,
        call: &Call<'_>,
        record: &Record,
        envelope: &Envelope,
        fault: Option<&Fault>,
    ) -> Result<Answer, InvocationError> {
        let pid = self.handler.pid();
        let exchange = async {
            let outcome = self.exchange(call, record, envelope, fault).await;
            if fault == Some(&Fault::Timeout) {
                let limit = self.function_timeout.unwrap_or_default();
                let error = self.time_out(record, limit, pid);
                if let Some(pid) = pid {
                    self.handler.gone(pid, EXIT_NOTICE).await;
                }
                return Err(error);
            }
            if let (Err(InvocationError::Broken(_)), Some(pid)) = (&outcome, pid) {
                self.handler.gone(pid, EXIT_NOTICE).await;
            }
            outcome
        };
        let Some(limit) = self.function_timeout else { return exchange.await };
        match timeout_at(Instant::now() + limit, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let error = self.time_out(record, limit, pid);
                if let Some(pid) = pid {
                    self.handler.gone(pid, EXIT_NOTICE).await;
                }
                Err(error)
            }
        }
    }

    /// What the end of `functionTimeout` costs, however the handler was called: its process.
    pub(crate) fn time_out(
        &self,
        record: &Record,
        limit: Duration,
        pid: Option<u32>,
    ) -> InvocationError {
        record.note(
            Level::Error,
            format!(
                "Timeout value of {limit:?} exceeded by function 'Functions.{}' (Id: '{}'). The \
                 handler is killed with every other invocation in flight.",
                record.function(),
                record.id()
            ),
        );
        if let Some(pid) = pid {
            self.handler.restart(pid);
        }
        InvocationError::Timeout(limit)
    }

    async fn exchange(
        &self,
        call: &Call<'_>,
        record: &Record,
        envelope: &Envelope,
        fault: Option<&Fault>,
    ) -> Result<Answer, InvocationError> {
        let request = self.request(call, record.id(), envelope)?;
        let trace = request.headers().get("traceparent").cloned();
        let response = self.client.send(request).await.map_err(|error| {
            InvocationError::Broken(format!("the call failed: {}", chain(&error)))
        })?;
        if fault == Some(&Fault::Drop) {
            return Err(InvocationError::Broken(DROPPED.to_owned()));
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES)
            .collect()
            .await
            .map_err(|error| InvocationError::Broken(format!("the answer broke off: {error}")))?
            .to_bytes();
        match judge(parts.status, &parts.headers, &body) {
            Verdict::Success(answer) => {
                let traceparent = trace.as_ref().and_then(|trace| trace.to_str().ok());
                let source = Source { function: call.function, envelope, traceparent };
                if let Err(why) = self.outputs.write(source, &answer).await {
                    // What the function has to say helps to find out.
                    answer.logs.iter().for_each(|line| record.user(line.clone()));
                    return Err(InvocationError::Failed(why));
                }
                Ok(answer)
            }
            Verdict::Failure(why) => {
                if parts.status.is_success() {
                    self.warn_of_rejection(call.function, &why);
                }
                Err(InvocationError::Failed(why))
            }
            Verdict::Hang => {
                let limit = match self.function_timeout {
                    Some(limit) => format!("until functionTimeout ({limit:?}), then kills it"),
                    None => "for ever (functionTimeout is -1)".to_owned(),
                };
                let name = &call.function.name;
                let cause = format!("Function '{name}' was answered with an empty body or null");
                self.log.sharp_edge(Level::Error, &cause, || {
                    format!(
                        "The handler answered {} with an empty body (or null) to \
                         'Functions.{name}'. The Azure host never completes such an invocation: it \
                         hangs {limit}. Fix: answer with Content-Type: application/json and at \
                         least {{}}.",
                        parts.status
                    )
                });
                std::future::pending().await
            }
        }
    }

    fn request(
        &self,
        call: &Call<'_>,
        id: Uuid,
        envelope: &Envelope,
    ) -> Result<Request<crate::http::client::Body>, InvocationError> {
        let json = Bytes::from(envelope.to_json());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.client.uri(&format!("/{}", call.function.name)))
            .body(body_of(json, self.body_length))
            .map_err(|error| InvocationError::Failed(format!("not a request: {error}")))?;
        let headers = request.headers_mut();
        stamp(headers, id);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(crate::http::client::USER_AGENT));
        if let Ok(trace) = HeaderValue::from_str(&traceparent(call.traceparent.as_deref())) {
            headers.insert("traceparent", trace);
        }
        debug_assert!(headers.contains_key(INVOCATION_ID));
        Ok(request)
    }
}

/// Continues the trace of `parent` with a span of its own, or starts one.
fn traceparent(parent: Option<&str>) -> String {
    let span = &Uuid::new_v4().simple().to_string()[..16];
    let known = parent.and_then(|text| {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let fits = version == "00"
            && hex(trace, 32)
            && hex(parent, 16)
            && hex(flags, 2)
            && trace.bytes().any(|byte| byte != b'0');
        fits.then(|| format!("00-{trace}-{span}-{flags}"))
    });
    known.unwrap_or_else(|| format!("00-{}-{span}-00", Uuid::new_v4().simple()))
}

#[cfg(test)]
mod tests {
    use super::traceparent;

    #[test]
    fn a_trace_is_continued_with_a_new_span() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let continued = traceparent(Some(parent));
        assert!(continued.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{continued}");
        assert!(continued.ends_with("-01") && continued != parent, "{continued}");
        for wrong in [
            None,
            Some(""),
            Some("00-0-0-0"),
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
        ] {
            let fresh = traceparent(wrong);
            assert_eq!((fresh.len(), fresh.split('-').count()), (55, 4), "{wrong:?} {fresh}");
            assert!(fresh.ends_with("-00"), "{fresh}");
        }
    }
}
