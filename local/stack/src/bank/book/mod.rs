//! What the bank knows and decides. Pure: no file, no clock, no network.
//!
//! [`Book::charge`] and [`Book::cancel`] look and decide; [`Book::apply`] is the only change, and
//! takes a line of the ledger. So a book that is read back from its ledger is the book that wrote
//! it, and a ledger that no bank could have written is refused.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;

pub use entry::{Charge, Effect, Entry, Standing, State};

use super::limits;

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These effects, in this order; never none.
    New(Vec<Effect>),
    /// The key has been used for the same request: nothing happens again.
    Repeated,
}

/// A request that is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The key belongs to another request.
    #[error("the idempotency key has been used for another request")]
    KeyReused,
    /// The reference holds the money of [`limits::HELD_MAX`] charges.
    #[error("the reference has been charged too many times")]
    TooMany,
    /// The ledger has reached [`limits::LEDGER_LINES_MAX`].
    #[error("the ledger is full")]
    Full,
}

/// An entry that cannot follow the ones before it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Contradiction(&'static str);

impl Contradiction {
    /// A request was carried out and its key was not bound.
    pub(super) const UNBOUND: Self = Self("the key was not bound");
}

/// Counts and sums over everything; amounts in minor units, whatever the currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Charges under different keys.
    pub charges: u64,
    /// Charges that took money, those included that were refunded later.
    pub captured: u64,
    /// Charges that were declined.
    pub declined: u64,
    /// Charges whose money was given back.
    pub refunded: u64,
    /// References that were cancelled before they were charged.
    pub voided: u64,
    /// Everything that was taken.
    pub captured_minor: u64,
    /// Everything that was given back.
    pub refunded_minor: u64,
    /// References with more than one charge that took money and was not refunded, in order.
    pub multiply_captured: BTreeSet<String>,
}

/// How a reference stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its state: captured if any money is held, else what happened last.
    #[serde(flatten)]
    pub standing: Standing,
    /// Charges that took money, those included that were refunded later.
    pub captures: u32,
    /// Charges whose money was given back.
    pub refunds: u32,
    /// Lines of the charges whose money is held, oldest first.
    #[serde(skip)]
    held: Vec<u64>,
}

/// What a key is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    /// The charge of this line.
    Charge(u64),
    /// A cancellation, with its answer.
    Cancel(Standing),
}

/// A charge that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    charge: Charge,
    state: State,
    reason: Option<String>,
    at: OffsetDateTime,
}

impl Record {
    fn standing(&self) -> Standing {
        Standing {
            reference: self.charge.reference.clone(),
            state: self.state,
            reason: self.reason.clone(),
            amount_minor: Some(self.charge.amount_minor),
            currency: Some(self.charge.currency.clone()),
            at: self.at,
        }
    }
}

/// Everything that the bank knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    lines: u64,
    charges: HashMap<u64, Record>,
    keys: HashMap<String, Bound>,
    accounts: HashMap<String, Account>,
    summary: Summary,
}

impl Book {
    /// How many lines have been applied.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Counts and sums.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Every charge that was ever decided, in no order.
    pub fn charges(&self) -> impl Iterator<Item = &Charge> {
        self.charges.values().map(|record| &record.charge)
    }

    /// How a reference stands; `None` if it was never seen.
    #[must_use]
    pub fn account(&self, reference: &str) -> Option<&Account> {
        self.accounts.get(reference)
    }

    /// What the caller who used this key is told: for a charge, how that charge stands by now; for
    /// a cancellation, what it came to.
    #[must_use]
    pub fn answer(&self, key: &str) -> Option<Standing> {
        Some(match self.keys.get(key)? {
            Bound::Charge(line) => self.charges.get(line)?.standing(),
            Bound::Cancel(standing) => standing.clone(),
        })
    }

