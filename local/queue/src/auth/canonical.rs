//! The text that a Shared Key signature is made of.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

/// A request, as far as signatures are concerned.
pub(super) struct Signed<'a> {
    pub(super) account: &'a str,
    pub(super) method: &'a str,
    /// As it is sent, percent-encoded.
    pub(super) path_and_query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) content_length: usize,
}

/// How much is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    SharedKey,
    SharedKeyLite,
}

/// How the names of headers are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the service does: dashes count only between names that are otherwise the same, and an
    /// underscore comes before every digit and letter.
    Service,
    /// By their bytes.
    Bytes,
}

impl Signed<'_> {
    /// The text.
    pub(super) fn text(&self, scheme: Scheme, order: Order) -> String {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let standard = |name: &str| header(name).unwrap_or_default().to_owned();
        // `x-ms-date` is among the canonical headers and takes the place of `Date`.
        let date = match header("x-ms-date") {
            Some(_) => String::new(),
            None => standard("date"),
        };
        let length = match self.content_length {
            0 => String::new(),
            length => length.to_string(),
        };
        let mut text = vec![self.method.to_owned()];
        match scheme {
            Scheme::SharedKey => text.extend([
                standard("content-encoding"),
                standard("content-language"),
                length,
                standard("content-md5"),
                standard("content-type"),
                date,
                standard("if-modified-since"),
                standard("if-match"),
                standard("if-none-match"),
                standard("if-unmodified-since"),
                standard("range"),
            ]),
            Scheme::SharedKeyLite => {
                text.extend([standard("content-md5"), standard("content-type"), date]);
            }
        }
        let mut text = text.join("\n") + "\n";
        self.headers_into(order, &mut text);
        self.resource_into(scheme, &mut text);
        text
    }

    fn headers_into(&self, order: Order, text: &mut String) {
        let names = self.headers.keys().map(http::HeaderName::as_str);
        let mut names: Vec<&str> = names.filter(|name| name.starts_with("x-ms-")).collect();
        names.sort_by(|a, b| match order {
            Order::Service => as_the_service_sorts(a, b),
            Order::Bytes => a.cmp(b),
        });
        for name in names {
            let values = self.headers.get_all(name).iter();
            let values: Vec<&str> =
                values.filter_map(|value| value.to_str().ok()).map(str::trim).collect();
            text.extend([name, ":", &values.join(","), "\n"]);
        }
    }

    fn resource_into(&self, scheme: Scheme, text: &mut String) {
        let (path, query) =
            self.path_and_query.split_once('?').unwrap_or((self.path_and_query, ""));
        text.extend(["/", self.account, path]);
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in parameters_of(query) {
            parameters.entry(name.to_lowercase()).or_default().push(value);
        }
        match scheme {
            Scheme::SharedKey => {
                for (name, mut values) in parameters {
                    values.sort();
                    text.extend(["\n", &name, ":", &values.join(",")]);
                }
            }
            Scheme::SharedKeyLite => {
                if let Some(values) = parameters.get("comp") {
                    text.extend(["?comp=", &values.join(",")]);
                }
            }
        }
    }
}

/// The decoded names and values of a query. A plus sign stands for itself, as in the Base64 of a
/// receipt that somebody forgot to encode.
pub(crate) fn parameters_of(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn as_the_service_sorts(a: &str, b: &str) -> Ordering {
    let weigh = |name: &str| {
        let letters = name.bytes().filter(|byte| *byte != b'-');
        let weights = letters.map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b' ' });
        weights.collect::<Vec<u8>>()
    };
    weigh(a).cmp(&weigh(b)).then_with(|| b.cmp(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the REST reference, moved to the path of an emulator.
    #[test]
    fn the_text_has_every_part_in_its_place() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ms-version", "2024-11-04"),
            ("x-ms-date", " Fri, 26 Jun 2015 23:39:12 GMT "),
            ("date", "Sat, 27 Jun 2015 00:00:00 GMT"),
            ("x-ms-meta-b", "two"),
            ("x-ms-meta-a_b", "one"),
            ("content-type", "application/xml"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let signed = Signed {
            account: "acc",
            method: "PUT",
            path_and_query: "/acc/my%20q?timeout=20&Comp=a%2Cb&restype=x&restype=a",
            headers: &headers,
            content_length: 11,
        };
        let expected = "PUT\n\n\n11\n\napplication/xml\n\n\n\n\n\n\n\
            x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-meta-a_b:one\nx-ms-meta-b:two\n\
            x-ms-version:2024-11-04\n\
            /acc/acc/my%20q\ncomp:a,b\nrestype:a,x\ntimeout:20";
        assert_eq!(signed.text(Scheme::SharedKey, Order::Service), expected);
        let lite = signed.text(Scheme::SharedKeyLite, Order::Bytes);
        assert!(lite.starts_with("PUT\n\napplication/xml\n\nx-ms-date:"), "{lite}");
        assert!(lite.ends_with("\n/acc/acc/my%20q?comp=a,b"), "{lite}");
    }

    #[test]
    fn dashes_do_not_count_unless_nothing_else_does() {
        assert_eq!(as_the_service_sorts("x-ms-meta-ab", "x-ms-metaaa"), Ordering::Greater);
        assert_eq!(as_the_service_sorts("x-ms-meta-a_", "x-ms-meta-a0"), Ordering::Less);
        assert_eq!(as_the_service_sorts("x-ms-ab", "x-ms-a-b"), Ordering::Less);
        assert_eq!(as_the_service_sorts("x-ms-a", "x-ms-a"), Ordering::Equal);
    }
}
