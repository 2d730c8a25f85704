//! Who may do what: shared access signatures, and the paths a connection has shown a token for.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas>. Entra tokens are
//! refused because nothing here could verify them.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::broker::{Timestamp, normalise};
use crate::limits::{TOKEN_CHARS_MAX, TOKENS_PER_CONNECTION_MAX};
use crate::topology::{AuthorizationRule, Right};

/// Why a token is not good. The texts do not say which part of a signature was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("only shared access signatures are accepted here, not tokens of this type")]
    Type,
    #[error("the token is not a shared access signature with sr, sig, se and skn")]
    Malformed,
    #[error("the key name or the signature of the token is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is for another resource")]
    Audience,
}

/// What a token allows, or an operation needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) send: bool,
    pub(super) listen: bool,
    pub(super) manage: bool,
}

impl Rights {
    pub(super) const SEND: Rights = Rights { send: true, listen: false, manage: false };
    pub(super) const LISTEN: Rights = Rights { send: false, listen: true, manage: false };
    pub(super) const ALL: Rights = Rights { send: true, listen: true, manage: true };

    fn of(rights: &[Right]) -> Rights {
        let manage = rights.contains(&Right::Manage);
        Rights {
            send: manage || rights.contains(&Right::Send),
            listen: manage || rights.contains(&Right::Listen),
            manage,
        }
    }

    /// Whether everything that is needed is there.
    fn include(self, needed: Rights) -> bool {
        (self.send || !needed.send)
            && (self.listen || !needed.listen)
            && (self.manage || !needed.manage)
    }

    /// As error texts of the service name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Rights { manage: true, .. } => "Manage",
            Rights { send: true, listen: false, .. } => "Send",
            Rights { send: false, listen: true, .. } => "Listen",
            _ => "Send,Listen",
        }
    }
}

/// The keys of a namespace; those of entities come with each question.
pub(super) struct Keys {
    rules: Vec<AuthorizationRule>,
}

impl Keys {
    /// The root key, with all rights, and further rules. One of them with the root's name stands
    /// in its place.
    pub(super) fn new(name: String, key: String, further: &[AuthorizationRule]) -> Keys {
        let root = AuthorizationRule {
            name,
            primary_key: key,
            secondary_key: None,
            rights: vec![Right::Manage, Right::Send, Right::Listen],
        };
        let replaced = further.iter().any(|rule| rule.name.eq_ignore_ascii_case(&root.name));
        let root = Some(root).filter(|_| !replaced);
        Keys { rules: root.into_iter().chain(further.iter().cloned()).collect() }
    }

    /// What the holder of this name and key may do, as SASL PLAIN gives them.
    pub(super) fn rights_of(&self, name: &[u8], key: &[u8]) -> Option<Rights> {
        let mut found = None;
        for rule in &self.rules {
            for known in keys(rule) {
                if same(rule.name.as_bytes(), name) & same(known.as_bytes(), key) {
                    found = Some(Rights::of(&rule.rights));
                }
            }
        }
        found
    }

    /// Checks a token for `audience` and returns when it expires and what it allows.
    /// `entity_rules` gives the rules of the entity that a path belongs to. Some clients write a
    /// resource without a scheme; `host` is what such a one begins with.
    pub(super) fn verify(
        &self,
        token: &str,
        audience: &str,
        host: Option<&str>,
        now: Timestamp,
        entity_rules: impl FnOnce(&str) -> Vec<AuthorizationRule>,
    ) -> Result<(Timestamp, Rights), TokenError> {
        let fields = token.strip_prefix("SharedAccessSignature ").ok_or(TokenError::Type)?;
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Malformed);
        }
        let field = |name: &str| {
            let pair = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == name);
            let found = fields.split('&').find(pair).and_then(|pair| pair.split_once('='));
            found.map(|(_, value)| value.trim()).ok_or(TokenError::Malformed)
        };
        let (resource, signature) = (field("sr")?, field("sig")?);
        let (expiry, name) = (field("se")?, field("skn")?);
        let signature = percent_decode_str(signature).decode_utf8_lossy();
        let signature = STANDARD.decode(&*signature).map_err(|_| TokenError::Malformed)?;
        let name = percent_decode_str(name).decode_utf8_lossy();
        // Some clients escape the address of a request and then what they sign once more.
        let path = normalise(&normalise(resource));
        // A client that signs the address of a request signs its query with it.
        let path = path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let path = match host.and_then(|host| path.strip_prefix(&host.to_lowercase())) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_matches('/').into(),
            _ => path,
        };
        let of_entity = entity_rules(&path);
        let mut rights = None;
        for rule in self.rules.iter().chain(&of_entity) {
            for key in keys(rule) {
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
                    .map_err(|_| TokenError::Signature)?;
                mac.update(resource.as_bytes());
                mac.update(b"\n");
                mac.update(expiry.as_bytes());
                // Compares in constant time.
                let signed = mac.verify_slice(&signature).is_ok();
                if signed & same(name.as_bytes(), rule.name.as_bytes()) {
                    rights = Some(Rights::of(&rule.rights));
                }
            }
        }
        let rights = rights.ok_or(TokenError::Signature)?;
        let seconds: i64 = expiry.parse().map_err(|_| TokenError::Malformed)?;
        let expires_at = Timestamp::from_millis(seconds.saturating_mul(1_000));
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        if !covers(&path, &normalise(audience)) {
            return Err(TokenError::Audience);
        }
        Ok((expires_at, rights))
    }
}

