//! A Pratt parser for SQL filters and actions.

use super::Scope;
use super::SyntaxError;
use super::lexer::{Token, tokens};
use super::scalar::Scalar;
use crate::limits::{FILTER_CHARS_MAX, FILTER_DEPTH_MAX};

/// A parsed SQL filter together with its text, which clients ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SqlFilter {
    text: String,
    /// What `@name` stands for, with the `@`.
    parameters: Vec<(String, Scalar<'static>)>,
    pub(super) expression: Expr,
}

impl SqlFilter {
    /// Parses a condition.
    pub(crate) fn parse(text: &str) -> Result<SqlFilter, SyntaxError> {
        SqlFilter::with_parameters(text, Vec::new())
    }

    /// Parses a condition in which `@name` stands for a value.
    pub(crate) fn with_parameters(
        text: &str,
        parameters: Vec<(String, Scalar<'static>)>,
    ) -> Result<SqlFilter, SyntaxError> {
        let mut parser = Parser { parameters, ..Parser::new(text)? };
        let expression = parser.expression(0)?;
        parser.expect_end()?;
        Ok(SqlFilter { text: text.to_owned(), parameters: parser.parameters, expression })
    }

    /// What `@name` stands for, with the `@`.
    pub(crate) fn parameters(&self) -> &[(String, Scalar<'static>)] {
        &self.parameters
    }

    /// The text it was parsed from.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// A property and where to look it up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Property {
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// An expression. Conditions are expressions that yield a boolean or null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Literal(Scalar<'static>),
    Property(Property),
    /// The application property whose name is computed.
    Named(Box<Expr>),
    NewId,
    Exists(Property),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    IsNull {
        value: Box<Expr>,
        negated: bool,
    },
    In {
        value: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Like {
        value: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<char>,
        negated: bool,
    },
}

/// Binding powers, weakest first.
const OR: u8 = 1;
const AND: u8 = 3;
const NOT: u8 = 5;
const COMPARISON: u8 = 7;
const SUM: u8 = 9;
const PRODUCT: u8 = 11;
const SIGN: u8 = 13;

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: u32,
    parameters: Vec<(String, Scalar<'static>)>,
}

impl Parser {
    pub(super) fn new(text: &str) -> Result<Parser, SyntaxError> {
        if text.chars().count() > FILTER_CHARS_MAX {
            let problem = format!("the text is longer than {FILTER_CHARS_MAX} characters");
            return Err(SyntaxError::at(FILTER_CHARS_MAX + 1, problem));
        }
        Ok(Parser { tokens: tokens(text)?, at: 0, depth: 0, parameters: Vec::new() })
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, position)| *position)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(super) fn expected(&self, what: &str) -> SyntaxError {
        let problem = format!("expected {what}, found {}", self.peek().describe());
        SyntaxError::at(self.position(), problem)
    }

    pub(super) fn expect_end(&self) -> Result<(), SyntaxError> {
        if *self.peek() == Token::End {
            Ok(())
        } else {
            Err(self.expected("an operator or the end"))
        }
    }

    pub(super) fn at_end(&self) -> bool {
        *self.peek() == Token::End
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn accept(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(m) if *m == mark);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<(), SyntaxError> {
        if self.accept(mark) { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    fn expect_word(&mut self, word: &str) -> Result<(), SyntaxError> {
        if self.accept_word(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    /// An expression whose operators bind tighter than `power`.
    pub(super) fn expression(&mut self, power: u8) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(SyntaxError::at(self.position(), "the expression is nested too deeply"));
        }
        let mut left = self.prefix()?;
        loop {
            match self.infix(power, left)? {
                Infix::Extended(expr) => left = expr,
                Infix::Done(expr) => {
                    self.depth -= 1;
                    return Ok(expr);
                }
            }
        }
    }

    fn prefix(&mut self) -> Result<Expr, SyntaxError> {
        if self.accept_word("NOT") {
            return Ok(Expr::Not(Box::new(self.expression(NOT)?)));
        }
        if self.accept("-") {
            return Ok(Expr::Negate(Box::new(self.expression(SIGN)?)));
        }
        if self.accept("+") {
            return self.expression(SIGN);
        }
        if self.accept("(") {
            let inner = self.expression(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        match self.peek().clone() {
            Token::Int(n) => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Int(n)))
            }
            Token::Float(n) => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Float(n)))
            }
            Token::Text(text) => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Text(text.into())))
            }
            Token::Parameter(name) => {
                let same = |known: &str| known.trim_start_matches('@').eq_ignore_ascii_case(&name);
                let found = self.parameters.iter().find(|(known, _)| same(known));
                let Some((_, value)) = found else {
                    let problem = format!("the parameter `@{name}` has no value");
                    return Err(SyntaxError::at(self.position(), problem));
                };
                let value = value.clone();
                self.at += 1;
                Ok(Expr::Literal(value))
            }
            Token::Word(word) => self.word(&word),
            Token::Name(_) => Ok(Expr::Property(self.property()?)),
            Token::Mark(_) | Token::End => Err(self.expected("an expression")),
        }
    }

    fn word(&mut self, word: &str) -> Result<Expr, SyntaxError> {
        let is_call = matches!(self.tokens.get(self.at + 1), Some((Token::Mark("("), _)));
        match word.to_ascii_uppercase().as_str() {
            "TRUE" => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Bool(true)))
            }
            "FALSE" => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Bool(false)))
            }
            "NULL" => {
                self.at += 1;
                Ok(Expr::Literal(Scalar::Null))
            }
            "EXISTS" if is_call => {
                self.at += 2;
                let property = self.property()?;
                self.expect(")")?;
                Ok(Expr::Exists(property))
            }
            "NEWID" if is_call => {
                self.at += 2;
                self.expect(")")?;
                Ok(Expr::NewId)
            }
            "PROPERTY" | "P" if is_call => {
                self.at += 2;
                let name = self.expression(0)?;
                self.expect(")")?;
                Ok(match name {
                    Expr::Literal(Scalar::Text(name)) => {
                        Expr::Property(Property { scope: Scope::User, name: name.into_owned() })
                    }
                    computed => Expr::Named(Box::new(computed)),
                })
            }
            _ if is_call => {
                Err(SyntaxError::at(self.position(), format!("there is no function `{word}`")))
            }
            _ => Ok(Expr::Property(self.property()?)),
        }
    }

    /// `name`, `[name]`, `sys.name` or `user.name`.
    pub(super) fn property(&mut self) -> Result<Property, SyntaxError> {
        let position = self.position();
        let first = match self.peek() {
            Token::Word(word) if is_reserved(word) => return Err(self.expected("a property")),
            Token::Word(name) => (name.clone(), false),
            Token::Name(name) => (name.clone(), true),
            _ => return Err(self.expected("a property")),
        };
        self.at += 1;
        if !self.accept(".") {
            return Ok(Property { scope: Scope::User, name: first.0 });
        }
        let scope = match first {
            (word, false) if word.eq_ignore_ascii_case("sys") => Scope::System,
            (word, false) if word.eq_ignore_ascii_case("user") => Scope::User,
            (word, _) => {
                let problem = format!("the scope `{word}` is neither `sys` nor `user`");
                return Err(SyntaxError::at(position, problem));
            }
        };
        match self.peek().clone() {
            Token::Word(name) | Token::Name(name) => {
                self.at += 1;
                Ok(Property { scope, name })
            }
            _ => Err(self.expected("a property")),
        }
    }

    fn infix(&mut self, power: u8, left: Expr) -> Result<Infix, SyntaxError> {
        let extended = |expr| Ok(Infix::Extended(expr));
        if power < OR && self.accept_word("OR") {
            let right = self.expression(OR)?;
            return extended(Expr::Or(Box::new(left), Box::new(right)));
        }
        if power < AND && self.accept_word("AND") {
            let right = self.expression(AND)?;
            return extended(Expr::And(Box::new(left), Box::new(right)));
        }
        if power < COMPARISON {
            if let Some(operator) = self.comparison() {
                let right = self.expression(COMPARISON)?;
                return extended(Expr::Compare(operator, Box::new(left), Box::new(right)));
            }
            if self.accept_word("IS") {
                let negated = self.accept_word("NOT");
                self.expect_word("NULL")?;
                return extended(Expr::IsNull { value: Box::new(left), negated });
            }
            if self.is_word("NOT") || self.is_word("IN") || self.is_word("LIKE") {
                let negated = self.accept_word("NOT");
                return extended(self.membership(left, negated)?);
            }
        }
        let arithmetic = |parser: &mut Parser, operator, left, power| {
            let right = parser.expression(power)?;
            Ok(Infix::Extended(Expr::Arithmetic(operator, Box::new(left), Box::new(right))))
        };
        if power < SUM && self.accept("+") {
            return arithmetic(self, Arithmetic::Add, left, SUM);
        }
        if power < SUM && self.accept("-") {
            return arithmetic(self, Arithmetic::Subtract, left, SUM);
        }
        if power < PRODUCT {
            for (mark, operator) in [
                ("*", Arithmetic::Multiply),
                ("/", Arithmetic::Divide),
                ("%", Arithmetic::Remainder),
            ] {
                if self.accept(mark) {
                    return arithmetic(self, operator, left, PRODUCT);
                }
            }
        }
        Ok(Infix::Done(left))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let Token::Mark(mark) = self.peek() else { return None };
        let operator = match *mark {
            "=" => Comparison::Equal,
            "<>" | "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.at += 1;
        Some(operator)
    }

    /// `IN (…)` or `LIKE …`, after an optional `NOT`.
    fn membership(&mut self, value: Expr, negated: bool) -> Result<Expr, SyntaxError> {
        let value = Box::new(value);
        if self.accept_word("IN") {
            self.expect("(")?;
            let mut list = vec![self.expression(COMPARISON)?];
            while self.accept(",") {
                list.push(self.expression(COMPARISON)?);
            }
            self.expect(")")?;
            return Ok(Expr::In { value, list, negated });
        }
        self.expect_word("LIKE")?;
        let pattern = Box::new(self.expression(COMPARISON)?);
        let mut escape = None;
        if self.accept_word("ESCAPE") {
            let position = self.position();
            let Token::Text(text) = self.advance() else {
                self.at -= 1;
                return Err(self.expected("the escape character as a string"));
            };
            let mut chars = text.chars();
            escape = match (chars.next(), chars.next()) {
                (Some(c), None) => Some(c),
                _ => return Err(SyntaxError::at(position, "the escape must be one character")),
            };
        }
        Ok(Expr::Like { value, pattern, escape, negated })
    }
}

