//! The two XML documents of the queue service: a message to put, a list of messages received.
//!
//! A reader for exactly these answers: elements without attributes, text with entities.

use time::OffsetDateTime;

use super::queue::Received;
use crate::rest::parse_http_date;

/// The body of Put Message.
pub(super) fn message(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A reader would turn it into a line feed.
            '\r' => escaped.push_str("&#xD;"),
            other => escaped.push(other),
        }
    }
    format!("<QueueMessage><MessageText>{escaped}</MessageText></QueueMessage>")
}

/// Reads the answer to Get Messages. `None` when it is not one.
pub(super) fn received(document: &str) -> Option<Vec<Received>> {
    let list = document.find("<QueueMessagesList").map(|start| &document[start..])?;
    let mut messages = Vec::new();
    let mut rest = list;
    while let Some((inner, after)) = element(rest, "QueueMessage") {
        messages.push(Received {
            id: text(inner, "MessageId")?,
            inserted: date(inner, "InsertionTime")?,
            expires: date(inner, "ExpirationTime")?,
            pop_receipt: text(inner, "PopReceipt")?,
            next_visible: date(inner, "TimeNextVisible")?,
            dequeue_count: text(inner, "DequeueCount")?.parse().ok()?,
            text: text(inner, "MessageText").unwrap_or_default(),
        });
        rest = after;
    }
    Some(messages)
}

/// The text of `name` in an error document.
pub(super) fn text(document: &str, name: &str) -> Option<String> {
    element(document, name).map(|(inner, _)| unescape(inner))
}

fn date(document: &str, name: &str) -> Option<OffsetDateTime> {
    parse_http_date(&text(document, name)?)
}

/// What is inside the first element `name`, and what follows it.
fn element<'a>(document: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let start = document.find(&open)? + open.len();
    let end = start + document[start..].find(&close)?;
    Some((&document[start..end], &document[end + close.len()..]))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        let Some(length) = rest[start..].find(';') else { break };
        let entity = &rest[start + 1..start + length];
        let char = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => entity.strip_prefix('#').and_then(|number| {
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => number.parse().ok(),
                };
                code.and_then(char::from_u32)
            }),
        };
        match char {
            Some(char) => out.push(char),
            None => out.push_str(&rest[start..=start + length]),
        }
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn messages_are_read_and_texts_survive() {
        let text = "a<b>&\"c\" \r\n ü &#x41; ]]>";
        let put = message(text);
        assert!(put.starts_with("<QueueMessage><MessageText>a&lt;b"), "{put}");
        let inner = put
            .trim_start_matches("<QueueMessage><MessageText>")
            .trim_end_matches("</MessageText></QueueMessage>");
        let document = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage>\
             <MessageId>m-1</MessageId><InsertionTime>Sun, 01 Mar 2026 10:00:00 GMT</InsertionTime>\
             <ExpirationTime>Sun, 08 Mar 2026 10:00:00 GMT</ExpirationTime>\
             <PopReceipt>AgAA+/==</PopReceipt>\
             <TimeNextVisible>Sun, 01 Mar 2026 10:10:00 GMT</TimeNextVisible>\
             <DequeueCount>2</DequeueCount><MessageText>{inner}</MessageText></QueueMessage>\
             </QueueMessagesList>"
        );
        let messages = received(&document).unwrap();
        assert_eq!(
            messages,
            [Received {
                id: "m-1".to_owned(),
                inserted: datetime!(2026-03-01 10:00 UTC),
                expires: datetime!(2026-03-08 10:00 UTC),
                pop_receipt: "AgAA+/==".to_owned(),
                next_visible: datetime!(2026-03-01 10:10 UTC),
                dequeue_count: 2,
                text: text.to_owned(),
            }]
        );
        assert_eq!(received("<QueueMessagesList />"), Some(vec![]));
        assert_eq!(received("<html>nginx</html>"), None);
        assert_eq!(received(&document.replace("DequeueCount", "X")), None);
        assert_eq!(unescape("&#65;&apos;&unknown;&"), "A'&unknown;&");
    }
}