fn keys(rule: &AuthorizationRule) -> impl Iterator<Item = &str> {
    std::iter::once(rule.primary_key.as_str()).chain(rule.secondary_key.as_deref())
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0_u8, |sum, (a, b)| black_box(sum | (a ^ b)));
    (a.len() == b.len()) & (differences == 0)
}

/// Whether rights on `granted` include rights on `path`: the same, or below it.
fn covers(granted: &str, path: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    granted.is_empty() || path.strip_prefix(granted).is_some_and(below)
}

/// One right on everything below a path.
#[derive(Debug)]
struct Grant {
    path: String,
    rights: Rights,
    until: Timestamp,
}

/// The paths one connection may use, each until its token expires.
#[derive(Debug, Default)]
pub(super) struct Grants {
    grants: Vec<Grant>,
}

impl Grants {
    /// Adds rights on everything below `audience`, or replaces them.
    pub(super) fn add(&mut self, audience: &str, rights: Rights, until: Timestamp) {
        let path = normalise(audience);
        self.grants.retain(|grant| grant.path != path);
        if self.grants.len() >= TOKENS_PER_CONNECTION_MAX {
            let first = (0..self.grants.len()).min_by_key(|at| self.grants[*at].until);
            if let Some(first) = first {
                self.grants.swap_remove(first);
            }
        }
        self.grants.push(Grant { path, rights, until });
    }

    /// Takes back what an earlier token for `audience` allowed; whether there was one.
    pub(super) fn revoke(&mut self, audience: &str) -> bool {
        let (path, before) = (normalise(audience), self.grants.len());
        // What SASL PLAIN allowed came without a token and stays.
        self.grants.retain(|grant| grant.path != path || grant.until == Timestamp::NEVER);
        self.grants.len() < before
    }

    /// Whether a normalised path may be used for something at `now`.
    pub(super) fn allow(&self, path: &str, needed: Rights, now: Timestamp) -> bool {
        self.grants.iter().any(|grant| {
            grant.until > now && grant.rights.include(needed) && covers(&grant.path, path)
        })
    }

    /// When the next right ends.
    pub(super) fn next_expiry(&self) -> Timestamp {
        self.grants.iter().map(|grant| grant.until).min().unwrap_or(Timestamp::NEVER)
    }

