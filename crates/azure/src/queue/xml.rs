//! Reads the one XML document that this client receives: a list of messages, elements with text
//! and nothing else.

/// The contents of every element `name` in `document`, in order.
pub(super) fn elements<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = document;
    while let Some(start) = rest.find(&open) {
        let inner = &rest[start + open.len()..];
        let Some(end) = inner.find(&close) else { break };
        found.push(&inner[..end]);
        rest = &inner[end + close.len()..];
    }
    found
}

/// The text of the first element `name`.
pub(super) fn text(document: &str, name: &str) -> Option<String> {
    elements(document, name).first().map(|inner| plain(inner))
}

/// Character references resolved.
fn plain(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest))) {
            Some((character, rest)) => {
                out.push(character);
                out.push_str(rest);
            }
            None => {
                out.push('&');
                out.push_str(part);
            }
        }
    }
    out
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_and_references_resolved() {
        let document = "<L><M><T>a&amp;b &lt;&#65;&#x42;&gt; &x; &</T></M><M><T/></M></L>";
        let messages = elements(document, "M");
        assert_eq!(messages.len(), 2);
        assert_eq!(text(messages[0], "T").as_deref(), Some("a&b <AB> &x; &"));
        assert_eq!(text(messages[1], "T"), None);
        assert!(elements("<M>never closed", "M").is_empty());
    }
}