    /// Decides about a charge; `decline` is the reason why it would be declined.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn charge(
        &self,
        key: &str,
        charge: &Charge,
        decline: Option<&str>,
    ) -> Result<Decision, Refusal> {
        match self.keys.get(key) {
            Some(Bound::Charge(line)) => {
                let same = self.charges.get(line).is_some_and(|record| record.charge == *charge);
                return if same { Ok(Decision::Repeated) } else { Err(Refusal::KeyReused) };
            }
            Some(Bound::Cancel(_)) => return Err(Refusal::KeyReused),
            None => self.check_room(1)?,
        }
        let charge = charge.clone();
        let effect = if self.is_voided(&charge.reference) {
            Effect::Refused { charge }
        } else if let Some(reason) = decline {
            Effect::Declined { charge, reason: reason.to_owned() }
        } else if self.held(&charge.reference) >= limits::HELD_MAX {
            return Err(Refusal::TooMany);
        } else {
            Effect::Captured { charge }
        };
        Ok(Decision::New(vec![effect]))
    }

    /// Decides about a cancellation: gives back whatever is held, or makes sure that a reference
    /// that was never seen is never charged.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn cancel(&self, key: &str, reference: &str) -> Result<Decision, Refusal> {
        match self.keys.get(key) {
            Some(Bound::Cancel(standing)) if standing.reference == reference => {
                return Ok(Decision::Repeated);
            }
            Some(_) => return Err(Refusal::KeyReused),
            None => {}
        }
        let reference = reference.to_owned();
        let Some(account) = self.accounts.get(&reference) else {
            self.check_room(1)?;
            return Ok(Decision::New(vec![Effect::Voided { reference }]));
        };
        let parts = u32::try_from(account.held.len()).map_err(|_| Refusal::Full)?;
        self.check_room(u64::from(parts).max(1))?;
        if parts == 0 {
            return Ok(Decision::New(vec![Effect::Kept { reference }]));
        }
        let held = account.held.iter().filter_map(|line| Some((*line, self.charges.get(line)?)));
        let refund = |(part, (line, record)): (u32, (u64, &Record))| Effect::Refunded {
            reference: reference.clone(),
            charge: line,
            amount_minor: record.charge.amount_minor,
            currency: record.charge.currency.clone(),
            part,
            parts,
        };
        Ok(Decision::New((1..).zip(held).map(refund).collect()))
    }

    /// Applies one line. On an error nothing is changed.
    ///
    /// # Errors
    /// The line cannot follow the ones before it.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Contradiction> {
        if entry.sequence != self.lines + 1 {
            return Err(Contradiction("the sequence number is not the next one"));
        }
        if self.keys.contains_key(&entry.key) {
            return Err(Contradiction("the key is bound already"));
        }
        match &entry.effect {
            Effect::Captured { charge } => self.record(entry, charge, State::Captured, None)?,
            Effect::Declined { charge, reason } => {
                self.record(entry, charge, State::Declined, Some(reason.clone()))?;
            }
            Effect::Refused { charge } => self.record(entry, charge, State::Voided, None)?,
            Effect::Refunded { reference, charge, amount_minor, currency, part, parts } => {
                if *part == 0 || part > parts {
                    return Err(Contradiction("there is no such part of the cancellation"));
                }
                self.refund(reference, *charge, (*amount_minor, currency), entry.at)?;
                if part == parts {
                    self.bind_cancel(entry);
                }
            }
            Effect::Voided { reference } => {
                if self.accounts.contains_key(reference) {
                    return Err(Contradiction("a reference that was seen is voided"));
                }
                let standing = Standing {
                    reference: reference.clone(),
                    state: State::Voided,
                    reason: None,
                    amount_minor: None,
                    currency: None,
                    at: entry.at,
                };
                let account = Account { standing, captures: 0, refunds: 0, held: Vec::new() };
                self.accounts.insert(reference.clone(), account);
                self.summary.voided += 1;
                self.bind_cancel(entry);
            }
            Effect::Kept { reference } => {
                if self.accounts.get(reference).is_none_or(|account| !account.held.is_empty()) {
                    return Err(Contradiction("a cancellation left something undone"));
                }
                self.bind_cancel(entry);
            }
        }
        self.lines = entry.sequence;
        Ok(())
    }

    fn is_voided(&self, reference: &str) -> bool {
        let account = self.accounts.get(reference);
        account.is_some_and(|account| account.standing.state == State::Voided)
    }

    fn held(&self, reference: &str) -> usize {
        self.accounts.get(reference).map_or(0, |account| account.held.len())
    }

    fn check_room(&self, lines: u64) -> Result<(), Refusal> {
        let fits = self.lines + lines <= limits::LEDGER_LINES_MAX;
        if fits { Ok(()) } else { Err(Refusal::Full) }
    }

    /// A charge that was decided, under a key of its own.
    fn record(
        &mut self,
        entry: &Entry,
        charge: &Charge,
        state: State,
        reason: Option<String>,
    ) -> Result<(), Contradiction> {
        if !limits::AMOUNT_MINOR.contains(&charge.amount_minor) {
            return Err(Contradiction("the amount is out of range"));
        }
        if self.is_voided(&charge.reference) != (state == State::Voided) {
            return Err(Contradiction("a charge and its reference disagree about being voided"));
        }
        let record = Record { charge: charge.clone(), state, reason, at: entry.at };
        let standing = record.standing();
        let account = self.accounts.entry(charge.reference.clone()).or_insert_with(|| Account {
            standing: standing.clone(),
            captures: 0,
            refunds: 0,
            held: Vec::new(),
        });
        match state {
            State::Captured => {
                account.standing = standing;
                account.captures += 1;
                account.held.push(entry.sequence);
                if account.held.len() > 1 {
                    self.summary.multiply_captured.insert(charge.reference.clone());
                }
                self.summary.captured += 1;
                self.summary.captured_minor += charge.amount_minor;
            }
            State::Declined => {
                // Money that is held counts for more than a later decline.
                if account.held.is_empty() {
                    account.standing = standing;
                }
                self.summary.declined += 1;
            }
            State::Voided | State::Refunded => {}
        }
        self.summary.charges += 1;
        self.keys.insert(entry.key.clone(), Bound::Charge(entry.sequence));
        self.charges.insert(entry.sequence, record);
        Ok(())
    }

    fn refund(
        &mut self,
        reference: &str,
        line: u64,
        money: (u64, &str),
        at: OffsetDateTime,
    ) -> Result<(), Contradiction> {
        let account = self.accounts.get_mut(reference);
        let place = account.and_then(|account| {
            let place = account.held.iter().position(|held| *held == line)?;
            Some((account, place))
        });
        let (Some((account, place)), Some(record)) = (place, self.charges.get_mut(&line)) else {
            return Err(Contradiction("a refund of money that is not held"));
        };
        if money != (record.charge.amount_minor, &record.charge.currency) {
            return Err(Contradiction("a refund of another amount than was taken"));
        }
        record.state = State::Refunded;
        record.at = at;
        account.held.remove(place);
        account.refunds += 1;
        if account.held.is_empty() {
            account.standing = record.standing();
        }
        if account.held.len() <= 1 {
            self.summary.multiply_captured.remove(reference);
        }
        self.summary.refunded += 1;
        self.summary.refunded_minor += money.0;
        Ok(())
    }

    /// Binds the key of a cancellation to how its reference stands now.
    fn bind_cancel(&mut self, entry: &Entry) {
        if let Some(account) = self.accounts.get(entry.effect.reference()) {
            let bound = Bound::Cancel(account.standing.clone());
            self.keys.insert(entry.key.clone(), bound);
        }
    }
}
