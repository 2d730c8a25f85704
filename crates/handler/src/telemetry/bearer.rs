//! Bearer tokens for a service that wants to know who sends telemetry. Where they come from is not
//! known here: the app hands in a [`TokenSource`].
//!
//! A token is held until shortly before it expires. Where a new one cannot be had the old one is
//! used to its end, and then telemetry waits like for a collector that is away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Counter;
use super::metric::Meter;

/// How long before its end a token is renewed: longer than any outage of seconds, and longer than
/// clocks differ.
const RENEWAL_LEAD: Duration = Duration::from_secs(300);

/// How long getting a token may take.
const TOKEN_MAX: Duration = Duration::from_secs(5);

/// The pause after a failure. Identity services count requests, and refuse those who ask too often.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Tokens that could not be had.
static TOKENS_FAILED: Counter =
    Counter::new("telemetry.tokens.failed", "{token}", "Tokens for telemetry that were not given");

/// A bearer token and how long it is good for.
#[derive(Clone, Debug)]
pub struct Token {
    /// `Bearer …`, marked as sensitive.
    header: HeaderValue,
    valid_for: Duration,
}

impl Token {
    /// A token as it was given; `None` where it cannot be put into a header.
    #[must_use]
    pub fn new(token: &str, valid_for: Duration) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        Some(Self { header, valid_for })
    }
}

/// Why there is no token. What it says is logged, so it must not hold one.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Where tokens come from.
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// A token for the service that telemetry is sent to.
    fn token(&self) -> BoxFuture<'_, Result<Token, TokenError>>;
}

/// A token at hand, or the way to one.
#[derive(Debug)]
pub(super) struct Bearer {
    source: Arc<dyn TokenSource>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Good>,
    /// Nobody is asked before, and why.
    pause: Option<(Instant, String)>,
}

#[derive(Debug)]
struct Good {
    header: HeaderValue,
    renew_at: Instant,
    until: Instant,
}

impl Bearer {
    pub(super) fn new(source: Arc<dyn TokenSource>) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// The value of `Authorization`, or why there is none.
    pub(super) async fn header(&self, meter: &Meter) -> Result<HeaderValue, String> {
        // One asks, the other waits for its answer.
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(good) = held.token.as_ref().filter(|good| now < good.renew_at) {
            return Ok(good.header.clone());
        }
        if held.pause.as_ref().is_none_or(|(until, _)| now >= *until) {
            let asked = timeout(TOKEN_MAX, self.source.token()).await;
            let answer = asked.unwrap_or_else(|_| Err("it took too long".into()));
            match answer {
                Ok(Token { header, valid_for }) => {
                    // Short-lived ones are used for half of their life, not fetched every time.
                    let renewed_after = valid_for.saturating_sub(RENEWAL_LEAD).max(valid_for / 2);
                    let good = Good {
                        header: header.clone(),
                        renew_at: now + renewed_after,
                        until: now + valid_for,
                    };
                    *held = Held { token: Some(good), pause: None };
                    return Ok(header);
                }
                Err(error) => {
                    TOKENS_FAILED.add_to(meter, 1, &[]);
                    held.pause = Some((Instant::now() + FAILURE_PAUSE, error.to_string()));
                }
            }
        }
        match (&held.token, &held.pause) {
            (Some(good), _) if now < good.until => Ok(good.header.clone()),
            (_, pause) => {
                let why = pause.as_ref().map_or("", |(_, why)| why.as_str());
                Err(format!("no token can be had: {why}"))
            }
        }
    }

    /// The service does not take the token: the next request asks for another.
    pub(super) async fn refused(&self) {
        let mut held = self.held.lock().await;
        held.token = None;
        let pause = Instant::now() + FAILURE_PAUSE;
        held.pause = Some((pause, "the last one was refused".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Shared;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Gives numbered tokens for as long as it is told to.
    #[derive(Debug, Default)]
    struct Office {
        asked: AtomicU32,
        life: Shared<Option<Duration>>,
    }

    impl TokenSource for Office {
        fn token(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
            Box::pin(async {
                let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
                let life = *self.life.lock().unwrap();
                let life = life.ok_or("the office is closed")?;
                Ok(Token::new(&format!("s3cr3t-{number}"), life).unwrap())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_shortly_before_its_end_and_to_its_end_if_there_is_no_other() {
        let office = Arc::new(Office::default());
        let meter = Meter::default();
        let bearer = Bearer::new(Arc::clone(&office) as _);
        let header = async || {
            let value = bearer.header(&meter).await?;
            assert!(value.is_sensitive());
            Ok::<_, String>(value.to_str().unwrap().to_owned())
        };
        let failed = || format!("{:?}", meter.snapshot()).contains("Count(3)");
        let asked = || office.asked.load(Ordering::Relaxed);

        assert!(header().await.unwrap_err().ends_with("the office is closed"));
        assert!(header().await.is_err());
        assert_eq!(asked(), 1, "not at every request");
        tokio::time::advance(FAILURE_PAUSE).await;
        *office.life.lock().unwrap() = Some(Duration::from_secs(3_600));
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-2");
        tokio::time::advance(Duration::from_secs(3_299)).await;
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-2");
        assert_eq!(asked(), 2);

        *office.life.lock().unwrap() = None;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-2", "still good");
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-2");
        assert_eq!(asked(), 3);
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(header().await.is_err(), "expired");
        assert!(failed(), "{:?}", meter.snapshot());

        // A short life is no reason to ask every time; a refusal is one to ask again.
        tokio::time::advance(FAILURE_PAUSE).await;
        *office.life.lock().unwrap() = Some(Duration::from_secs(60));
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-5");
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-5");
        bearer.refused().await;
        assert!(header().await.unwrap_err().contains("refused"));
        tokio::time::advance(FAILURE_PAUSE).await;
        assert_eq!(header().await.unwrap(), "Bearer s3cr3t-6");
        assert!(!format!("{bearer:?}").contains("s3cr3t"), "{bearer:?}");
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new("s3cr3t", Duration::ZERO).unwrap();
        assert!(!format!("{token:?}").contains("s3cr3t"), "{token:?}");
        assert!(Token::new("two\nlines", Duration::ZERO).is_none());
    }
}
