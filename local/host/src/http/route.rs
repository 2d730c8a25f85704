//! Route templates: literals, parameters, constraints and catch-alls, and which one wins.
//!
//! Pure. Reference: <https://learn.microsoft.com/aspnet/core/fundamentals/routing>; of the
//! constraints there `regex` is refused, the rest is known.

use std::cmp::Ordering;
use std::fmt;

use percent_encoding::percent_decode_str;

/// A parsed route, including the prefix. Prints as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Vec<Part>>,
}

/// The values of a matched route, in template order; `None` for an optional one left out.
pub(crate) type Params = Vec<(String, Option<String>)>;

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Param(Param),
}

#[derive(Debug, Clone, PartialEq)]
struct Param {
    name: String,
    constraints: Vec<Constraint>,
    optional: bool,
    default: Option<String>,
    catch_all: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Constraint {
    Int,
    Long,
    Bool,
    Number,
    DateTime,
    Guid,
    Alpha,
    Required,
    Length(usize, usize),
    Range(i64, i64),
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// The error says why the text is no template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let segments: Vec<Vec<Part>> = match text {
            "" => Vec::new(),
            _ => text.split('/').map(parse_segment).collect::<Result<_, _>>()?,
        };
        let (mut names, last) = (Vec::new(), segments.len().saturating_sub(1));
        for (index, segment) in segments.iter().enumerate() {
            for param in segment.iter().filter_map(Part::param) {
                let name = param.name.to_ascii_lowercase();
                if names.contains(&name) {
                    return Err(format!("the parameter '{name}' is there twice"));
                }
                names.push(name);
                if param.catch_all && (index != last || segment.len() > 1) {
                    return Err("a catch-all parameter has to be the last segment".to_owned());
                }
                if param.optional && (index != last || segment.len() > 1) {
                    return Err("an optional parameter has to be the last segment".to_owned());
                }
            }
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// Matches an absolute path, still percent-encoded.
    pub(crate) fn matches(&self, path: &str) -> Option<Params> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut rest = if path.is_empty() { None } else { Some(path) };
        let mut params = Params::new();
        for segment in &self.segments {
            if let [Part::Param(param)] = segment.as_slice()
                && param.catch_all
            {
                let value = rest.map(decode).or_else(|| param.default.clone());
                param.accept(value, &mut params)?;
                return Some(params);
            }
            let Some(here) = rest else {
                let [Part::Param(param)] = segment.as_slice() else { return None };
                if !param.optional && param.default.is_none() {
                    return None;
                }
                param.accept(param.default.clone(), &mut params)?;
                continue;
            };
            let (head, tail) = match here.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (here, None),
            };
            if head.is_empty() {
                return None;
            }
            match_segment(segment, &decode(head), &mut params)?;
            rest = tail;
        }
        rest.is_none().then_some(params)
    }

    /// Which of two templates is tried first: the more specific one, segment by segment.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let rank = |template: &Self| template.segments.iter().map(|s| rank(s)).collect::<Vec<_>>();
        let text = |template: &Self| template.text.to_ascii_lowercase();
        rank(self).cmp(&rank(other)).then_with(|| text(self).cmp(&text(other)))
    }
}

impl Part {
    fn param(&self) -> Option<&Param> {
        match self {
            Self::Param(param) => Some(param),
            Self::Literal(_) => None,
        }
    }
}

impl Param {
    fn accept(&self, value: Option<String>, params: &mut Params) -> Option<()> {
        if let Some(value) = &value
            && !self.constraints.iter().all(|constraint| constraint.admits(value))
        {
            return None;
        }
        params.push((self.name.clone(), value));
        Some(())
    }
}

