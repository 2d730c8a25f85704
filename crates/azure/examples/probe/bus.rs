//! What is asked of the broker.

use std::time::{Duration, Instant};

use azure::bus::{
    BusClient, BusError, Disposition, Message, MessageState, Received, Receiver, ReceiverOptions,
    SubQueue,
};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    Outcome, chain, hold,
    rate::{CALLERS, Run, cpu_time, report},
};

/// How long an event may take to show.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct BusProbe {
    pub(crate) client: BusClient,
    pub(crate) topic: String,
    pub(crate) subscription: String,
    /// What messages need for the subscription's rules to match.
    pub(crate) property: Option<(String, String)>,
}

impl BusProbe {
    fn message(&self, body: &str) -> Message {
        let message = Message {
            message_id: Some(Uuid::new_v4().to_string()),
            content_type: Some("text/plain".to_owned()),
            correlation_id: Some("probe".to_owned()),
            ..Message::new(body.to_owned())
        };
        match &self.property {
            Some((name, value)) => message.with_property(name, value.as_str()),
            None => message,
        }
    }

    fn receiver(&self, sub_queue: SubQueue) -> Receiver {
        self.client.receiver(&self.topic, Some(&self.subscription), ReceiverOptions { sub_queue })
    }

    /// The one message with this body; others are left to others.
    async fn expect(&self, receiver: &Receiver, body: &str) -> Outcome<Received> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for received in receiver.receive(1, Duration::from_secs(1)).await.map_err(chain)? {
                if received.message.body == body {
                    return Ok(received);
                }
                receiver.complete(&received).await.map_err(chain)?;
            }
        }
        Err(format!("message {body:?} did not come").into())
    }

    pub(crate) async fn check(&self) -> Outcome {
        let sender = self.client.sender(&self.topic);
        let receiver = self.receiver(SubQueue::None);
        let (normal, dead) = (&receiver, &self.receiver(SubQueue::DeadLetter));

        let sent =
            self.message("first").with_property("long", 1i64 << 40).with_property("on", true);
        sender.send(&sent).await.map_err(chain)?;
        let got = self.expect(normal, "first").await?;
        hold!(
            got.message.application_properties == sent.application_properties,
            "properties keep their types"
        );
        hold!(
            got.message.message_id == sent.message_id
                && got.message.correlation_id == sent.correlation_id
                && got.message.content_type == sent.content_type,
            "broker properties arrive"
        );
        hold!(
            got.delivery_count == 0 && got.sequence_number > 0 && got.enqueued_at.is_some(),
            "the broker adds its own"
        );
        let until = got.locked_until.ok_or("no lock end")?;
        let renewed = normal.renew_lock(&got).await.map_err(chain)?;
        hold!(renewed >= until, "a lock is renewed");
        normal.abandon(&got).await.map_err(chain)?;
        let got = self.expect(normal, "first").await?;
        hold!(got.delivery_count == 1, "an abandoned message comes again, and is counted");
        normal.complete(&got).await.map_err(chain)?;
        let twice = normal.complete(&got).await;
        hold!(matches!(twice, Err(BusError::LockLost)), "completing twice is a lost lock");

        self.check_dead_letters(normal, dead).await?;
        self.check_batches(normal).await?;
        self.check_management(normal).await?;

        let nowhere = self.client.sender("no-such-entity").send(&self.message("x")).await;
        hold!(matches!(nowhere, Err(BusError::NotFound { .. })), "a missing entity is told apart");
        let empty = Instant::now();
        hold!(
            normal.receive(5, Duration::from_millis(300)).await.map_err(chain)?.is_empty(),
            "an empty entity is empty"
        );
        hold!(empty.elapsed() < Duration::from_secs(2), "after {:?}", empty.elapsed());
        sender.send(&self.message("after waiting")).await.map_err(chain)?;
        let got = self.expect(normal, "after waiting").await?;
        hold!(got.delivery_count == 0, "no credit was left behind to swallow the next message");
        normal.complete(&got).await.map_err(chain)?;
        Ok(())
    }

    async fn check_dead_letters(&self, normal: &Receiver, dead: &Receiver) -> Outcome {
        let sender = self.client.sender(&self.topic);
        sender.send(&self.message("poison")).await.map_err(chain)?;
        let got = self.expect(normal, "poison").await?;
        normal.dead_letter(&got, "Poison", "not what was expected").await.map_err(chain)?;
        let buried = self.expect(dead, "poison").await?;
        hold!(
            buried.dead_letter_reason.as_deref() == Some("Poison")
                && buried.dead_letter_description.as_deref() == Some("not what was expected"),
            "a dead letter says why"
        );
        hold!(buried.message.message_id == got.message.message_id, "and keeps its id");
        dead.complete(&buried).await.map_err(chain)?;

        // What a function does with a message that its host holds.
        sender.send(&self.message("held elsewhere")).await.map_err(chain)?;
        let got = self.expect(normal, "held elsewhere").await?;
        let token = got.lock_token.ok_or("no lock token")?;
        let other = BusClient::clone(&self.client);
        let disposition =
            Disposition::DeadLettered { reason: "Remote".into(), description: "by token".into() };
        other
            .management(normal.entity())
            .update_disposition(&[token], &disposition)
            .await
            .map_err(chain)?;
        let buried = self.expect(dead, "held elsewhere").await?;
        hold!(
            buried.dead_letter_reason.as_deref() == Some("Remote"),
            "a lock token is enough to dead-letter"
        );
        dead.complete(&buried).await.map_err(chain)?;
        let late = normal.complete(&got).await;
        hold!(matches!(late, Err(BusError::LockLost)), "the holder learns that its lock is gone");
        Ok(())
    }

    async fn check_batches(&self, normal: &Receiver) -> Outcome {
        let filler = "x".repeat(1000);
        let batch: Vec<Message> =
            (0..600).map(|n| self.message(&format!("{n:03}{filler}"))).collect();
        self.client.sender(&self.topic).send_batch(&batch).await.map_err(chain)?;
        let mut bodies = Vec::new();
        let end = Instant::now() + PATIENCE;
        while bodies.len() < batch.len() && Instant::now() < end {
            let got = normal.receive(200, Duration::from_secs(1)).await.map_err(chain)?;
            bodies.extend(got.iter().map(|m| m.message.body.clone()));
            normal
                .settle(&got.iter().collect::<Vec<_>>(), &Disposition::Completed)
                .await
                .map_err(chain)?;
        }
        hold!(
            bodies.iter().eq(batch.iter().map(|message| &message.body)),
            "600 messages in several transfers arrive once each, in order ({} did)",
            bodies.len()
        );
        let huge = self.client.sender(&self.topic).send(&self.message(&"x".repeat(2 << 20))).await;
        hold!(
            matches!(huge, Err(BusError::MessageTooLarge)),
            "a message that is too large is told apart"
        );
        Ok(())
    }

    async fn check_management(&self, normal: &Receiver) -> Outcome {
        let topic = self.client.management(&self.topic);
        let now = OffsetDateTime::from(std::time::UNIX_EPOCH + wall_clock()?);
        let later = |body: &str, after: Duration| Message {
            scheduled_enqueue_time: Some(now + after),
            ..self.message(body)
        };
        let numbers = topic
            .schedule(&[
                later("soon", Duration::from_secs(1)),
                later("never", Duration::from_secs(3600)),
            ])
            .await
            .map_err(chain)?;
        hold!(
            numbers.len() == 2 && numbers[0] != numbers[1],
            "scheduled messages get numbers: {numbers:?}"
        );
        topic.cancel(&numbers[1..]).await.map_err(chain)?;
        let again = topic.cancel(&numbers[1..]).await;
        hold!(matches!(again, Err(BusError::MessageNotFound)), "cancelling twice is told apart");
        let got = self.expect(normal, "soon").await?;
        hold!(
            got.enqueued_at.is_some_and(|at| at >= now + Duration::from_millis(900)),
            "a scheduled message comes when it is due"
        );
        normal.complete(&got).await.map_err(chain)?;

        self.client.sender(&self.topic).send(&self.message("seen")).await.map_err(chain)?;
        let subscription = self.client.management(normal.entity());
        let end = Instant::now() + PATIENCE;
        let peeked = loop {
            let peeked = subscription.peek(0, 10).await.map_err(chain)?;
            if !peeked.is_empty() || Instant::now() > end {
                break peeked;
            }
        };
        hold!(
            peeked
                .iter()
                .any(|message| message.message.body == "seen" && message.lock_token.is_none()),
            "a message can be peeked at"
        );
        let got = self.expect(normal, "seen").await?;
        hold!(got.delivery_count == 0, "peeking is not a delivery");
        normal.defer(&got).await.map_err(chain)?;
        let deferred = subscription.peek(got.sequence_number, 1).await.map_err(chain)?;
        hold!(
            deferred.first().is_some_and(|message| message.state == MessageState::Deferred),
            "a deferred message says so"
        );
        Ok(())
    }

    pub(crate) async fn measure(&self, pace: Duration) -> Outcome {
        for (callers, batch) in [(1, 1), (CALLERS, 1), (1, 100)] {
            let cpu = cpu_time()?;
            let started = Instant::now();
            let mut tasks = JoinSet::new();
            for _ in 0..callers {
                let sender = self.client.sender(&self.topic);
                let messages: Vec<Message> =
                    (0..batch).map(|_| self.message(&"x".repeat(1024))).collect();
                tasks.spawn(async move {
                    let mut run = Run::default();
                    while started.elapsed() < pace {
                        let mut messages = messages.clone();
                        for message in &mut messages {
                            message.message_id = Some(Uuid::new_v4().to_string());
                        }
                        run.record(|| sender.send_batch(&messages)).await;
                    }
                    run
                });
            }
            report(&format!("send {batch}"), callers, started, cpu, tasks).await?;
        }
        let receiver = self.receiver(SubQueue::None);
        let (mut count, started) = (0, Instant::now());
        loop {
            let got = receiver.receive(100, Duration::from_millis(500)).await.map_err(chain)?;
            if got.is_empty() {
                break;
            }
            count += got.len();
            receiver
                .settle(&got.iter().collect::<Vec<_>>(), &Disposition::Completed)
                .await
                .map_err(chain)?;
        }
        println!(
            "received and completed {count}: {:.0}/s",
            count as f64 / started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the probe is its own outermost shell")]
fn wall_clock() -> Outcome<Duration> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?)
}
