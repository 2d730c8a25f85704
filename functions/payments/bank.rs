//! The bank, as this system knows it: charge, look up, cancel. Every request has a key that is
//! stable for the order, so asking twice moves money once.

use std::collections::BTreeSet;
use std::time::Duration;

use orders::{Order, OrderId, Timestamp};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::chain::chain;
use crate::verdict::Trouble;

/// How long the bank may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long connecting to it may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Tries of one request within an invocation.
const TRIES_MAX: u32 = 3;

/// The first pause between two tries; it doubles.
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// References of one look at the ledger, some 40 bytes each: ten a second for the hours that a look
/// goes back.
const CAPTURES_MAX: usize = 100_000;

/// Bytes of a line of the ledger: the bank's lines stay far below.
const LEDGER_LINE_BYTES_MAX: usize = 64 * 1024;

/// The effect of a charge that moved money, in the ledger.
const CAPTURED: &str = "captured";

/// A client of the bank. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bank {
    http: Client,
    base: Url,
    breaker: Breaker,
}

/// What the bank knows of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// Where it stands.
    pub state: PaymentState,
    /// Why, if it was declined.
    #[serde(default)]
    pub reason: Option<String>,
    /// In minor units, if anything was ever asked for.
    #[serde(default)]
    pub amount_minor: Option<u64>,
}

/// Where a payment stands at the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentState {
    /// The money has moved.
    Captured,
    /// The bank said no.
    Declined,
    /// Cancelled before it was ever made; it never will be.
    Voided,
    /// The money has moved back.
    Refunded,
}

