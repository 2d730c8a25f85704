//! Events for the world outside: each one that concerns it, published to the Event Grid topic.
//!
//! At least once: an event is published on every delivery of it, and before that delivery is
//! acknowledged, so a crash anywhere repeats it and loses nothing. Its id is the event's own, the
//! same each time; subscribers tell events apart by `source` and `id`.

use std::time::Duration;

use azure::connection::GridConnection;
use azure::grid::{GridError, GridOptions, GridPublisher};
use azure::retry::RetryPolicy;
use orders::CloudEvent;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::breaker::Breaker;
use crate::chain::chain;
use crate::crash;
use crate::verdict::Trouble;

/// How long publishing one event may take, tries included. Well within an invocation, of which the
/// customer's notice has had its part already.
const PUBLISH_MAX: Duration = Duration::from_secs(4);

/// How long one request may take: a healthy topic answers within a tenth of it.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a delivery waits for a topic that is known to be away. Short: nobody's notice should
/// stand in a queue behind it, and the delayed copy waits for free.
const ADMISSION_MAX: Duration = Duration::from_secs(1);

/// Time that is kept back to settle the message.
const SETTLE_RESERVE: Duration = Duration::from_secs(2);

/// Tries of one event within an invocation; further ones are delayed copies.
const RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 3,
    delay_base: Duration::from_millis(100),
    delay_max: Duration::from_millis(400),
    budget: Duration::from_secs(1),
};

/// The way to the topic. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Grid {
    publisher: Option<GridPublisher>,
    breaker: Breaker,
}

impl Grid {
    /// The way to the topic of `connection`; without one, nothing is published, and the log says
    /// so here.
    ///
    /// # Errors
    /// The connection is of no use, or the transport cannot be set up.
    pub fn new(connection: Option<GridConnection>) -> Result<Self, GridError> {
        let options = GridOptions {
            deadline: PUBLISH_MAX,
            attempt_timeout: ANSWER_MAX,
            connect_timeout: CONNECT_MAX,
            retry: RETRY,
        };
        let publisher = connection.map(|found| GridPublisher::new(found, options)).transpose()?;
        if publisher.is_none() {
            info!("no Event Grid topic is set: nothing is published to the world outside");
        }
        Ok(Self { publisher, breaker: Breaker::new("grid") })
    }

    /// Publishes an event, within the time that is left until `deadline`.
    ///
    /// # Errors
    /// The topic does not answer, or does not take it.
    pub async fn publish(&self, event: &CloudEvent, deadline: Instant) -> Result<(), Trouble> {
        let Some(publisher) = &self.publisher else { return Ok(()) };
        crash::point("notification.before-publish").await;
        let deadline = deadline.checked_sub(SETTLE_RESERVE).unwrap_or(deadline);
        let patience = deadline.min(Instant::now() + ADMISSION_MAX);
        if self.breaker.admit(patience).await.is_err() {
            return Err(Trouble::Unavailable("Event Grid does not answer".to_owned()));
        }
        let published = publisher.publish(std::slice::from_ref(event));
        let Ok(published) = tokio::time::timeout_at(deadline, published).await else {
            self.breaker.failed();
            return Err(Trouble::Unavailable("Event Grid did not answer in time".to_owned()));
        };
        match published {
            Ok(()) => {
                self.breaker.succeeded();
                debug!(event.id, "published to Event Grid");
                crash::point("notification.after-publish").await;
                Ok(())
            }
            Err(error) => {
                match error {
                    // It is there, and said what it wants.
                    GridError::Throttled { .. } => self.breaker.succeeded(),
                    _ if error.is_transient() => self.breaker.failed(),
                    GridError::Credential(_) => self.breaker.failed(),
                    _ => self.breaker.succeeded(),
                }
                Err(error.into())
            }
        }
    }
}

impl From<GridError> for Trouble {
    fn from(error: GridError) -> Self {
        let text = format!("Event Grid: {}", chain(&error));
        match &error {
            error if error.is_transient() => Self::Unavailable(text),
            // Credentials and topics are set right by people while messages wait.
            GridError::Credential(_) | GridError::Unauthorized { .. } | GridError::NotFound => {
                Self::Unavailable(text)
            }
            _ => Self::poison("grid-refused-event", text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_can_set_right_waits_and_a_refused_event_does_not() {
        let message = || "m".to_owned();
        for error in [
            GridError::Unauthorized { status: 401, message: message() },
            GridError::NotFound,
            GridError::Throttled { retry_after: None },
            GridError::Unavailable { status: 503, retry_after: None },
            GridError::Timeout { after: PUBLISH_MAX },
        ] {
            assert!(matches!(Trouble::from(error), Trouble::Unavailable(_)));
        }
        let refused = GridError::Rejected { status: 400, message: message() };
        let poison = Trouble::from(refused);
        assert!(matches!(poison, Trouble::Poison { reason: "grid-refused-event", .. }));
    }
}
