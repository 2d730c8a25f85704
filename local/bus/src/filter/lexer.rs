//! Text of a filter to tokens, each with its position.

use super::SyntaxError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// An unquoted word in the sender's spelling: a keyword or a name.
    Word(String),
    /// A `[delimited]` or `"quoted"` name, never a keyword.
    Name(String),
    Text(String),
    /// The name behind an `@`.
    Parameter(String),
    Int(i64),
    Float(f64),
    /// An operator or punctuation mark.
    Mark(&'static str),
    End,
}

impl Token {
    /// How the token is named in an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Name(name) => format!("the name [{name}]"),
            Token::Text(_) => "a string".into(),
            Token::Parameter(name) => format!("`@{name}`"),
            Token::Int(_) | Token::Float(_) => "a number".into(),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end".into(),
        }
    }
}

/// Longest first, so that `<=` is not read as `<` and `=`.
const MARKS: [&str; 16] =
    ["<>", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", "."];

/// All tokens of `source` with their 1-based character positions, ending in [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, SyntaxError> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let position = at + 1;
        if c.is_whitespace() {
            at += 1;
        } else if c.is_alphabetic() || c == '_' {
            let end = span(&chars, at, |c| c.is_alphanumeric() || c == '_');
            tokens.push((Token::Word(chars[at..end].iter().collect()), position));
            at = end;
        } else if c.is_ascii_digit()
            || c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)
        {
            let end = number_end(&chars, at);
            let text: String = chars[at..end].iter().collect();
            tokens.push((number(&text, position)?, position));
            at = end;
        } else if c == '\'' {
            let (text, end) = quoted(&chars, at, '\'', "string")?;
            tokens.push((Token::Text(text), position));
            at = end;
        } else if c == '"' {
            let (text, end) = quoted(&chars, at, '"', "quoted name")?;
            tokens.push((Token::Name(text), position));
            at = end;
        } else if c == '[' {
            let (text, end) = quoted(&chars, at, ']', "delimited name")?;
            tokens.push((Token::Name(text), position));
            at = end;
        } else if c == ';' {
            tokens.push((Token::Mark(";"), position));
            at += 1;
        } else if c == '@' {
            let end = span(&chars, at + 1, |c| c.is_alphanumeric() || c == '_');
            if end == at + 1 {
                return Err(SyntaxError::at(position, "the parameter has no name"));
            }
            tokens.push((Token::Parameter(chars[at + 1..end].iter().collect()), position));
            at = end;
        } else {
            let mark = MARKS
                .iter()
                .find(|mark| mark.chars().enumerate().all(|(i, m)| chars.get(at + i) == Some(&m)));
            let Some(mark) = mark else {
                return Err(SyntaxError::at(position, format!("`{c}` means nothing here")));
            };
            tokens.push((Token::Mark(mark), position));
            at += mark.len();
        }
    }
    tokens.push((Token::End, chars.len() + 1));
    Ok(tokens)
}

fn span(chars: &[char], from: usize, inside: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|&c| !inside(c)).map_or(chars.len(), |n| from + n)
}

fn number_end(chars: &[char], from: usize) -> usize {
    let digit = |c: char| c.is_ascii_digit();
    let mut end = span(chars, from, digit);
    if chars.get(end) == Some(&'.') {
        end = span(chars, end + 1, digit);
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        if chars.get(end + 1 + sign).is_some_and(char::is_ascii_digit) {
            end = span(chars, end + 1 + sign, digit);
        }
    }
    end
}

fn number(text: &str, position: usize) -> Result<Token, SyntaxError> {
    if text.chars().all(|c| c.is_ascii_digit()) {
        let int = text.parse().map(Token::Int);
        return int.map_err(|_| SyntaxError::at(position, "the integer exceeds 64 bits"));
    }
    let float = text.parse().map(Token::Float);
    float.map_err(|_| SyntaxError::at(position, "this is not a number"))
}

/// Text up to the closing mark, which stands for itself when doubled.
fn quoted(
    chars: &[char],
    open: usize,
    close: char,
    what: &str,
) -> Result<(String, usize), SyntaxError> {
    let mut text = String::new();
    let mut at = open + 1;
    loop {
        match chars.get(at) {
            None => return Err(SyntaxError::at(open + 1, format!("the {what} is not closed"))),
            Some(&c) if c == close && chars.get(at + 1) == Some(&close) => {
                text.push(close);
                at += 2;
            }
            Some(&c) if c == close => return Ok((text, at + 1)),
            Some(&c) => {
                text.push(c);
                at += 1;
            }
        }
    }
}