impl Constraint {
    fn admits(&self, value: &str) -> bool {
        match self {
            Self::Int => value.parse::<i32>().is_ok(),
            Self::Long => value.parse::<i64>().is_ok(),
            Self::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            Self::DateTime => is_date_time(value),
            Self::Guid => uuid::Uuid::try_parse(value).is_ok(),
            Self::Alpha => value.chars().all(|c| c.is_ascii_alphabetic()),
            Self::Required => !value.is_empty(),
            Self::Length(least, most) => (*least..=*most).contains(&value.chars().count()),
            Self::Range(least, most) => {
                value.parse::<i64>().is_ok_and(|number| (*least..=*most).contains(&number))
            }
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => {
                let inner = rest.strip_suffix(')').ok_or("a ')' is missing in a constraint")?;
                (name, inner.split(',').map(str::trim).collect())
            }
            None => (text, Vec::new()),
        };
        let numbers: Option<Vec<i64>> = arguments.iter().map(|a| a.parse().ok()).collect();
        let numbers = numbers.unwrap_or_default();
        let size = |n: i64| usize::try_from(n).unwrap_or(0);
        Ok(match (name.to_ascii_lowercase().as_str(), numbers.as_slice()) {
            ("int", []) => Self::Int,
            ("long", []) => Self::Long,
            ("bool", []) => Self::Bool,
            ("decimal" | "double" | "float", []) => Self::Number,
            ("datetime", []) => Self::DateTime,
            ("guid", []) => Self::Guid,
            ("alpha", []) => Self::Alpha,
            ("required", []) => Self::Required,
            ("length", [n]) => Self::Length(size(*n), size(*n)),
            ("length", [least, most]) => Self::Length(size(*least), size(*most)),
            ("minlength", [n]) => Self::Length(size(*n), usize::MAX),
            ("maxlength", [n]) => Self::Length(0, size(*n)),
            ("min", [n]) => Self::Range(*n, i64::MAX),
            ("max", [n]) => Self::Range(i64::MIN, *n),
            ("range", [least, most]) => Self::Range(*least, *most),
            _ => return Err(format!("the constraint '{text}' is not known to this host")),
        })
    }
}

/// ISO dates, with or without a time: what a URL can reasonably carry of what .NET accepts.
fn is_date_time(value: &str) -> bool {
    let (date, time) = value.split_once(['T', ' ']).unwrap_or((value, "00:00"));
    let numbers = |text: &str, separator: char| -> Option<Vec<u32>> {
        text.split(separator).map(|part| part.parse().ok()).collect()
    };
    let date_fits = matches!(numbers(date, '-').as_deref(),
        Some([year, month @ 1..=12, day @ 1..=31]) if *year >= 1 && *month >= 1 && *day >= 1);
    let time = time.trim_end_matches('Z');
    let time = time.split_once(['.', '+']).map_or(time, |(time, _)| time);
    let time_fits =
        matches!(numbers(time, ':').as_deref(), Some([0..=23, 0..=59] | [0..=23, 0..=59, 0..=59]));
    date_fits && time_fits
}

fn parse_segment(text: &str) -> Result<Vec<Part>, String> {
    if text.is_empty() {
        return Err("it has an empty segment".to_owned());
    }
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let Some(start) = rest.find('{') else {
            parts.push(Part::Literal(rest.to_owned()));
            break;
        };
        if start > 0 {
            parts.push(Part::Literal(rest[..start].to_owned()));
        }
        let end = rest[start..].find('}').ok_or("a '}' is missing")? + start;
        parts.push(Part::Param(parse_param(&rest[start + 1..end])?));
        rest = &rest[end + 1..];
    }
    if parts.windows(2).any(|pair| pair.iter().all(|part| part.param().is_some())) {
        return Err("two parameters have nothing between them".to_owned());
    }
    if parts.iter().any(|part| matches!(part, Part::Literal(text) if text.contains('}'))) {
        return Err("a '{' is missing".to_owned());
    }
    Ok(parts)
}

fn parse_param(text: &str) -> Result<Param, String> {
    let (text, catch_all) = match text.trim_start_matches('*') {
        trimmed if trimmed.len() < text.len() => (trimmed, true),
        _ => (text, false),
    };
    let (text, default) = match text.split_once('=') {
        Some((text, default)) => (text, Some(default.to_owned())),
        None => (text, None),
    };
    let (text, optional) = match text.strip_suffix('?') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut pieces = text.split(':');
    let name = pieces.next().unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Err("a parameter has no name".to_owned());
    }
    let constraints = pieces.map(Constraint::parse).collect::<Result<_, _>>()?;
    Ok(Param { name, constraints, optional, default, catch_all })
}