/// What follows a complete operand.
enum Infix {
    /// An operator that bound; there may be more.
    Extended(Expr),
    /// Nothing that binds tightly enough.
    Done(Expr),
}

fn is_reserved(word: &str) -> bool {
    const RESERVED: [&str; 12] = [
        "AND", "OR", "NOT", "IS", "IN", "LIKE", "ESCAPE", "NULL", "TRUE", "FALSE", "SET", "REMOVE",
    ];
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_say_where_and_what() {
        let error = |text: &str| SqlFilter::parse(text).unwrap_err().to_string();
        assert_eq!(error("a = "), "character 5: expected an expression, found the end");
        assert_eq!(error("a IS 3"), "character 6: expected NULL, found a number");
        assert_eq!(error("(a = 1"), "character 7: expected `)`, found the end");
        assert_eq!(error("a IN ()"), "character 7: expected an expression, found `)`");
        assert_eq!(error("x = 'open"), "character 5: the string is not closed");
        assert_eq!(error("a = 1 b"), "character 7: expected an operator or the end, found `b`");
        assert_eq!(error("a = @p"), "character 5: the parameter `@p` has no value");
        assert_eq!(error("env.a = 1"), "character 1: the scope `env` is neither `sys` nor `user`");
        assert_eq!(error("f(a)"), "character 1: there is no function `f`");
        assert_eq!(error("a = 99999999999999999999"), "character 5: the integer exceeds 64 bits");
        assert!(error(&"(".repeat(500)).contains("nested too deeply"));
        assert!(error(&format!("a = '{}'", "x".repeat(2_000))).contains("longer than 1024"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = SqlFilter::parse(&text);
        }

        #[test]
        fn arbitrary_tokens_never_panic(
            words in proptest::collection::vec(
                prop::sample::select(vec![
                    "a", "NOT", "AND", "IS", "NULL", "IN", "(", ")", ",", "'t'", "LIKE", "ESCAPE",
                    "1", "=", "<>", "-", "sys", ".", "EXISTS", "newid", "property", "[x]", "%",
                ]),
                0..20,
            )
        ) {
            let _ = SqlFilter::parse(&words.join(" "));
        }
    }
}
