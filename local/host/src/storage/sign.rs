//! SharedKey signatures of the queue service.
//!
//! Reference: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What a signature covers.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Bytes of the body.
    pub(super) length: usize,
    pub(super) content_type: &'a str,
    /// The `x-ms-` headers in the order of their names.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The path of the request as sent, including the account of a path-style endpoint.
    pub(super) path: &'a str,
    /// Decoded parameters in the order of their names.
    pub(super) query: &'a [(&'a str, &'a str)],
}

/// The value of the `Authorization` header.
pub(super) fn authorization(account: &str, key: &[u8], signed: &Signed<'_>) -> String {
    // An HMAC takes a key of any length.
    let signature = Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| BASE64.encode(mac.chain_update(text(account, signed)).finalize().into_bytes()))
        .unwrap_or_default();
    format!("SharedKey {account}:{signature}")
}

fn text(account: &str, signed: &Signed<'_>) -> String {
    let length = if signed.length == 0 { String::new() } else { signed.length.to_string() };
    // Encoding, language, length, MD5, type, date, five conditions and a range.
    let mut text =
        format!("{}\n\n\n{length}\n\n{}\n\n\n\n\n\n\n", signed.method, signed.content_type);
    for (name, value) in signed.headers {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("/{account}{}", signed.path));
    for (name, value) in signed.query {
        text.push_str(&format!("\n{name}:{value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_as_the_sdks_sign_them() {
        let signed = Signed {
            method: "POST",
            length: 5,
            content_type: "application/xml",
            headers: &[
                ("x-ms-date", "Fri, 07 Apr 2017 00:51:12 GMT"),
                ("x-ms-version", "2020-10-02"),
            ],
            path: "/acc/jobs/messages",
            query: &[("messagettl", "60"), ("visibilitytimeout", "0")],
        };
        assert_eq!(
            text("acc", &signed),
            "POST\n\n\n5\n\napplication/xml\n\n\n\n\n\n\n\
             x-ms-date:Fri, 07 Apr 2017 00:51:12 GMT\nx-ms-version:2020-10-02\n\
             /acc/acc/jobs/messages\nmessagettl:60\nvisibilitytimeout:0"
        );
        assert_eq!(
            authorization("acc", b"key-byte", &signed),
            SIGNED_WITH_PYTHON,
            "computed independently, with Python's hmac and hashlib"
        );
    }

    const SIGNED_WITH_PYTHON: &str = "SharedKey acc:paHTHyeE/4JLln/7JTvv5h+E+ONaspdxV2kfrZC5vSA=";
}