/// Literals match in any case; a parameter takes at least one character.
fn match_segment(parts: &[Part], text: &str, params: &mut Params) -> Option<()> {
    match parts.split_first() {
        None => text.is_empty().then_some(()),
        Some((Part::Literal(literal), rest)) => {
            let head = text.get(..literal.len())?;
            head.eq_ignore_ascii_case(literal).then_some(())?;
            match_segment(rest, &text[literal.len()..], params)
        }
        Some((Part::Param(param), rest)) => {
            // Longest first: `{name}.{extension}` splits at the last dot.
            let ends = text.char_indices().skip(1).map(|(end, _)| end).chain([text.len()]);
            for end in ends.collect::<Vec<_>>().into_iter().rev() {
                let taken = params.len();
                let fits = param
                    .accept(Some(text[..end].to_owned()), params)
                    .and_then(|()| match_segment(rest, &text[end..], params));
                if fits.is_some() {
                    return Some(());
                }
                params.truncate(taken);
            }
            None
        }
    }
}

fn rank(segment: &[Part]) -> u8 {
    match segment {
        [Part::Literal(_)] => 1,
        [Part::Param(param)] if param.catch_all => 4 + u8::from(param.constraints.is_empty()),
        [Part::Param(param)] if param.constraints.is_empty() => 3,
        _ => 2,
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(template: &str, path: &str) -> Option<Vec<(String, Option<String>)>> {
        Template::parse(template).unwrap().matches(path)
    }

    fn values(template: &str, path: &str) -> Option<String> {
        let params = hit(template, path)?;
        let shown = params.into_iter().map(|(_, value)| value.unwrap_or_else(|| "-".into()));
        Some(shown.collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn templates_match_as_in_aspnet() {
        for (template, path, expected) in [
            ("api/orders", "/api/orders", Some("")),
            ("api/orders", "/API/Orders/", Some("")),
            ("api/orders", "/api/orders/1", None),
            ("api/orders", "/api//orders", None),
            ("", "/", Some("")),
            ("", "/x", None),
            ("api/orders/{id}", "/api/orders/a%2Fb%20c", Some("a/b c")),
            ("api/orders/{id?}", "/api/orders", Some("-")),
            ("api/orders/{id=7}", "/api/orders", Some("7")),
            ("api/orders/{id:int}", "/api/orders/x", None),
            ("api/orders/{id:int:min(5)}", "/api/orders/4", None),
            ("api/orders/{id:int:range(1,9)?}", "/api/orders/4", Some("4")),
            (
                "o/{id:guid}",
                "/o/0f9a5a2e-8a5e-4c0e-9d6e-0b5b7c1f2a11",
                Some("0f9a5a2e-8a5e-4c0e-9d6e-0b5b7c1f2a11"),
            ),
            ("o/{id:alpha:length(2,3)}", "/o/abcd", None),
            ("o/{when:datetime}", "/o/2026-03-01T10:00:00Z", Some("2026-03-01T10:00:00Z")),
            ("o/{when:datetime}", "/o/yesterday", None),
            ("{*path}", "/", Some("-")),
            ("{*path}", "/a/b/c.js", Some("a/b/c.js")),
            ("f/{name}.{ext}", "/f/a.tar.gz", Some("a.tar|gz")),
            ("f/v{major:int}-x", "/f/V12-x", Some("12")),
        ] {
            assert_eq!(values(template, path).as_deref(), expected, "{template} on {path}");
        }
    }

    #[test]
    fn the_more_specific_template_is_tried_first() {
        let mut templates: Vec<Template> =
            ["{*path}", "api/{id}", "api/orders", "api/{id:int}", "api"]
                .iter()
                .map(|text| Template::parse(text).unwrap())
                .collect();
        templates.sort_by(Template::precedence);
        let order: Vec<String> = templates.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["api", "api/orders", "api/{id:int}", "api/{id}", "{*path}"]);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (template, why) in [
            ("a//b", "empty segment"),
            ("a/{b", "'}' is missing"),
            ("a/b}", "'{' is missing"),
            ("{*a}/b", "last segment"),
            ("{a?}/b", "last segment"),
            ("{a}{b}", "nothing between"),
            ("{a}/{A}", "twice"),
            ("{a:regex(x)}", "not known"),
            ("{}", "no name"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
