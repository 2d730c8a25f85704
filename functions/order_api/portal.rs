//! `GET /`: the portal, compiled in. In a debug build the files are read from the sources instead,
//! so that an edit shows after a browser refresh.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue};

use super::{OrderApi, content_etag, not_modified, refuse_method};
use crate::problem::Problem;

/// Everything comes from this origin; no inline script, no frame, no plug-in.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
     object-src 'none'",
);

/// A browser keeps the files but asks each time whether they still hold: they carry no version in
/// their names.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../portal/", $name)).as_slice())),*]
    };
}

/// The files of `portal/`; a test compares the list with the folder.
const ASSETS: &[(&str, &[u8])] = assets![
    "api.js",
    "app.js",
    "dom.js",
    "favicon.svg",
    "feed.js",
    "form.js",
    "hull.js",
    "icons.svg",
    "index.html",
    "link.js",
    "orders.js",
    "receipt.js",
    "style.css",
    "timeline.js",
    "words.js",
];

/// The routes of the portal.
pub(super) fn router() -> Router<Arc<OrderApi>> {
    let refuse = || refuse_method("GET, HEAD");
    Router::new()
        .route("/", get(async |headers: HeaderMap| serve("index.html", &headers)).fallback(refuse))
        .route(
            "/{file}",
            get(async |Path(file): Path<String>, headers: HeaderMap| serve(&file, &headers))
                .fallback(refuse),
        )
}

fn serve(file: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let asset = ASSETS.iter().zip(&*TAGS).find(|((name, _), _)| *name == file);
    let Some(((name, embedded), embedded_tag)) = asset else {
        return Err(Problem::not_found("No route has this path."));
    };
    let (content, etag) = match from_sources(name) {
        Some(content) => {
            let etag = content_etag(&content);
            (Cow::Owned(content), etag)
        }
        None => (Cow::Borrowed(*embedded), embedded_tag.clone()),
    };
    if let Some(unchanged) = not_modified(headers, &etag) {
        return Ok(unchanged);
    }
    let mut response = content.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ETAG, etag);
    Ok(response)
}

/// The file as it is in the sources; in a release build there are none.
fn from_sources(name: &str) -> Option<Vec<u8>> {
    if cfg!(debug_assertions) {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../portal"));
        std::fs::read(folder.join(name)).ok()
    } else {
        None
    }
}

/// Tags of the embedded files, worked out once.
static TAGS: LazyLock<Vec<HeaderValue>> =
    LazyLock::new(|| ASSETS.iter().map(|(_, content)| content_etag(content)).collect());

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_portal_is_served_and_the_page_stays_small() {
        /// Bytes of all script, style and markup. People open this on a phone. It was 96 KiB before
        /// orders could be undone, cancelled and told about: each is a state to draw and a sentence
        /// to say.
        const BUDGET_BYTES: usize = 108 * 1024;
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../portal"));
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let embedded: Vec<&str> = ASSETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, embedded);
        for (name, content) in ASSETS {
            assert_ne!(media_type(name), "application/octet-stream", "{name}");
            assert!(!content.is_empty());
        }
        let total: usize = ASSETS.iter().map(|(_, content)| content.len()).sum();
        assert!(total <= BUDGET_BYTES, "{total} bytes");
    }

    #[test]
    fn a_file_is_served_with_its_tag_and_only_if_it_is_listed() {
        let page = serve("index.html", &HeaderMap::new()).unwrap();
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let mut headers = HeaderMap::new();
        headers.insert(http::header::IF_NONE_MATCH, page.headers()[ETAG].clone());
        assert_eq!(serve("index.html", &headers).unwrap().status(), 304);
        for other in ["Cargo.toml", "../functions/main.rs", "", "index"] {
            assert_eq!(serve(other, &HeaderMap::new()).unwrap_err().status(), 404);
        }
    }
}
