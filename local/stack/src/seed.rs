//! Documents that a fresh store starts with, written over the wire as any client would.

use std::path::Path;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;

/// How long one document may take: the store is on the same machine and was ready a moment ago.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// The seed file: documents by container.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    database: String,
    container: String,
    #[serde(rename = "partitionKey")]
    partition_key: String,
    documents: Vec<Value>,
}

/// Creates every document of `file` that is not there yet; how many were not. What a store has
/// kept from an earlier run stays as it is: stock has moved since.
///
/// # Errors
/// The file cannot be read, or the store does not take a document.
pub async fn seed(file: &Path, endpoint: &str, key: &str) -> Result<usize, Fault> {
    let unusable = |why: String| {
        let what = format!("The seed {} cannot be written to the store.", file.display());
        Fault::new(what, why, "mend the file, or start with --no-seed")
    };
    let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
    let seeds: Vec<Seed> =
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut written = 0;
    for seed in seeds {
        let path = format!("/dbs/{}/colls/{}/docs", seed.database, seed.container);
        for document in seed.documents {
            let partition_key = Value::from(vec![document[&seed.partition_key].clone()]);
            let date = serve_date();
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("{}{path}", endpoint.trim_end_matches('/')))
                .header("authorization", cosmos::auth::sign(key, "post", &path, &date))
                .header("x-ms-date", &date)
                .header("x-ms-version", "2020-07-15")
                .header("x-ms-documentdb-partitionkey", partition_key.to_string())
                .body(Full::new(Bytes::from(document.to_string())))
                .map_err(|error| unusable(error.to_string()))?;
            let response = tokio::time::timeout(WRITE_WITHIN, client.request(request))
                .await
                .map_err(|_| unusable("the store did not answer".to_owned()))?
                .map_err(|error| unusable(error.to_string()))?;
            let status = response.status();
            if status == StatusCode::CONFLICT {
                continue;
            }
            if status != StatusCode::CREATED {
                let body = response.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                return Err(unusable(format!("{status}: {}", String::from_utf8_lossy(&body))));
            }
            written += 1;
        }
    }
    Ok(written)
}

/// Now, as the `x-ms-date` header wants it: RFC 1123.
#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn serve_date() -> String {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::OffsetDateTime::now_utc().format(&form).unwrap_or_default()
}
