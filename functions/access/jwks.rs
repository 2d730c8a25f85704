//! The issuer's keys (RFC 7517): fetched when first needed, kept for a while, and fetched again
//! when a token names a key that is not among them, but never more often than every few seconds,
//! whatever tokens come.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::chain::chain;

/// Age at which keys are fetched again: issuers announce new ones a day ahead, and a key that was
/// withdrawn must not be believed for long.
const FRESH_FOR: Duration = Duration::from_secs(60 * 60);

/// Age up to which keys serve while the issuer cannot be reached.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Pause between two requests to the issuer, successful or not.
pub(super) const FETCH_PAUSE: Duration = Duration::from_secs(10);

/// How long the issuer may take.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// How long connecting to it may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Bytes of a key set; Entra's has some 20 KB with its certificates.
const SET_BYTES_MAX: usize = 256 * 1024;

/// Keys of a set; issuers have a handful.
const KEYS_MAX: usize = 64;

/// Bytes of an RSA modulus; RFC 7518 §3.3 asks for 2048 bits.
const RSA_BYTES_MIN: usize = 256;

/// There is no transport to the issuer.
#[derive(Debug, thiserror::Error)]
#[error("no client for the issuer's keys can be made")]
pub struct JwksError(#[source] reqwest::Error);

/// Why there is no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has none by this id.
    Unknown,
    /// The issuer cannot be asked; it will be after this long.
    Unavailable(Duration),
}

/// A key and the one algorithm that it is for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    http: Client,
    url: Url,
    cached: RwLock<Option<Arc<KeySet>>>,
    /// When the issuer was asked last. Held while asking, so that a cold cache costs one request.
    asked_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct KeySet {
    keys: HashMap<String, Key>,
    fetched_at: Instant,
}

impl Jwks {
    pub(super) fn new(url: Url) -> Result<Self, JwksError> {
        let http = Client::builder().timeout(FETCH_MAX).connect_timeout(CONNECT_MAX);
        // Whatever a redirect leads to, it is not the issuer.
        let http = http.redirect(reqwest::redirect::Policy::none()).build().map_err(JwksError)?;
        Ok(Self { http, url, cached: RwLock::new(None), asked_at: Mutex::new(None) })
    }

    /// The key with this id.
    pub(super) async fn key(&self, id: &str) -> Result<Key, NoKey> {
        if let Some(set) = self.cached().filter(|set| set.fetched_at.elapsed() < FRESH_FOR)
            && let Some(key) = set.keys.get(id)
        {
            return Ok(key.clone());
        }
        self.refresh(id).await;
        match self.cached().filter(|set| set.fetched_at.elapsed() < KEPT_FOR) {
            Some(set) => set.keys.get(id).cloned().ok_or(NoKey::Unknown),
            None => Err(NoKey::Unavailable(FETCH_PAUSE)),
        }
    }

    /// Asks the issuer, unless somebody has just done so.
    async fn refresh(&self, id: &str) {
        let mut asked_at = self.asked_at.lock().await;
        if asked_at.is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return;
        }
        *asked_at = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                info!(
                    keys = keys.len(),
                    known = keys.contains_key(id),
                    "fetched the issuer's keys"
                );
                let set = KeySet { keys, fetched_at: Instant::now() };
                let mut cached = self.cached.write().unwrap_or_else(PoisonError::into_inner);
                *cached = Some(Arc::new(set));
            }
            Err(error) => warn!(error, "the issuer's keys cannot be fetched"),
        }
    }

    async fn fetch(&self) -> Result<HashMap<String, Key>, String> {
        let answer = self.http.get(self.url.clone()).send().await;
        let mut answer = answer.map_err(|error| chain(&error))?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(format!("the issuer answered {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| chain(&error))? {
            if body.len() + chunk.len() > SET_BYTES_MAX {
                return Err(format!("the key set has more than {SET_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let keys = parse(&body)?;
        if keys.is_empty() { Err("there is no usable key in the set".to_owned()) } else { Ok(keys) }
    }

    fn cached(&self) -> Option<Arc<KeySet>> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The usable keys of a set. Others are passed over: an issuer may have keys for other purposes.
fn parse(body: &[u8]) -> Result<HashMap<String, Key>, String> {
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "the answer is no key set".to_owned())?;
    if document.keys.len() > KEYS_MAX {
        return Err(format!("the set has more than {KEYS_MAX} keys"));
    }
    let keys =
        document.keys.into_iter().filter_map(|key| usable(&serde_json::from_value(key).ok()?));
    Ok(keys.collect())
}

/// A public key that may sign tokens, with its id.
fn usable(jwk: &Jwk) -> Option<(String, Key)> {
    let id = jwk.common.key_id.clone()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if base64_bytes(&key.n) >= RSA_BYTES_MIN => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        _ => return None,
    };
    match (jwk.common.key_algorithm, algorithm) {
        (None, _)
        | (Some(KeyAlgorithm::RS256), Algorithm::RS256)
        | (Some(KeyAlgorithm::ES256), Algorithm::ES256) => {}
        _ => return None,
    }
    Some((id, Key { algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? }))
}

/// Bytes that unpadded base64 stands for.
fn base64_bytes(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_keys_that_may_sign_tokens_are_taken() {
        let n = "Q".repeat(342);
        let rsa = |change: &[(&str, Value)]| {
            let mut key = json!({"kty": "RSA", "kid": "k", "n": n, "e": "AQAB"});
            for (name, value) in change {
                key[*name] = value.clone();
            }
            parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap().len()
        };
        assert_eq!(rsa(&[]), 1);
        assert_eq!(rsa(&[("use", json!("sig")), ("alg", json!("RS256"))]), 1);
        assert_eq!(rsa(&[("use", json!("enc"))]), 0);
        assert_eq!(rsa(&[("alg", json!("RS512"))]), 0);
        assert_eq!(rsa(&[("kid", Value::Null)]), 0, "a key without a name cannot be asked for");
        assert_eq!(rsa(&[("n", json!("Q".repeat(170)))]), 0, "1024 bits");
        let odd = json!({"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0"}, {"kty": "new"}, 7]});
        assert!(parse(odd.to_string().as_bytes()).unwrap().is_empty());
        assert!(parse(b"{}").is_err() && parse(b"<html>").is_err());
        let many = json!({"keys": vec![json!({}); KEYS_MAX + 1]});
        assert!(parse(many.to_string().as_bytes()).is_err());
    }
}