/// Why there is no client of the bank.
#[derive(Debug, thiserror::Error)]
#[error("no client for the bank can be made")]
pub struct BankError(#[source] reqwest::Error);

impl Bank {
    /// A client for the bank at `base`, e.g. `http://127.0.0.1:7075/`.
    ///
    /// # Errors
    /// The transport cannot be set up.
    pub fn new(base: Url) -> Result<Self, BankError> {
        let http = Client::builder().timeout(ANSWER_MAX).connect_timeout(CONNECT_MAX);
        // Whatever a redirect leads to, it is not the bank.
        let http = http.redirect(reqwest::redirect::Policy::none()).build().map_err(BankError)?;
        Ok(Self { http, base, breaker: Breaker::new("bank") })
    }

    /// Charges for an order. `called_before` says that an earlier attempt may have charged
    /// already: then the bank is asked first what it knows.
    ///
    /// # Errors
    /// The bank does not answer, or not with a decision.
    pub async fn charge(
        &self,
        order: &Order,
        instrument: Option<&str>,
        called_before: bool,
        deadline: Instant,
    ) -> Result<Payment, Trouble> {
        let charge = Ask::Charge { order, instrument };
        self.tries(charge, called_before, deadline).await
    }

    /// Undoes the payment of an order, whatever has become of it: money that has moved moves back,
    /// and money that has not never will.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub async fn cancel(&self, order_id: OrderId, deadline: Instant) -> Result<Payment, Trouble> {
        self.tries(Ask::Cancel(order_id), false, deadline).await
    }

    /// What the bank knows of the payment of an order; `None` where it has never heard of one.
    ///
    /// # Errors
    /// The bank does not answer, or not with a payment.
    pub async fn look(
        &self,
        order_id: OrderId,
        deadline: Instant,
    ) -> Result<Option<Payment>, Trouble> {
        if self.breaker.admit(deadline).await.is_err() {
            return Err(Trouble::Unavailable("the bank does not answer".to_owned()));
        }
        let known = self.look_up(order_id).await;
        match &known {
            Err(Problem::NoAnswer(_)) => self.breaker.failed(),
            Ok(_) | Err(Problem::Answer(_) | Problem::Unreadable(_)) => self.breaker.succeeded(),
        }
        known.map_err(|problem| match problem {
            Problem::NoAnswer(why) => Trouble::Unavailable(why),
            Problem::Answer(status) => Trouble::Unavailable(format!("the bank answered {status}")),
            Problem::Unreadable(why) => Trouble::poison("bank-answer-unreadable", why),
        })
    }

    /// The references that the bank has charged between two moments, each once, as far as
    /// `CAPTURES_MAX`; whether that is all of them.
    ///
    /// # Errors
    /// The bank does not answer within `deadline`, or not with its ledger.
    pub async fn charged(
        &self,
        since: Timestamp,
        until: Timestamp,
        deadline: Instant,
    ) -> Result<(BTreeSet<String>, bool), Trouble> {
        let reading = self.read_ledger(since, until, deadline);
        let late = || Trouble::Unavailable("the bank's ledger takes too long".to_owned());
        tokio::time::timeout_at(deadline, reading).await.map_err(|_| late())?
    }

    async fn read_ledger(
        &self,
        since: Timestamp,
        until: Timestamp,
        deadline: Instant,
    ) -> Result<(BTreeSet<String>, bool), Trouble> {
        let no_answer = |error: reqwest::Error| Trouble::Unavailable(chain(&error.without_url()));
        // The whole ledger may take longer than one answer of a few bytes.
        let within = deadline.saturating_duration_since(Instant::now());
        let request = self.request(Method::GET, &["v1", "ledger"]).timeout(within);
        let mut response = request.send().await.map_err(no_answer)?;
        if !response.status().is_success() {
            let why = format!("the bank answered {} for its ledger", response.status());
            return Err(Trouble::Unavailable(why));
        }
        let (mut found, mut rest) = (BTreeSet::new(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            rest.extend_from_slice(&chunk);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
                if rest.len() > LEDGER_LINE_BYTES_MAX {
                    return Err(Trouble::poison("bank-answer-unreadable", "an endless line"));
                }
                continue;
            };
            for line in rest[..end].split(|byte| *byte == b'\n') {
                let line: LedgerLine = serde_json::from_slice(line).map_err(|error| {
                    Trouble::poison("bank-answer-unreadable", error.to_string())
                })?;
                if line.effect != CAPTURED || line.at < since || line.at > until {
                    continue;
                }
                if found.len() == CAPTURES_MAX {
                    return Ok((found, false));
                }
                found.insert(line.reference);
            }
            rest.drain(..=end);
        }
        Ok((found, true))
    }

    /// Asks once.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Payment, Problem> {
        let request = match ask {
            Ask::Charge { order, instrument } => {
                let mut body = json!({
                    "reference": order.order_id,
                    "amountMinor": order.total_minor,
                    "currency": order.currency,
                    "customer": order.customer_id,
                });
                if let Some(instrument) = instrument {
                    body["instrument"] = (*instrument).into();
                }
                self.request(Method::POST, &["v1", "charges"])
                    .header("idempotency-key", format!("order:{}:charge", order.order_id))
                    .json(&body)
            }
            Ask::Cancel(order_id) => {
                let reference = order_id.to_string();
                self.request(Method::POST, &["v1", "charges", &reference, "cancel"])
                    .header("idempotency-key", format!("order:{order_id}:cancel"))
            }
        };
        answer(request).await?.ok_or(Problem::Answer(StatusCode::NOT_FOUND))
    }

    async fn look_up(&self, order_id: OrderId) -> Result<Option<Payment>, Problem> {
        let reference = order_id.to_string();
        answer(self.request(Method::GET, &["v1", "charges", &reference])).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Asks a few times, as long as the bank is not known to be away. Before it is asked again to
    /// charge, it is asked what it knows.
    async fn tries(
        &self,
        ask: Ask<'_>,
        mut called_before: bool,
        deadline: Instant,
    ) -> Result<Payment, Trouble> {
        let mut pause = TRY_PAUSE;
        let mut tries = 0;
        loop {
            if self.breaker.admit(deadline).await.is_err() {
                return Err(Trouble::Unavailable("the bank does not answer".to_owned()));
            }
            tries += 1;
            let known = match ask {
                Ask::Charge { order, .. } if called_before => self.look_up(order.order_id).await,
                _ => Ok(None),
            };
            let asked = match known {
                Ok(Some(payment)) => Ok(payment),
                Ok(None) => {
                    called_before = true;
                    self.ask(&ask).await
                }
                Err(problem) => Err(problem),
            };
            let problem = match asked {
                Ok(payment) => {
                    self.breaker.succeeded();
                    return Ok(payment);
                }
                Err(problem) => problem,
            };
            let trouble = match problem {
                Problem::NoAnswer(why) => {
                    self.breaker.failed();
                    Trouble::Unavailable(why)
                }
                Problem::Answer(status) if status.is_server_error() => {
                    self.breaker.failed();
                    Trouble::Unavailable(format!("the bank answered {status}"))
                }
                Problem::Answer(StatusCode::TOO_MANY_REQUESTS) => {
                    self.breaker.succeeded();
                    Trouble::Unavailable("the bank asks for fewer requests".to_owned())
                }
                // Our own mistake, or a change of the bank's protocol: nobody but a person helps.
                Problem::Answer(status) => {
                    self.breaker.succeeded();
                    let why = format!("the bank refused the request with {status}");
                    return Err(Trouble::poison("bank-refused-request", why));
                }
                Problem::Unreadable(why) => {
                    self.breaker.succeeded();
                    return Err(Trouble::poison("bank-answer-unreadable", why));
                }
            };
            if tries == TRIES_MAX || Instant::now() + pause + ANSWER_MAX >= deadline {
                return Err(trouble);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

/// A line of the bank's ledger, as far as it is looked at.
#[derive(Deserialize)]
struct LedgerLine {
    at: Timestamp,
    effect: String,
    #[serde(default)]
    reference: String,
}

/// What the bank is asked for.
enum Ask<'a> {
    Charge { order: &'a Order, instrument: Option<&'a str> },
    Cancel(OrderId),
}

/// Why a request brought no payment.
enum Problem {
    /// Whether it was carried out is unknown.
    NoAnswer(String),
    Answer(StatusCode),
    Unreadable(String),
}

/// Sends a request: the payment, or `None` where the bank knows of none.
async fn answer(request: RequestBuilder) -> Result<Option<Payment>, Problem> {
    let no_answer = |error: reqwest::Error| Problem::NoAnswer(chain(&error.without_url()));
    let response = request.send().await.map_err(no_answer)?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => {
            let body = response.bytes().await.map_err(no_answer)?;
            let payment = serde_json::from_slice(&body);
            payment.map(Some).map_err(|error| Problem::Unreadable(error.to_string()))
        }
        status => Err(Problem::Answer(status)),
    }
}
