//! SharedKey signatures of the queue service.
//!
//! Reference: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.

use azure_core::{credentials::Secret, hmac::hmac_sha256};
use url::Url;

/// The value of the `authorization` header for a request without a body. `headers` are the
/// `x-ms-` headers in the order of their names.
pub(super) fn authorization(
    account: &str,
    key: &Secret,
    method: &str,
    url: &Url,
    headers: &[(&str, &str)],
) -> Result<String, azure_core::Error> {
    let signature = hmac_sha256(&text(account, method, url, headers), key)?;
    Ok(format!("SharedKey {account}:{signature}"))
}

fn text(account: &str, method: &str, url: &Url, headers: &[(&str, &str)]) -> String {
    // Eleven standard headers, of which a request without a body has none.
    let mut text = format!("{method}\n\n\n\n\n\n\n\n\n\n\n\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(&format!("/{account}{}", url.path()));
    let mut parameters: Vec<_> = url.query_pairs().collect();
    parameters.sort();
    for (name, value) in parameters {
        text.push_str(&format!("\n{name}:{value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_what_the_reference_says() {
        let url = "http://h:1/acc/jobs/messages?visibilitytimeout=5&numofmessages=2";
        let headers = [("x-ms-date", "Fri, 07 Apr 2017 00:51:12 GMT"), ("x-ms-version", "v")];
        assert_eq!(
            text("acc", "GET", &url.parse().unwrap(), &headers),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 07 Apr 2017 00:51:12 GMT\n\
             x-ms-version:v\n/acc/acc/jobs/messages\nnumofmessages:2\nvisibilitytimeout:5"
        );
    }
}
