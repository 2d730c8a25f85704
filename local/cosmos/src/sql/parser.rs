//! Tokens to syntax tree: recursive descent for clauses, operator precedence for expressions.
//!
//! Grammar: <https://learn.microsoft.com/azure/cosmos-db/nosql/query/>. The depth of every tree is
//! bounded, because evaluation and destruction recurse.

use serde_json::Value;

use super::SqlError;
use super::ast::{Aggregate, Binary, Expr, Order, Projection, Select, Source, SubqueryKind, Unary};
use super::functions;
use super::lexer::{Kind, Token, tokenize};
use crate::limits::MAX_EXPRESSION_DEPTH;

/// Words that end an expression or an alias.
const RESERVED: [&str; 26] = [
    "SELECT", "FROM", "WHERE", "ORDER", "GROUP", "BY", "JOIN", "AND", "OR", "NOT", "IN", "BETWEEN",
    "LIKE", "AS", "ASC", "DESC", "OFFSET", "LIMIT", "TOP", "DISTINCT", "VALUE", "EXISTS", "ESCAPE",
    "NULL", "TRUE", "FALSE",
];

/// Binding powers, weakest first.
mod power {
    pub(super) const CONDITIONAL: u8 = 1;
    pub(super) const COALESCE: u8 = 2;
    pub(super) const OR: u8 = 3;
    pub(super) const AND: u8 = 4;
    pub(super) const NOT: u8 = 5;
    pub(super) const COMPARISON: u8 = 6;
    pub(super) const UNARY: u8 = 13;
}

/// An expression with the depth of its tree.
type Node = (Expr, usize);

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    nesting: usize,
}

impl Parser {
    pub(super) fn new(text: &str) -> Result<Self, SqlError> {
        Ok(Self { tokens: tokenize(text)?, at: 0, nesting: 0 })
    }

    /// A whole query.
    pub(super) fn query(mut self) -> Result<Select, SqlError> {
        let select = self.select()?.0;
        self.end()?;
        Ok(select)
    }

    /// `FROM alias WHERE expression`, as PATCH conditions are written.
    pub(super) fn condition(mut self) -> Result<(String, Expr), SqlError> {
        self.expect_word("FROM")?;
        let alias = self.name()?;
        self.expect_word("WHERE")?;
        let filter = self.expression(0)?.0;
        self.end()?;
        Ok((alias, filter))
    }

