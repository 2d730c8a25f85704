//! A request as the handlers see it: decoded path and query, headers by name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::reply::Refusal;
use crate::auth::parameters_of;

/// A request without its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query as they were sent.
    pub(super) target: String,
    /// The path decoded, without empty segments: clients add slashes behind.
    pub(super) segments: Vec<String>,
    /// The query decoded, with names in lower case.
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: HeaderMap,
}

impl Request {
    pub(super) fn new(parts: http::request::Parts) -> Result<Self, Refusal> {
        let segments = parts
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8().map(|s| s.into_owned()))
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::invalid_uri())?;
        let query = parameters_of(parts.uri.query().unwrap_or_default())
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { method: parts.method, target, segments, query, headers: parts.headers })
    }

    /// The header `name`, if it is there and printable.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The query parameter `name`, if it is there and not empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The query parameter `name`, which must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.parameter(name).ok_or_else(|| Refusal::missing_parameter(name))
    }

    /// The query parameter `name` as a number in `range`.
    pub(super) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let value: i64 = text.parse().map_err(|_| Refusal::invalid_parameter(name, text))?;
        match u64::try_from(value) {
            Ok(value) if range.contains(&value) => Ok(Some(value)),
            _ => Err(Refusal::parameter_out_of_range(name, text, &range)),
        }
    }

    /// The same for a number that counts things in memory.
    pub(super) fn count(
        &self,
        name: &'static str,
        max: usize,
        default: usize,
    ) -> Result<usize, Refusal> {
        let max = u64::try_from(max).unwrap_or(u64::MAX);
        let count = self.number(name, 1..=max)?;
        Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default))
    }
}
