//! Entra ID tokens as development tools mint them.
//!
//! There is no Entra ID on a desk. In development mode, for a configured tenant, a token is taken
//! that proves the account key: signed with it (`HS256`), or with the key itself where the
//! signature would be, as the tokens of the official emulator are. Whatever a real tenant signed is
//! refused: its keys are not known here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

use crate::auth::Denied;
use crate::limits::MAX_CLOCK_SKEW_SECONDS;

#[derive(Deserialize)]
struct Claims {
    tid: String,
    aud: Value,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
}

/// Checks a token for `tenant` against the account key, decoded and as text.
///
/// # Errors
/// [`Denied`].
pub(crate) fn verify(
    token: &str,
    tenant: &str,
    key: &[u8],
    key_text: &str,
    now_ms: u64,
) -> Result<(), Denied> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Denied::MalformedToken);
    };
    // Some tools pad.
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('='));
    let header: Value =
        decode(header).ok().and_then(|h| serde_json::from_slice(&h).ok()).unwrap_or_default();
    let payload = decode(claims).map_err(|_| Denied::MalformedToken)?;
    let payload: Claims = serde_json::from_slice(&payload).map_err(|_| Denied::MalformedToken)?;
    let proof = decode(signature).map_err(|_| Denied::MalformedToken)?;
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    // HMAC takes keys of any length; both comparisons take the same time whatever differs.
    let mac = |message: &[u8]| {
        Hmac::<Sha256>::new_from_slice(key).map(|mut mac| {
            mac.update(message);
            mac
        })
    };
    let proven = match header["alg"].as_str() {
        Some("HS256") => mac(signed.as_bytes()).is_ok_and(|mac| mac.verify_slice(&proof).is_ok()),
        _ => mac(&proof).is_ok_and(|mac| {
            let expected = Hmac::<Sha256>::new_from_slice(key).map(|mut known| {
                known.update(key_text.as_bytes());
                known.finalize().into_bytes()
            });
            expected.is_ok_and(|expected| mac.verify_slice(&expected).is_ok())
        }),
    };
    if !proven || payload.tid != tenant || !is_audience(&payload.aud) {
        return Err(Denied::WrongSignature);
    }
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let early = payload.nbf.is_some_and(|from| from > now + MAX_CLOCK_SKEW_SECONDS);
    if early || payload.exp <= now {
        return Err(Denied::ClockSkew);
    }
    Ok(())
}

/// The account, or all of Cosmos DB.
fn is_audience(audience: &Value) -> bool {
    let known = |text: &str| {
        let host = text.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split(['/', ':']).next().unwrap_or_default();
        matches!(host, "cosmos.azure.com" | "localhost" | "localhost.localhost" | "127.0.0.1")
    };
    match audience {
        Value::String(text) => known(text),
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(known),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn token(algorithm: &str, tenant: &str, audience: &str, exp: i64, key: &[u8]) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"tid": tenant, "aud": audience, "exp": exp, "nbf": exp - 3600});
        let signed = format!("{}.{}", encode(json!({"alg": algorithm})), encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(signed.as_bytes());
        let proof = match algorithm {
            "HS256" => URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()),
            _ => URL_SAFE_NO_PAD.encode(key),
        };
        format!("{signed}.{proof}")
    }

    #[test]
    fn only_the_holder_of_the_key_gets_in() {
        let exp = (NOW_MS / 1000) as i64 + 60;
        let check = |token: &str| verify(token, "t", b"key", "key", NOW_MS);
        assert_eq!(check(&token("HS256", "t", "https://cosmos.azure.com", exp, b"key")), Ok(()));
        assert_eq!(check(&token("RS256", "t", "https://localhost:8081/", exp, b"key")), Ok(()));
        for (bad, denied) in [
            (token("HS256", "t", "https://cosmos.azure.com", exp, b"no"), Denied::WrongSignature),
            (token("RS256", "t", "https://cosmos.azure.com", exp, b"no"), Denied::WrongSignature),
            (token("none", "t", "https://cosmos.azure.com", exp, b""), Denied::WrongSignature),
            (token("HS256", "u", "https://cosmos.azure.com", exp, b"key"), Denied::WrongSignature),
            (token("HS256", "t", "https://example.com", exp, b"key"), Denied::WrongSignature),
            (token("HS256", "t", "https://localhost", exp - 61, b"key"), Denied::ClockSkew),
            ("a.b".to_owned(), Denied::MalformedToken),
            ("a.b.c".to_owned(), Denied::MalformedToken),
        ] {
            assert_eq!(check(&bad), Err(denied), "{bad}");
        }
    }
}
