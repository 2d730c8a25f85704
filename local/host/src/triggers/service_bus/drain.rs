//! The end of receiving: the link is drained, so that nothing is on its way any more when it is
//! closed, and what still comes is given back uncounted.
//!
//! Taking the credit back would not do: the broker may have sent messages for it by then, and a
//! message that comes without credit ends the link, together with all that is being worked on.
//! Reference: AMQP 1.0 part 2, section 2.6.7.

use std::time::Duration;

use fe2o3_amqp::Receiver;
use tokio::time::Instant;

/// How long the broker may take to say that nothing more comes. After that the link is closed all
/// the same; what is on its way then is delivered again, and counted.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How far the end of receiving is.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Given up by then; `None` before the host stops.
    until: Option<Instant>,
    /// What the broker has sent last, once it has said so.
    last_sent: Option<Option<u32>>,
    last_received: Option<u32>,
}

impl Drain {
    /// Whether nothing more is taken on.
    pub(super) fn has_begun(&self) -> bool {
        self.until.is_some()
    }

    /// When the broker has had enough time.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Asks the broker to send what it has for the credit that is left, and no more.
    ///
    /// # Errors
    /// How the link broke.
    pub(super) async fn begin(&mut self, receiver: &mut Receiver) -> Result<(), String> {
        self.until = Some(Instant::now() + DRAIN_TIMEOUT);
        if receiver.credit() == 0 {
            // Everything is here that was asked for.
            self.last_sent = Some(self.last_received);
            return Ok(());
        }
        receiver.drain().await.map_err(|error| format!("the link broke: {error}"))
    }

    /// A delivery has arrived.
    pub(super) fn received(&mut self, delivery: u32) {
        self.last_received = Some(delivery);
    }

    /// The broker has said which delivery was the last.
    pub(super) fn ended(&mut self, last: Option<u32>) {
        self.last_sent = Some(last);
    }

    /// Whether nothing is on its way any more, or nobody waits for it any longer.
    pub(super) fn is_over(&self) -> bool {
        let Some(until) = self.until else { return false };
        self.last_sent == Some(self.last_received) || Instant::now() >= until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_with_the_last_delivery_or_when_the_broker_is_silent() {
        let mut drain = Drain::default();
        drain.ended(None);
        assert!(!drain.is_over(), "a drain that nobody has begun");
        drain = Drain { until: Some(Instant::now() + DRAIN_TIMEOUT), ..Drain::default() };
        drain.received(6);
        assert!(!drain.is_over());
        drain.ended(Some(7));
        assert!(!drain.is_over(), "7 is on its way");
        drain.received(7);
        assert!(drain.is_over());
        drain.last_sent = None;
        assert!(!drain.is_over());
        tokio::time::advance(DRAIN_TIMEOUT).await;
        assert!(drain.is_over());
    }
}
