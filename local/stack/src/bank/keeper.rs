//! The one thread that owns book and ledger, and commits in groups: while the disk is busy with one
//! write, requests gather for the next, and all of them are answered once it is done.

use listener::Clock;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::book::{
    Account, Book, Charge, Contradiction, Decision, Entry, Refusal, Standing, Summary,
};
use super::ledger::Ledger;
use super::limits;

/// A request for the book.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// Take money.
    Charge {
        /// Idempotency key.
        key: String,
        /// The charge.
        charge: Charge,
        /// Why it is to be declined.
        decline: Option<String>,
    },
    /// Undo whatever was taken, and take nothing from now on.
    Cancel {
        /// Idempotency key.
        key: String,
        /// The reference.
        reference: String,
    },
    /// How does a reference stand?
    Look {
        /// The reference.
        reference: String,
    },
    /// Counts and sums.
    Sum,
    /// How long is the ledger?
    Measure,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Reply {
    /// Done, now or (`repeated`) before.
    Standing {
        /// The answer for the key.
        standing: Standing,
        /// Whether the key had been used before.
        repeated: bool,
    },
    /// Not done.
    Refused(Refusal),
    /// How the reference stands.
    Account(Option<Account>),
    /// Counts and sums.
    Summary(Summary),
    /// Length of the ledger in bytes, whole lines.
    Bytes(u64),
}

/// Why the bank cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The disk did not take the lines.
    #[error("the ledger cannot be written")]
    Ledger(#[from] std::io::Error),
    /// The book does not accept its own decision.
    #[error("the book contradicts itself")]
    Book(#[from] Contradiction),
}

/// The keeper has stopped; nothing is known about what became of the request.
#[derive(Debug)]
pub(super) struct Gone;

type Job = (Command, oneshot::Sender<Reply>);

/// How requests reach the keeper. It ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Teller(mpsc::Sender<Job>);

impl Teller {
    /// Hands a request over and waits until its effects are on the disk.
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Gone> {
        let (sender, reply) = oneshot::channel();
        self.0.send((command, sender)).await.map_err(|_| Gone)?;
        reply.await.map_err(|_| Gone)
    }
}

/// Book and ledger, and who asks for them.
pub(super) struct Keeper {
    book: Book,
    ledger: Ledger,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
}

impl Keeper {
    pub(super) fn new(book: Book, ledger: Ledger, clock: Clock) -> (Self, Teller) {
        let (sender, jobs) = mpsc::channel(limits::QUEUE_MAX);
        (Self { book, ledger, clock, jobs }, Teller(sender))
    }

    /// Serves until nobody can ask any more. Blocks; wants a thread of its own.
    pub(super) fn run(mut self) -> Result<(), Broken> {
        while self.serve_batch()? > 0 {}
        Ok(())
    }

    /// Waits for requests, carries them out, commits, answers; how many, 0 at the end.
    fn serve_batch(&mut self) -> Result<usize, Broken> {
        let mut jobs = Vec::with_capacity(limits::BATCH_MAX);
        if self.jobs.blocking_recv_many(&mut jobs, limits::BATCH_MAX) == 0 {
            return Ok(0);
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for (command, sender) in jobs {
            answers.push((self.perform(command)?, sender));
        }
        self.ledger.commit()?;
        let count = answers.len();
        for (reply, sender) in answers {
            let reply = match reply {
                // Only now is the length that of everything that was answered.
                Reply::Bytes(_) => Reply::Bytes(self.ledger.bytes()),
                reply => reply,
            };
            // A client that has gone does not change what was done.
            let _ = sender.send(reply);
        }
        Ok(count)
    }

    fn perform(&mut self, command: Command) -> Result<Reply, Broken> {
        match command {
            Command::Charge { key, charge, decline } => {
                let decision = self.book.charge(&key, &charge, decline.as_deref());
                self.carry_out(&key, decision)
            }
            Command::Cancel { key, reference } => {
                let decision = self.book.cancel(&key, &reference);
                self.carry_out(&key, decision)
            }
            Command::Look { reference } => {
                Ok(Reply::Account(self.book.account(&reference).cloned()))
            }
            Command::Sum => Ok(Reply::Summary(self.book.summary().clone())),
            Command::Measure => Ok(Reply::Bytes(0)),
        }
    }

    fn carry_out(
        &mut self,
        key: &str,
        decision: Result<Decision, Refusal>,
    ) -> Result<Reply, Broken> {
        let effects = match decision {
            Err(refusal) => return Ok(Reply::Refused(refusal)),
            Ok(Decision::Repeated) => Vec::new(),
            Ok(Decision::New(effects)) => effects,
        };
        let repeated = effects.is_empty();
        let at = utc(self.clock.now_ms());
        for effect in effects {
            let sequence = self.book.lines() + 1;
            let entry = Entry { sequence, at, key: key.to_owned(), effect };
            self.book.apply(&entry)?;
            self.ledger.add(&entry)?;
        }
        let standing = self.book.answer(key).ok_or(Contradiction::UNBOUND)?;
        Ok(Reply::Standing { standing, repeated })
    }
}

/// A time in whole milliseconds, as the ledger writes it.
fn utc(epoch_ms: u64) -> OffsetDateTime {
    let nanos = i128::from(epoch_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bank::book::State;

    fn charge(reference: &str) -> Charge {
        Charge {
            reference: reference.to_owned(),
            amount_minor: 100,
            currency: "EUR".to_owned(),
            customer: "c".to_owned(),
            instrument: None,
        }
    }

    fn keeper() -> (Keeper, Teller, PathBuf) {
        let path = std::env::temp_dir().join(format!("keeper-{}", uuid::Uuid::new_v4()));
        let (ledger, book, _) = Ledger::open(&path).unwrap();
        let (keeper, teller) = Keeper::new(book, ledger, Clock::system());
        (keeper, teller, path)
    }

    #[test]
    fn requests_that_wait_together_share_one_write() {
        let (mut keeper, teller, path) = keeper();
        let mut replies = Vec::new();
        for number in 0..limits::BATCH_MAX {
            let (key, charge) = (format!("k-{number}"), charge("r"));
            let (sender, reply) = oneshot::channel();
            teller.0.try_send((Command::Charge { key, charge, decline: None }, sender)).unwrap();
            replies.push(reply);
        }
        assert_eq!(keeper.serve_batch().unwrap(), limits::BATCH_MAX);
        for mut reply in replies {
            let Reply::Standing { standing, repeated } = reply.try_recv().unwrap() else {
                panic!("refused");
            };
            assert_eq!((standing.state, repeated), (State::Captured, false));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), limits::BATCH_MAX);
        drop(teller);
        assert_eq!(keeper.serve_batch().unwrap(), 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_client_that_has_gone_does_not_change_what_is_done() {
        let (mut keeper, teller, path) = keeper();
        let command = Command::Charge { key: "k".to_owned(), charge: charge("r"), decline: None };
        teller.0.try_send((command, oneshot::channel().0)).unwrap();
        assert_eq!(keeper.serve_batch().unwrap(), 1);
        assert_eq!(keeper.book.summary().captured, 1);
        assert_eq!(keeper.ledger.bytes(), std::fs::metadata(&path).unwrap().len());
        std::fs::remove_file(path).unwrap();
    }
}
