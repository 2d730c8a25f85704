//! What a line of the ledger says.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

#[cfg(doc)]
use crate::bank::limits;

/// A request to take money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Charge {
    /// What is paid, in the caller's words; up to [`limits::TEXT_CHARS_MAX`] characters.
    pub reference: String,
    /// Amount in minor units, within [`limits::AMOUNT_MINOR`].
    pub amount_minor: u64,
    /// ISO 4217 code, three capital letters.
    pub currency: String,
    /// Who pays.
    pub customer: String,
    /// What with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
}

/// How a charge, or all charges of a reference together, stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The money was taken.
    Captured,
    /// The money was not taken, for a reason that trying again does not change.
    Declined,
    /// Cancelled before anything was taken; nothing ever will be.
    Voided,
    /// The money was taken and given back.
    Refunded,
}

/// A state with what belongs to it; what callers are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The reference.
    pub reference: String,
    /// Its state.
    pub state: State,
    /// Why it was declined.
    pub reason: Option<String>,
    /// Amount in minor units; `None` if nothing was ever asked for.
    pub amount_minor: Option<u64>,
    /// Currency of that amount.
    pub currency: Option<String>,
    /// When the state was reached.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// One thing that the bank did. A key is bound once the effect, or the last one of its `parts`, is
/// applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// A charge took money.
    Captured {
        /// The charge.
        #[serde(flatten)]
        charge: Charge,
    },
    /// A charge was declined.
    Declined {
        /// The charge.
        #[serde(flatten)]
        charge: Charge,
        /// Why.
        reason: String,
    },
    /// A charge came after its reference had been voided.
    Refused {
        /// The charge.
        #[serde(flatten)]
        charge: Charge,
    },
    /// A cancellation gave back what one charge had taken.
    Refunded {
        /// The reference that was cancelled.
        reference: String,
        /// Sequence number of the line of the charge.
        charge: u64,
        /// Amount in minor units: all of it.
        amount_minor: u64,
        /// Its currency.
        currency: String,
        /// Which refund of the cancellation this is, from 1.
        part: u32,
        /// How many refunds the cancellation makes.
        parts: u32,
    },
    /// A cancellation came first: no charge of this reference will take anything.
    Voided {
        /// The reference.
        reference: String,
    },
    /// A cancellation found nothing to undo. Kept so that its key stays bound.
    Kept {
        /// The reference.
        reference: String,
    },
}

impl Effect {
    /// The reference that it is about.
    #[must_use]
    pub fn reference(&self) -> &str {
        match self {
            Self::Captured { charge }
            | Self::Declined { charge, .. }
            | Self::Refused { charge } => &charge.reference,
            Self::Refunded { reference, .. }
            | Self::Voided { reference }
            | Self::Kept { reference } => reference,
        }
    }
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Line number, from 1.
    pub sequence: u64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Idempotency key of the request that caused it.
    pub key: String,
    /// What was done.
    #[serde(flatten)]
    pub effect: Effect,
}
