//! The bank over HTTP: requests into commands, answers into JSON, and misbehaviour on demand.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::book::{Charge, Refusal};
use super::keeper::{Command, Gone, Reply, Teller};
use super::limits;
use super::problem::Problem;
use super::script::{Behaviour, INSUFFICIENT_FUNDS, Operation, Rules, Script};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Marks a response that must not be sent: its connection is closed instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct HangUp;

/// What every request shares.
pub(super) struct Bank {
    pub(super) teller: Teller,
    pub(super) script: Mutex<Script>,
    pub(super) ledger: PathBuf,
    /// Requests go on when their client has gone.
    pub(super) tasks: TaskTracker,
    /// Free places among [`limits::REQUESTS_MAX`].
    pub(super) places: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

type Shared = State<Arc<Bank>>;
type ReferencePath = Result<Path<String>, PathRejection>;

/// Every route.
pub(super) fn router(bank: Arc<Bank>) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({"status": "healthy"}))))
        .route("/v1/charges", post(charge))
        .route("/v1/charges/{reference}", get(lookup))
        .route("/v1/charges/{reference}/cancel", post(cancel))
        .route("/v1/ledger", get(ledger))
        .route("/v1/summary", get(summary))
        .route("/v1/script", put(put_script).get(get_script).delete(delete_script))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not-found", "no such path"))
        .method_not_allowed_fallback(async || {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method-not-allowed", "no such method here")
        })
        .with_state(bank)
}

async fn charge(State(bank): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let charge: Charge = parse(&body)?;
    check(&charge)?;
    let behaviour = bank.script().next(Operation::Charge, &charge.reference, Some(&charge));
    let decline = match &behaviour {
        Some(Behaviour::Decline { reason }) => {
            Some(reason.clone().unwrap_or_else(|| INSUFFICIENT_FUNDS.to_owned()))
        }
        _ => None,
    };
    bank.behave(behaviour, Command::Charge { key, charge, decline }, StatusCode::CREATED).await
}

async fn lookup(State(bank): Shared, path: ReferencePath) -> Result<Response, Problem> {
    let reference = reference(path)?;
    let behaviour = bank.script().next(Operation::Lookup, &reference, None);
    bank.behave(behaviour, Command::Look { reference }, StatusCode::OK).await
}

async fn cancel(
    State(bank): Shared,
    path: ReferencePath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let reference = reference(path)?;
    let behaviour = bank.script().next(Operation::Cancel, &reference, None);
    bank.behave(behaviour, Command::Cancel { key, reference }, StatusCode::OK).await
}

async fn summary(State(bank): Shared) -> Result<Response, Problem> {
    answer(bank.teller.ask(Command::Sum).await, StatusCode::OK)
}

/// The file as it was when the request arrived; what is added meanwhile is not part of the answer.
async fn ledger(State(bank): Shared) -> Result<Response, Problem> {
    let Ok(Reply::Bytes(length)) = bank.teller.ask(Command::Measure).await else {
        return Err(stopped());
    };
    let file = tokio::fs::File::open(&bank.ledger).await.map_err(|error| {
        tracing::error!(ledger = %bank.ledger.display(), error = %error, "ledger not opened");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem::new(status, "ledger-unreadable", "the ledger cannot be read")
    })?;
    let body = Body::from_stream(ReaderStream::new(file.take(length)));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    Ok(([kind, (header::CONTENT_LENGTH, length.into())], body).into_response())
}

async fn put_script(State(bank): Shared, body: Bytes) -> Result<Json<Rules>, Problem> {
    let rules: Rules = parse(&body)?;
    let mut script = bank.script();
    script.replace(rules).map_err(|error| Problem::bad(error.to_string()))?;
    Ok(Json(script.rules().clone()))
}

async fn get_script(State(bank): Shared) -> Json<Rules> {
    Json(bank.script().rules().clone())
}

