//! An issuer of tokens for tests: keys of its own, published over HTTP on a free port. Signs by
//! itself, so that what it says does not depend on the library that reads it.

#![allow(dead_code, unreachable_pub, reason = "two test binaries use a part of it each")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An issuer. Its keys are called `rsa` and `elliptic`.
pub struct Issuer {
    /// Claim `iss`.
    pub name: String,
    pub jwks_url: String,
    rsa: RsaKeyPair,
    elliptic: EcdsaKeyPair,
    published: Arc<Mutex<String>>,
    fetches: Arc<AtomicUsize>,
}

/// Seconds since 1970, as `exp` and `nbf` count them.
#[expect(clippy::disallowed_methods, reason = "tokens are made for now")]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub fn start() -> Self {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let elliptic = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // An uncompressed point: a tag, then both coordinates.
        let point = elliptic.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..65]));
        let public = rsa.public_key();
        let n = encode(public.modulus().big_endian_without_leading_zero());
        let e = encode(public.exponent().big_endian_without_leading_zero());
        let keys = json!({"keys": [
            {"kty": "RSA", "use": "sig", "kid": "rsa", "n": n, "e": e},
            {"kty": "EC", "crv": "P-256", "kid": "elliptic", "x": x, "y": y},
        ]});
        let published = Arc::new(Mutex::new(keys.to_string()));
        let fetches = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (served, counted) = (Arc::clone(&published), Arc::clone(&fetches));
        // Lives as long as the test process; nobody joins it.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let body = served.lock().unwrap().clone();
                answer(connection, &body, &counted);
            }
        });
        let jwks_url = format!("{base}/keys");
        Self { name: format!("{base}/"), jwks_url, rsa, elliptic, published, fetches }
    }

    /// Requests for the keys so far.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// Publishes something else instead of the keys.
    pub fn publish(&self, body: &str) {
        body.clone_into(&mut self.published.lock().unwrap());
    }

    /// Claims that hold for `api://bulkhead`, for five minutes.
    pub fn claims(&self, who: &str, roles: &[&str]) -> Value {
        json!({"iss": self.name, "aud": "api://bulkhead", "sub": who, "oid": who,
            "exp": now_s() + 300, "nbf": now_s(), "roles": roles})
    }

    pub fn token(&self, claims: &Value) -> String {
        self.with_header(&json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}), claims)
    }

    /// Signed with the RSA key, whatever the header says.
    pub fn with_header(&self, header: &Value, claims: &Value) -> String {
        sign(&self.rsa, header, claims)
    }

    pub fn elliptic_token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "elliptic"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.elliptic.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// `alg=none`, and no signature.
    pub fn unsigned(&self, claims: &Value) -> String {
        let header = json!({"alg": "none", "typ": "JWT", "kid": "rsa"});
        format!("{}.{}.", encode(header.to_string()), encode(claims.to_string()))
    }

    /// Everything right but the key.
    pub fn signed_by_another(&self, claims: &Value) -> String {
        let another = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        sign(&another, &json!({"alg": "RS256", "kid": "rsa"}), claims)
    }
}

fn sign(key: &RsaKeyPair, header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", encode(signature))
}

/// How long a client may take to send its request: one that never does is nobody's concern.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

fn answer(mut connection: TcpStream, body: &str, fetches: &AtomicUsize) {
    connection.set_read_timeout(Some(REQUEST_WITHIN)).unwrap();
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&part[..read]),
        }
    }
    // A client of whoever had this port before may still be looking for it.
    if !request.starts_with(b"GET /keys ") {
        return;
    }
    fetches.fetch_add(1, Ordering::SeqCst);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    // Whoever hangs up early gets no answer, and the test says so.
    let _ = connection.write_all(format!("{head}{body}").as_bytes());
}
