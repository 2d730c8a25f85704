//! `GET /`: the portal, compiled in. In a debug build the files are read from the sources instead,
//! so that an edit shows after a browser refresh. They are served as they are written, comments
//! included, and compressed for whoever takes that: by `gzip`, which everybody who takes any
//! compression takes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    VARY,
};
use http::{HeaderMap, HeaderValue};

use super::{OrderApi, content_etag, not_modified, openapi, refuse_method};
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
    "burst.js",
    "chart.js",
    "contract.js",
    "dom.js",
    "experiments.js",
    "faults.js",
    "favicon.svg",
    "feed.js",
    "hull.js",
    "icons.svg",
    "index.html",
    "lab.js",
    "letter.js",
    "letters.js",
    "logs.js",
    "order.js",
    "orders.js",
    "route.js",
    "shop.js",
    "style.css",
    "system.js",
    "waterfall.js",
    "words.js",
];

/// Where the pages live. Each is the same document, which shows the page that its path names.
const PAGES: [&str; 7] = ["orders", "order", "dead-letters", "system", "lab", "logs", "contract"];

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
        .route(
            "/problems/{name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| problem(&name, &headers))
                .fallback(refuse),
        )
}

/// The page that explains a type of problem, so that a `type` leads somewhere (RFC 9457 §3.1.1).
fn problem(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    if openapi::knows(&format!("/problems/{name}")) {
        return serve("index.html", headers);
    }
    Err(Problem::not_found("No answer has problems of this type."))
}

fn serve(file: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let file = if PAGES.contains(&file) { "index.html" } else { file };
    let found = ASSETS.iter().position(|(name, _)| *name == file);
    let at = found.ok_or_else(|| Problem::not_found("No route has this path."))?;
    let name = ASSETS[at].0;
    let encodes = takes_gzip(headers);
    let served = match from_sources(name, encodes) {
        Some(served) => Cow::Owned(served),
        None => Cow::Borrowed(&EMBEDDED[usize::from(encodes)][at]),
    };
    if let Some(unchanged) = not_modified(headers, &served.etag) {
        return Ok(unchanged);
    }
    let mut response = served.content.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if encodes {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(ETAG, served.etag.clone());
    Ok(response)
}

/// Whether the client takes `gzip` (RFC 9110 §12.5.3): a weight of zero says no.
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().any(|value| {
        let codings = value.to_str().unwrap_or_default().split(',');
        codings.map(|coding| coding.replace(' ', "").to_ascii_lowercase()).any(|coding| {
            let (name, weight) = coding.split_once(";q=").unwrap_or((&coding, "1"));
            name == "gzip" && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
        })
    })
}

/// Good enough at a tenth of the time of the best.
const LEVEL: u8 = 6;

/// What a member of a gzip file begins with: deflate, no name, no time, from anywhere (RFC 1952
/// §2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The content as one member of a gzip file.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GZIP_HEADER.to_vec();
    packed.extend(miniz_oxide::deflate::compress_to_vec(content, LEVEL));
    packed.extend(crc32fast::hash(content).to_le_bytes());
    // Its length modulo 2^32; none of the files comes near.
    packed.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    packed
}

/// A file as it goes out: its bytes, and a tag of them.
#[derive(Clone, Debug)]
struct Served {
    content: Bytes,
    etag: HeaderValue,
}

impl Served {
    fn new(content: Vec<u8>, encodes: bool) -> Self {
        let content = if encodes { gzip(&content) } else { content };
        Self { etag: content_etag(&content), content: content.into() }
    }
}

/// The embedded files, plain and compressed, worked out once.
static EMBEDDED: LazyLock<[Vec<Served>; 2]> = LazyLock::new(|| {
    [false, true].map(|encodes| {
        ASSETS.iter().map(|(_, content)| Served::new(content.to_vec(), encodes)).collect()
    })
});

type Written = BTreeMap<(&'static str, bool), (SystemTime, Served)>;

/// Files of the sources, plain or compressed, with the time at which each was written.
static WRITTEN: Mutex<Written> = Mutex::new(BTreeMap::new());

/// The file as it is in the sources; in a release build there are none.
fn from_sources(name: &'static str, encodes: bool) -> Option<Served> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../portal")).join(name);
    let written = path.metadata().and_then(|about| about.modified()).ok()?;
    let mut known = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(&(name, encodes)) {
        Some((at, served)) if *at == written => Some(served.clone()),
        _ => {
            let served = Served::new(std::fs::read(path).ok()?, encodes);
            known.insert((name, encodes), (written, served.clone()));
            Some(served)
        }
    }
}

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
        /// Bytes of all script and style on their way. People open this on a phone.
        const BUDGET_BYTES: usize = 64 * 1024;
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
        let counts = |name: &str| name.ends_with(".js") || name.ends_with(".css");
        let sizes = ASSETS.iter().zip(&EMBEDDED[1]).filter(|((name, _), _)| counts(name));
        let total: usize = sizes.map(|(_, served)| served.content.len()).sum();
        assert!(total <= BUDGET_BYTES, "{total} bytes");
    }

    #[test]
    fn a_file_is_served_with_its_tag_and_only_if_it_is_listed() {
        let page = serve("index.html", &HeaderMap::new()).unwrap();
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let page_tag = page.headers()[ETAG].clone();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::IF_NONE_MATCH, page.headers()[ETAG].clone());
        assert_eq!(serve("index.html", &headers).unwrap().status(), 304);
        for page in PAGES {
            assert_eq!(serve(page, &HeaderMap::new()).unwrap().headers()[ETAG], page_tag, "{page}");
        }
        for other in ["Cargo.toml", "../functions/main.rs", "", "index"] {
            assert_eq!(serve(other, &HeaderMap::new()).unwrap_err().status(), 404);
        }
    }

    #[test]
    fn every_type_of_problem_leads_to_its_explanation() {
        let page = problem("invalid-order", &HeaderMap::new()).unwrap();
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        for other in ["", "invalid", "Invalid-Order", "x\", \"/problems/invalid-order"] {
            assert_eq!(problem(other, &HeaderMap::new()).unwrap_err().status(), 404, "{other}");
        }
    }

    #[test]
    fn a_file_is_compressed_for_whoever_takes_that() {
        let served = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            serve("style.css", &headers).unwrap()
        };
        let packed = served("deflate, GZIP;q=0.5, br, zstd");
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert_ne!(packed.headers()[ETAG], served("br").headers()[ETAG]);
        for not in ["deflate", "gzip;q=0", "gzip; q=0.000", "identity"] {
            assert!(served(not).headers().get(CONTENT_ENCODING).is_none(), "{not}");
        }
        for ((name, written), sent) in ASSETS.iter().zip(&EMBEDDED[1]) {
            let (member, trailer) = sent.content.split_at(sent.content.len() - 8);
            let plain = miniz_oxide::inflate::decompress_to_vec(&member[GZIP_HEADER.len()..]);
            assert_eq!(plain.unwrap(), *written, "{name}");
            assert_eq!(trailer[..4], crc32fast::hash(written).to_le_bytes(), "{name}");
            assert_eq!(trailer[4..], (written.len() as u32).to_le_bytes(), "{name}");
        }
    }
}