async fn delete_script(State(bank): Shared) -> Result<StatusCode, Problem> {
    let none = bank.script().replace(Rules::default());
    none.map_err(|error| Problem::bad(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

impl Bank {
    fn script(&self) -> MutexGuard<'_, Script> {
        // No code that holds it can leave it half changed.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a request as the script wants it.
    async fn behave(
        self: &Arc<Self>,
        behaviour: Option<Behaviour>,
        command: Command,
        created: StatusCode,
    ) -> Result<Response, Problem> {
        let delay = match &behaviour {
            Some(Behaviour::Down {}) => return Ok(hang_up()),
            Some(Behaviour::Fail { status, retry_after_seconds }) => {
                let status = StatusCode::from_u16(*status).unwrap_or_default();
                let detail = "the script wants this request to fail; nothing was done";
                let problem = Problem::new(status, "scripted-failure", detail);
                return Err(problem.retry_after(*retry_after_seconds));
            }
            Some(Behaviour::Slow { millis }) => Duration::from_millis(*millis),
            _ => Duration::ZERO,
        };
        let reply = self.carry_out(command, delay).await?;
        let (silence, answers) = match behaviour {
            Some(Behaviour::Late { millis }) => (Duration::from_millis(millis), true),
            Some(Behaviour::Never {}) => (limits::SILENCE_MAX, false),
            Some(Behaviour::Lost {}) => (Duration::ZERO, false),
            _ => (Duration::ZERO, true),
        };
        // Dropped right here when the client closes its connection.
        if self.is_stopped_within(silence).await || !answers {
            return Ok(hang_up());
        }
        answer(reply, created)
    }

    /// Runs a command to its end even if the client goes meanwhile, as a bank would.
    async fn carry_out(
        self: &Arc<Self>,
        command: Command,
        delay: Duration,
    ) -> Result<Result<Reply, Gone>, Problem> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Problem::unavailable("too many requests are under way"));
        };
        let bank = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let _place = place;
            if bank.is_stopped_within(delay).await {
                return Err(Gone);
            }
            bank.teller.ask(command).await
        });
        Ok(task.await.unwrap_or(Err(Gone)))
    }

    /// Waits; whether the bank is told to stop first.
    async fn is_stopped_within(&self, delay: Duration) -> bool {
        if delay.is_zero() {
            return false;
        }
        tokio::time::timeout(delay, self.shutdown.cancelled()).await.is_ok()
    }
}

fn answer(reply: Result<Reply, Gone>, created: StatusCode) -> Result<Response, Problem> {
    match reply {
        Ok(Reply::Standing { standing, repeated: false }) => {
            Ok((created, Json(standing)).into_response())
        }
        Ok(Reply::Standing { standing, repeated: true }) => {
            let replayed = (IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
            Ok(([replayed], Json(standing)).into_response())
        }
        Ok(Reply::Account(Some(account))) => Ok(Json(account).into_response()),
        Ok(Reply::Account(None)) => {
            let detail = "the bank has never seen this reference";
            Err(Problem::new(StatusCode::NOT_FOUND, "unknown-reference", detail))
        }
        Ok(Reply::Summary(summary)) => Ok(Json(summary).into_response()),
        Ok(Reply::Refused(refusal)) => Err(refused(refusal)),
        Ok(Reply::Bytes(_)) | Err(Gone) => Err(stopped()),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let (status, name) = match refusal {
        Refusal::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key-reused"),
        Refusal::TooMany => (StatusCode::CONFLICT, "too-many-charges"),
        Refusal::Full => (StatusCode::INSUFFICIENT_STORAGE, "ledger-full"),
    };
    Problem::new(status, name, refusal.to_string())
}

fn stopped() -> Problem {
    Problem::unavailable(
        "the bank is stopping; it is not known whether the request was carried out",
    )
}

fn hang_up() -> Response {
    let mut response = StatusCode::BAD_GATEWAY.into_response();
    response.extensions_mut().insert(HangUp);
    response
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body: {error}")))
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::bad("exactly one header Idempotency-Key is needed"));
    };
    let is_visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    let fits = (1..=limits::KEY_BYTES_MAX).contains(&value.len());
    match value.to_str() {
        Ok(key) if is_visible && fits => Ok(key.to_owned()),
        _ => {
            let limit = limits::KEY_BYTES_MAX;
            Err(Problem::bad(format!(
                "an Idempotency-Key is 1 to {limit} visible ASCII characters"
            )))
        }
    }
}

fn reference(path: ReferencePath) -> Result<String, Problem> {
    let Path(reference) = path.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    check_text("reference", &reference)?;
    Ok(reference)
}

fn check(charge: &Charge) -> Result<(), Problem> {
    check_text("reference", &charge.reference)?;
    check_text("customer", &charge.customer)?;
    if let Some(instrument) = &charge.instrument {
        check_text("instrument", instrument)?;
    }
    if !limits::AMOUNT_MINOR.contains(&charge.amount_minor) {
        let (least, most) = limits::AMOUNT_MINOR.into_inner();
        return Err(Problem::bad(format!("amountMinor has to be {least} to {most}")));
    }
    let currency = charge.currency.as_bytes();
    if currency.len() != 3 || !currency.iter().all(u8::is_ascii_uppercase) {
        return Err(Problem::bad("currency has to be three capital letters, such as EUR"));
    }
    Ok(())
}

fn check_text(name: &str, text: &str) -> Result<(), Problem> {
    let fits = (1..=limits::TEXT_CHARS_MAX).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let limit = limits::TEXT_CHARS_MAX;
    Err(Problem::bad(format!("{name} has to be 1 to {limit} characters, none of them a control")))
}
