//! LIKE patterns: `%` any text, `_` any character, `[a-c]` and `[^a-c]` sets, an escape character.

/// Whether the whole of `text` fits `pattern`. Takes time proportional to the product of their
/// lengths at most: only the latest `%` is ever retried.
pub(super) fn matches(text: &str, pattern: &str, escape: Option<char>) -> bool {
    let text: Vec<char> = text.chars().collect();
    let Some(pattern) = compile(pattern, escape) else { return false };
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Part::Any) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(part) if part.accepts(text[t]) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let Some((after, at)) = retry else { return false };
        (p, t) = (after, at + 1);
        retry = Some((after, at + 1));
    }
    pattern[p..].iter().all(|part| matches!(part, Part::Any))
}

enum Part {
    Any,
    One,
    Exact(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Exact(exact) => *exact == c,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// `None` when a set is not closed or an escape stands at the end.
fn compile(pattern: &str, escape: Option<char>) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            _ if Some(c) == escape => Part::Exact(chars.next()?),
            '%' => Part::Any,
            '_' => Part::One,
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = chars.next()?;
                    if low == ']' && !ranges.is_empty() {
                        break;
                    }
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => chars.next()?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Part::Set { negated, ranges }
            }
            other => Part::Exact(other),
        });
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("order-17", "order-%", true),
            ("order-17", "%17", true),
            ("order-17", "order-__", true),
            ("order-17", "order-_", false),
            ("abcabc", "%abc", true),
            ("abd", "ab[c-e]", true),
            ("abf", "ab[^c-e]", true),
            ("ab", "ab%%", true),
            ("", "%", true),
            ("", "_", false),
            ("100%", "100!%", true),
            ("1000", "100!%", false),
            ("x", "[x", false),
        ] {
            assert_eq!(matches(text, pattern, Some('!')), expected, "{text} {pattern}");
        }
        let hostile = format!("{}b", "%a".repeat(500));
        assert!(!matches(&"a".repeat(5000), &hostile, None), "many wildcards stay cheap");
    }
}