    fn end(&mut self) -> Result<(), SqlError> {
        self.take_symbol(";");
        match self.peek() {
            Kind::End => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn select(&mut self) -> Result<(Select, usize), SqlError> {
        self.expect_word("SELECT")?;
        let mut depth = 0;
        let distinct = self.take_word("DISTINCT");
        let top = match self.take_word("TOP") {
            true => Some(self.track(power::UNARY, &mut depth)?),
            false => None,
        };
        let projection = self.projection(&mut depth)?;
        let sources = match self.take_word("FROM") {
            true => self.sources(&mut depth)?,
            false => Vec::new(),
        };
        let filter = match self.take_word("WHERE") {
            true => Some(self.track(0, &mut depth)?),
            false => None,
        };
        let mut group_by = Vec::new();
        if self.take_word("GROUP") {
            self.expect_word("BY")?;
            group_by.push(self.track(0, &mut depth)?);
            while self.take_symbol(",") {
                group_by.push(self.track(0, &mut depth)?);
            }
        }
        let order_by = self.order_by(&mut depth)?;
        let (mut offset, mut limit) = (None, None);
        if self.take_word("OFFSET") {
            offset = Some(self.track(power::UNARY, &mut depth)?);
            self.expect_word("LIMIT")?;
            limit = Some(self.track(power::UNARY, &mut depth)?);
        }
        let select = Select {
            distinct,
            top,
            projection,
            sources,
            filter,
            group_by,
            order_by,
            offset,
            limit,
            aggregates: Vec::new(),
        };
        Ok((select, depth + 1))
    }

    fn projection(&mut self, depth: &mut usize) -> Result<Projection, SqlError> {
        if self.take_symbol("*") {
            return Ok(Projection::Star);
        }
        if self.take_word("VALUE") {
            return Ok(Projection::Value(self.track(0, depth)?));
        }
        let mut items: Vec<(String, Expr)> = Vec::new();
        loop {
            let expr = self.track(0, depth)?;
            let explicit =
                self.take_word("AS") || matches!(self.peek(), Kind::Word(w) if !is_reserved(w));
            let name = match (explicit, &expr) {
                (true, _) => self.property_name()?,
                (false, Expr::Member(_, name) | Expr::Name(name)) => name.clone(),
                (false, Expr::Index(_, index)) => match &**index {
                    Expr::Literal(Value::String(name)) => name.clone(),
                    _ => format!("${}", items.len() + 1),
                },
                _ => format!("${}", items.len() + 1),
            };
            items.push((name, expr));
            if !self.take_symbol(",") {
                return Ok(Projection::List(items));
            }
        }
    }

    fn sources(&mut self, depth: &mut usize) -> Result<Vec<Source>, SqlError> {
        let mut sources = vec![self.source(true, depth)?];
        while self.take_word("JOIN") {
            sources.push(self.source(false, depth)?);
        }
        Ok(sources)
    }

    fn source(&mut self, first: bool, depth: &mut usize) -> Result<Source, SqlError> {
        if matches!(self.peek(), Kind::Word(_))
            && matches!(self.peek_at(1), Kind::Word(w) if w.eq_ignore_ascii_case("IN"))
        {
            let alias = self.name()?;
            self.at += 1;
            let collection = Some(self.track(power::UNARY, depth)?);
            return Ok(Source { alias, collection, iterate: true });
        }
        let expr = self.track(power::UNARY, depth)?;
        let explicit =
            self.take_word("AS") || matches!(self.peek(), Kind::Word(w) if !is_reserved(w));
        let alias = match (explicit, &expr) {
            (true, _) => self.name()?,
            (false, Expr::Name(name) | Expr::Member(_, name)) => name.clone(),
            _ => return Err(self.error("this source needs an alias")),
        };
        let collection = match expr {
            Expr::Name(_) if first => None,
            other => Some(other),
        };
        Ok(Source { alias, collection, iterate: false })
    }

    fn order_by(&mut self, depth: &mut usize) -> Result<Vec<Order>, SqlError> {
        let mut order = Vec::new();
        if self.take_word("ORDER") {
            self.expect_word("BY")?;
            loop {
                let by = self.track(0, depth)?;
                let descending = self.take_word("DESC") || {
                    self.take_word("ASC");
                    false
                };
                order.push(Order { by, descending });
                if !self.take_symbol(",") {
                    break;
                }
            }
        }
        Ok(order)
    }

    /// Parses an expression and keeps the greatest depth.
    fn track(&mut self, minimum: u8, depth: &mut usize) -> Result<Expr, SqlError> {
        let (expr, own) = self.expression(minimum)?;
        *depth = (*depth).max(own);
        Ok(expr)
    }

    fn expression(&mut self, minimum: u8) -> Result<Node, SqlError> {
        self.nesting += 1;
        if self.nesting > MAX_EXPRESSION_DEPTH {
            return Err(self.too_deep());
        }
        let mut left = self.prefix()?;
        while let Some(next) = self.infix(&mut left, minimum)? {
            left = next;
            if left.1 > MAX_EXPRESSION_DEPTH {
                return Err(self.too_deep());
            }
        }
        self.nesting -= 1;
        Ok(left)
    }

    /// One operator and what follows it, if it binds at least as tightly as `minimum`.
    fn infix(&mut self, left: &mut Node, minimum: u8) -> Result<Option<Node>, SqlError> {
        let take = |left: &mut Node| std::mem::replace(left, (Expr::Undefined, 0));
        if let Some((operator, power)) = self.binary_operator() {
            if power < minimum {
                return Ok(None);
            }
            self.at += 1;
            let (right, right_depth) = self.expression(power + 1)?;
            let (left, left_depth) = take(left);
            let expr = Expr::Binary(operator, Box::new(left), Box::new(right));
            return Ok(Some((expr, 1 + left_depth.max(right_depth))));
        }
        if self.is_word("AND") && power::AND >= minimum {
            return self.chain(take(left), "AND", power::AND).map(Some);
        }
        if self.is_word("OR") && power::OR >= minimum {
            return self.chain(take(left), "OR", power::OR).map(Some);
        }
        if matches!(self.peek(), Kind::Symbol("??")) && power::COALESCE >= minimum {
            self.at += 1;
            // Right-associative: a ?? b ?? c tries them in order.
            let (right, right_depth) = self.expression(power::COALESCE)?;
            let (left, left_depth) = take(left);
            let expr = Expr::Coalesce(Box::new(left), Box::new(right));
            return Ok(Some((expr, 1 + left_depth.max(right_depth))));
        }
        if matches!(self.peek(), Kind::Symbol("?")) && power::CONDITIONAL >= minimum {
            self.at += 1;
            let (yes, yes_depth) = self.expression(0)?;
            self.expect_symbol(":")?;
            let (no, no_depth) = self.expression(power::CONDITIONAL)?;
            let (condition, depth) = take(left);
            let expr = Expr::Conditional(Box::new([condition, yes, no]));
            return Ok(Some((expr, 1 + depth.max(yes_depth).max(no_depth))));
        }
        if power::COMPARISON < minimum {
            return Ok(None);
        }
        let negated = self.is_word("NOT")
            && matches!(self.peek_at(1), Kind::Word(w) if ["IN", "BETWEEN", "LIKE"].iter().any(|k| w.eq_ignore_ascii_case(k)));
        if negated {
            self.at += 1;
        }
        let Some((expr, depth)) = self.word_comparison(left)? else { return Ok(None) };
        Ok(Some(match negated {
            true => (Expr::Unary(Unary::Not, Box::new(expr)), depth + 1),
            false => (expr, depth),
        }))
    }

    /// `AND` and `OR` chains are one node however long: generated queries have thousands.
    fn chain(&mut self, first: Node, word: &str, power: u8) -> Result<Node, SqlError> {
        let (first, mut depth) = first;
        let mut operands = vec![first];
        while self.take_word(word) {
            operands.push(self.track(power + 1, &mut depth)?);
        }
        let expr = if word == "AND" { Expr::And(operands) } else { Expr::Or(operands) };
        Ok((expr, depth + 1))
    }

    fn word_comparison(&mut self, left: &mut Node) -> Result<Option<Node>, SqlError> {
        let mut depth = left.1;
        let mut take = || Box::new(std::mem::replace(&mut left.0, Expr::Undefined));
        if self.take_word("IN") {
            self.expect_symbol("(")?;
            let all = self.list(")", &mut depth)?;
            return Ok(Some((Expr::In(take(), all), depth + 1)));
        }
        if self.take_word("BETWEEN") {
            let low = self.track(power::COMPARISON + 1, &mut depth)?;
            self.expect_word("AND")?;
            let high = self.track(power::COMPARISON + 1, &mut depth)?;
            return Ok(Some((Expr::Between(Box::new([*take(), low, high])), depth + 1)));
        }
        if self.take_word("LIKE") {
            let pattern = self.track(power::COMPARISON + 1, &mut depth)?;
            let escape = match self.take_word("ESCAPE") {
                false => None,
                true => match self.advance() {
                    Kind::Literal(Value::String(text)) if text.chars().count() == 1 => {
                        text.chars().next()
                    }
                    _ => return Err(self.error("ESCAPE needs one character")),
                },
            };
            return Ok(Some((Expr::Like(take(), Box::new(pattern), escape), depth + 1)));
        }
        Ok(None)
    }

    fn binary_operator(&self) -> Option<(Binary, u8)> {
        let Kind::Symbol(symbol) = self.peek() else { return None };
        Some(match *symbol {
            "=" => (Binary::Equal, power::COMPARISON),
            "!=" | "<>" => (Binary::NotEqual, power::COMPARISON),
            "<" => (Binary::Less, power::COMPARISON),
            "<=" => (Binary::LessOrEqual, power::COMPARISON),
            ">" => (Binary::Greater, power::COMPARISON),
            ">=" => (Binary::GreaterOrEqual, power::COMPARISON),
            "|" => (Binary::BitOr, 7),
            "^" => (Binary::BitXor, 8),
            "&" => (Binary::BitAnd, 9),
            "<<" => (Binary::ShiftLeft, 10),
            ">>" => (Binary::ShiftRight, 10),
            ">>>" => (Binary::ShiftRightZero, 10),
            "+" => (Binary::Add, 11),
            "-" => (Binary::Subtract, 11),
            "||" => (Binary::Concat, 11),
            "*" => (Binary::Multiply, 12),
            "/" => (Binary::Divide, 12),
            "%" => (Binary::Remainder, 12),
            _ => return None,
        })
    }

    fn prefix(&mut self) -> Result<Node, SqlError> {
        let unary = match self.peek() {
            Kind::Word(word) if word.eq_ignore_ascii_case("NOT") => Some((Unary::Not, power::NOT)),
            Kind::Symbol("!") => Some((Unary::Not, power::UNARY)),
            Kind::Symbol("-") => Some((Unary::Minus, power::UNARY)),
            Kind::Symbol("+") => Some((Unary::Plus, power::UNARY)),
            Kind::Symbol("~") => Some((Unary::BitNot, power::UNARY)),
            _ => None,
        };
        if let Some((operator, power)) = unary {
            self.at += 1;
            let (operand, depth) = self.expression(power)?;
            return Ok((Expr::Unary(operator, Box::new(operand)), depth + 1));
        }
        let mut node = self.primary()?;
        loop {
            if node.1 > MAX_EXPRESSION_DEPTH {
                return Err(self.too_deep());
            }
            if self.take_symbol(".") {
                let name = self.property_name()?;
                node = (Expr::Member(Box::new(node.0), name), node.1 + 1);
            } else if self.take_symbol("[") {
                let (index, depth) = self.expression(0)?;
                self.expect_symbol("]")?;
                node = (Expr::Index(Box::new(node.0), Box::new(index)), 1 + node.1.max(depth));
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, SqlError> {
        match self.advance() {
            Kind::Literal(value) => Ok((Expr::Literal(value), 1)),
            Kind::Parameter(name) => Ok((Expr::Parameter(name), 1)),
            Kind::Symbol("(") => {
                let node = match self.is_word("SELECT") {
                    true => self.subquery(SubqueryKind::Scalar)?,
                    false => self.expression(0)?,
                };
                self.expect_symbol(")")?;
                Ok(node)
            }
            Kind::Symbol("[") => {
                let mut depth = 0;
                let all = self.list("]", &mut depth)?;
                Ok((Expr::Array(all), depth + 1))
            }
            Kind::Symbol("{") => self.object(),
            Kind::Word(word) => self.word(word),
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn word(&mut self, word: String) -> Result<Node, SqlError> {
        let literal = match word.to_ascii_lowercase().as_str() {
            "true" => Some(Expr::Literal(Value::Bool(true))),
            "false" => Some(Expr::Literal(Value::Bool(false))),
            "null" => Some(Expr::Literal(Value::Null)),
            "undefined" => Some(Expr::Undefined),
            _ => None,
        };
        if let Some(literal) = literal {
            return Ok((literal, 1));
        }
        if !self.take_symbol("(") {
            if is_reserved(&word) {
                self.at -= 1;
                return Err(self.unexpected());
            }
            return Ok((Expr::Name(word), 1));
        }
        let upper = word.to_ascii_uppercase();
        if (upper == "EXISTS" || upper == "ARRAY") && self.is_word("SELECT") {
            let kind = if upper == "EXISTS" { SubqueryKind::Exists } else { SubqueryKind::Array };
            let node = self.subquery(kind)?;
            self.expect_symbol(")")?;
            return Ok(node);
        }
        let mut depth = 0;
        let mut arguments = self.list(")", &mut depth)?;
        let aggregate = match upper.as_str() {
            "COUNT" => Some(Aggregate::Count),
            "SUM" => Some(Aggregate::Sum),
            "MIN" => Some(Aggregate::Min),
            "MAX" => Some(Aggregate::Max),
            "AVG" => Some(Aggregate::Avg),
            _ => None,
        };
        if let Some(aggregate) = aggregate {
            let (Some(argument), true) = (arguments.pop(), arguments.is_empty()) else {
                return Err(self.error("an aggregate takes one argument"));
            };
            return Ok((Expr::Aggregate(aggregate, Box::new(argument)), depth + 1));
        }
        let function = functions::find(&upper).ok_or_else(|| {
            self.error(&format!("'{word}' is not a recognized built-in function"))
        })?;
        if !function.accepts(arguments.len()) {
            return Err(self.error(&format!("'{word}' has the wrong number of arguments")));
        }
        Ok((Expr::Call(function, arguments), depth + 1))
    }

    fn subquery(&mut self, kind: SubqueryKind) -> Result<Node, SqlError> {
        self.nesting += 1;
        if self.nesting > MAX_EXPRESSION_DEPTH {
            return Err(self.too_deep());
        }
        let (select, depth) = self.select()?;
        self.nesting -= 1;
        Ok((Expr::Subquery(kind, Box::new(select)), depth + 1))
    }

    fn object(&mut self) -> Result<Node, SqlError> {
        let mut depth = 0;
        let mut properties = Vec::new();
        if self.take_symbol("}") {
            return Ok((Expr::Object(properties), 1));
        }
        loop {
            let name = self.property_name()?;
            self.expect_symbol(":")?;
            properties.push((name, self.track(0, &mut depth)?));
            if !self.take_symbol(",") {
                break;
            }
        }
        self.expect_symbol("}")?;
        Ok((Expr::Object(properties), depth + 1))
    }

    /// Expressions up to `close`, which is consumed.
    fn list(&mut self, close: &'static str, depth: &mut usize) -> Result<Vec<Expr>, SqlError> {
        let mut all = Vec::new();
        if self.take_symbol(close) {
            return Ok(all);
        }
        loop {
            all.push(self.track(0, depth)?);
            if !self.take_symbol(",") {
                break;
            }
        }
        self.expect_symbol(close)?;
        Ok(all)
    }

    /// Any word may be a property after a dot or an AS.
    fn property_name(&mut self) -> Result<String, SqlError> {
        match self.advance() {
            Kind::Word(word) | Kind::Literal(Value::String(word)) => Ok(word),
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn name(&mut self) -> Result<String, SqlError> {
        match self.advance() {
            Kind::Word(word) if !is_reserved(&word) => Ok(word),
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn peek(&self) -> &Kind {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.at + ahead).map_or(&Kind::End, |token| &token.kind)
    }

    fn advance(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.take_word(word) { Ok(()) } else { Err(self.error(&format!("expected {word}"))) }
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) {
            Ok(())
        } else {
            Err(self.error(&format!("expected '{symbol}'")))
        }
    }

    fn unexpected(&self) -> SqlError {
        let what = match self.peek() {
            Kind::Word(text) | Kind::Parameter(text) => format!("unexpected '{text}'"),
            Kind::Literal(_) => "unexpected literal".to_owned(),
            Kind::Symbol(symbol) => format!("unexpected '{symbol}'"),
            Kind::End => "unexpected end of the query".to_owned(),
        };
        self.error(&what)
    }

    fn too_deep(&self) -> SqlError {
        self.error("the expression is nested too deeply")
    }

    fn error(&self, message: &str) -> SqlError {
        let last = self.tokens.last().map_or(0, |token| token.offset);
        SqlError::new(self.tokens.get(self.at).map_or(last, |token| token.offset), message)
    }
}

fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}
