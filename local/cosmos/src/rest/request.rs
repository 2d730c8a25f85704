//! A request as the handlers see it: decoded path, headers by name, the whole body.

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::reply::Refusal;
use crate::binary;

/// A request that has been read completely.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Decoded, without empty segments: clients add slashes in front and behind.
    pub(super) segments: Vec<String>,
    /// What follows the question mark, still encoded.
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    /// Host and port as the client knows them.
    pub(super) authority: String,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(parts: http::request::Parts, body: Bytes) -> Result<Self, Refusal> {
        let segments = parts
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8().map(|s| s.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::bad("the path is not valid UTF-8"))?;
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
        let authority = authority.unwrap_or("localhost").to_owned();
        // From here on a body is text, however it came.
        let body = match binary::is_binary(&body) {
            true => {
                let text = binary::to_text(&body);
                text.map_err(|error| Refusal::bad(error.to_string()))?.into()
            }
            false => body,
        };
        let query = parts.uri.query().map(str::to_owned);
        Ok(Self { method: parts.method, segments, query, headers: parts.headers, authority, body })
    }

    /// The header `name`, if it is there and printable.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
    }

    /// Whether the header `name` is `true` in any letter case.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.header(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The body as text.
    pub(super) fn text(&self) -> Result<&str, Refusal> {
        std::str::from_utf8(&self.body).map_err(|_| Refusal::bad("the body is not valid UTF-8"))
    }

    /// Whether writes are answered without the item.
    pub(super) fn wants_minimal(&self) -> bool {
        let prefer = self.header("prefer").is_some_and(|value| value.contains("return=minimal"));
        let header = self.header("x-ms-cosmos-populate-content-response-on-write");
        prefer || header.is_some_and(|value| value.eq_ignore_ascii_case("false"))
    }

    /// The page size asked for; `None` leaves it to the server.
    pub(super) fn max_items(&self) -> Option<usize> {
        let value: i64 = self.header("x-ms-max-item-count")?.parse().ok()?;
        usize::try_from(value).ok().filter(|value| *value > 0)
    }
}