    /// Drops what is over, and says whether anything was.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.grants.len();
        self.grants.retain(|grant| grant.until > now);
        self.grants.len() < before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token as the SDKs make it.
    pub(in crate::server) fn sign(key: &str, name: &str, resource: &str, expiry: i64) -> String {
        let resource =
            percent_encoding::utf8_percent_encode(resource, percent_encoding::NON_ALPHANUMERIC);
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature =
            percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}")
    }

    #[test]
    fn tokens_are_good_for_their_key_resource_and_time_only() {
        let keys = Keys::new("Root".into(), "SAS_KEY_VALUE".into(), &[]);
        let now = Timestamp::from_millis(1_000_000);
        let none = |_: &str| Vec::new();
        let verify = |token: &str, audience| keys.verify(token, audience, None, now, none);
        let good = sign("SAS_KEY_VALUE", "Root", "sb://localhost/orders", 2_000);
        let expiry = (Timestamp::from_millis(2_000_000), Rights::ALL);
        assert_eq!(verify(&good, "sb://localhost/orders"), Ok(expiry));
        assert_eq!(verify(&good, "amqps://other/Orders/Subscriptions/s"), Ok(expiry));
        assert_eq!(verify(&good, "sb://localhost/ordersX"), Err(TokenError::Audience));
        assert_eq!(verify(&good, "sb://localhost/"), Err(TokenError::Audience));
        let of = |key, name, expiry| sign(key, name, "sb://localhost/orders", expiry);
        let audience = "sb://localhost/orders";
        let check = |token: String| verify(&token, audience);
        assert_eq!(check(of("other", "Root", 2_000)), Err(TokenError::Signature));
        assert_eq!(check(of("SAS_KEY_VALUE", "Other", 2_000)), Err(TokenError::Signature));
        assert_eq!(check(of("SAS_KEY_VALUE", "Root", 1_000)), Err(TokenError::Expired));
        assert_eq!(
            verify(&good.replace("se=2000", "se=3000"), audience),
            Err(TokenError::Signature)
        );
        assert_eq!(verify("eyJhbGciOiJSUzI1NiJ9", audience), Err(TokenError::Type));
        assert_eq!(verify("SharedAccessSignature sr=x", audience), Err(TokenError::Malformed));
    }

    #[test]
    fn a_resource_may_be_escaped_twice() {
        let keys = Keys::new("Root".into(), "key".into(), &[]);
        let token = sign("key", "Root", "http://localhost/a%20b%2Fc", 100);
        let now = Timestamp::from_millis(0);
        let verify = |audience| keys.verify(&token, audience, None, now, |_| Vec::new());
        assert!(verify("http://localhost/a%20b/c").is_ok());
        assert_eq!(verify("http://localhost/a"), Err(TokenError::Audience));
    }

    #[test]
    fn further_keys_allow_what_their_rule_says_where_it_says() {
        let rule =
            |name: &str, key: &str, second: Option<&str>, rights: &[Right]| AuthorizationRule {
                name: name.into(),
                primary_key: key.into(),
                secondary_key: second.map(str::to_owned),
                rights: rights.to_vec(),
            };
        let further = [rule("Reader", "r1", Some("r2"), &[Right::Listen])];
        let keys = Keys::new("Root".into(), "root".into(), &further);
        let of_orders = |path: &str| match path.starts_with("orders") {
            true => vec![rule("Sender", "s1", None, &[Right::Send])],
            false => Vec::new(),
        };
        let now = Timestamp::from_millis(0);
        let rights = |key: &str, name: &str, resource: &str, audience: &str| {
            let token = sign(key, name, resource, 100);
            keys.verify(&token, audience, None, now, of_orders).map(|(_, rights)| rights)
        };
        let (queue, root) = ("sb://h/orders", "sb://h/");
        assert_eq!(rights("r1", "Reader", root, queue), Ok(Rights::LISTEN));
        assert_eq!(rights("r2", "Reader", queue, queue), Ok(Rights::LISTEN));
        assert_eq!(rights("s1", "Sender", queue, queue), Ok(Rights::SEND));
        // A key of an entity is good for nothing above it or beside it.
        assert_eq!(rights("s1", "Sender", root, queue), Err(TokenError::Signature));
        assert_eq!(rights("s1", "Sender", queue, "sb://h/other"), Err(TokenError::Audience));
        assert_eq!(rights("s1", "Reader", queue, queue), Err(TokenError::Signature));
        assert_eq!(keys.rights_of(b"Reader", b"r2"), Some(Rights::LISTEN));
        assert_eq!(keys.rights_of(b"Reader", b"root"), None);
    }

    #[test]
    fn a_declared_root_key_stands_in_place_of_the_known_one() {
        let own = AuthorizationRule {
            name: "Root".into(),
            primary_key: "own".into(),
            secondary_key: None,
            rights: vec![Right::Listen],
        };
        let keys = Keys::new("Root".into(), "SAS_KEY_VALUE".into(), &[own]);
        assert_eq!(keys.rights_of(b"Root", b"own"), Some(Rights::LISTEN));
        assert_eq!(keys.rights_of(b"Root", b"SAS_KEY_VALUE"), None);
    }

    #[test]
    fn grants_cover_what_is_below_them_until_they_expire() {
        let at = Timestamp::from_millis;
        let mut grants = Grants::default();
        let listen = Rights::LISTEN;
        grants.add("sb://h/orders", listen, at(100));
        assert!(grants.allow("orders/subscriptions/a", listen, at(99)));
        assert!(!grants.allow("orders", Rights::SEND, at(99)));
        assert!(!grants.allow("orders", listen, at(100)));
        assert!(!grants.allow("orders2", listen, at(0)));
        grants.add("sb://h/Orders", Rights::ALL, at(200));
        assert_eq!(grants.next_expiry(), at(200));
        assert!(!grants.expire(at(199)));
        assert!(grants.expire(at(200)));
        assert!(!grants.allow("orders", listen, at(0)));
    }
}
