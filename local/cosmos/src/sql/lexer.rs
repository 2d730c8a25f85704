//! Text to tokens. Knows no keywords: whether a word is one depends on where it stands.

use serde_json::{Number, Value};

use super::SqlError;

/// A token and where it starts, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A keyword or an identifier.
    Word(String),
    /// `@name`, with the `@`.
    Parameter(String),
    /// A string or a number.
    Literal(Value),
    /// An operator or punctuation.
    Symbol(&'static str),
    /// After the last token.
    End,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 33] = [
    ">>>", "!=", "<>", "<=", ">=", "<<", ">>", "??", "||", "=", "<", ">", "+", "-", "*", "/", "%",
    "&", "|", "^", "~", "?", ":", ",", ".", "(", ")", "[", "]", "{", "}", ";", "!",
];

pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = skip_blank(rest);
        let offset = text.len() - rest.len();
        let (kind, length) = match rest.chars().next() {
            None => {
                tokens.push(Token { kind: Kind::End, offset });
                return Ok(tokens);
            }
            Some(quote @ ('\'' | '"')) => string(rest, quote, offset)?,
            Some('@') => {
                let length = 1 + word_length(&rest[1..]);
                if length == 1 {
                    return Err(SqlError::new(offset, "a parameter needs a name"));
                }
                (Kind::Parameter(rest[..length].to_owned()), length)
            }
            Some(c) if c.is_ascii_digit() || (c == '.' && digit_follows(rest)) => {
                number(rest, offset)?
            }
            Some(c) if is_word_start(c) => {
                let length = word_length(rest);
                (Kind::Word(rest[..length].to_owned()), length)
            }
            Some(_) => SYMBOLS
                .iter()
                .find(|symbol| rest.starts_with(**symbol))
                .map(|symbol| (Kind::Symbol(symbol), symbol.len()))
                .ok_or_else(|| SqlError::new(offset, "unexpected character"))?,
        };
        tokens.push(Token { kind, offset });
        rest = &rest[length..];
    }
}

fn skip_blank(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("--") {
        rest = comment.find('\n').map_or("", |end| &comment[end..]).trim_start();
    }
    rest
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len())
}

fn digit_follows(text: &str) -> bool {
    text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

fn number(text: &str, offset: usize) -> Result<(Kind, usize), SqlError> {
    let invalid = || SqlError::new(offset, "malformed number");
    let bytes = text.as_bytes();
    if bytes[0] == b'0' && matches!(bytes.get(1), Some(b'x' | b'X')) {
        let digits = bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let value = u64::from_str_radix(&text[2..2 + digits], 16).map_err(|_| invalid())?;
        return Ok((Kind::Literal(value.into()), 2 + digits));
    }
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let literal = &text[..end];
    let value = match literal.parse::<i64>() {
        Ok(integer) => Number::from(integer),
        Err(_) => literal.parse().ok().and_then(Number::from_f64).ok_or_else(invalid)?,
    };
    Ok((Kind::Literal(Value::Number(value)), end))
}

fn string(text: &str, quote: char, offset: usize) -> Result<(Kind, usize), SqlError> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((Kind::Literal(Value::String(value)), at + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next().map(|(_, escaped)| escaped) {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some('b') => value.push('\u{8}'),
            Some('f') => value.push('\u{c}'),
            Some('u') => {
                let unit = |chars: &mut dyn Iterator<Item = (usize, char)>| {
                    let digits: String = chars.take(4).map(|(_, c)| c).collect();
                    u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)
                };
                let invalid = || SqlError::new(offset, "malformed \\u escape");
                let first = unit(&mut chars).ok_or_else(invalid)?;
                let mut units = vec![first];
                if (0xD800..0xDC00).contains(&first) {
                    if !matches!((chars.next(), chars.next()), (Some((_, '\\')), Some((_, 'u')))) {
                        return Err(invalid());
                    }
                    units.push(unit(&mut chars).ok_or_else(invalid)?);
                }
                value.push_str(&String::from_utf16(&units).map_err(|_| invalid())?);
            }
            Some(other) => value.push(other),
            None => break,
        }
    }
    Err(SqlError::new(offset, "the string has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let kinds: Vec<Kind> = tokenize("c.a>=1.5e2 -- x\n 'it\\'s' \"\\u00e9\" @p 0x1F .5")
            .unwrap()
            .into_iter()
            .map(|token| token.kind)
            .collect();
        assert_eq!(
            kinds,
            [
                Kind::Word("c".into()),
                Kind::Symbol("."),
                Kind::Word("a".into()),
                Kind::Symbol(">="),
                Kind::Literal(150.0.into()),
                Kind::Literal("it's".into()),
                Kind::Literal("\u{e9}".into()),
                Kind::Parameter("@p".into()),
                Kind::Literal(31.into()),
                Kind::Literal(0.5.into()),
                Kind::End,
            ]
        );
        for bad in ["'x", "@", "0xZ", "\u{0}", "'\\u12'", "1e999"] {
            assert!(tokenize(bad).is_err(), "{bad}");
        }
    }
}
