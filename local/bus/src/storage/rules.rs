//! Rules as the journal keeps them: the texts they were made from.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::input::{CodecError, Input, put_bytes, put_time};
use crate::amqp::encode::put_value;
use crate::amqp::{Reader, Value};
use crate::broker::Rule;
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};

const TRUE: u8 = 0;
const SQL: u8 = 1;
const CORRELATION: u8 = 2;
const FALSE: u8 = 3;
const SQL_WITH_PARAMETERS: u8 = 4;

/// The system properties that a correlation filter can name.
const SYSTEM: [&str; 8] = [
    "CorrelationId",
    "MessageId",
    "To",
    "ReplyTo",
    "Label",
    "SessionId",
    "ReplyToSessionId",
    "ContentType",
];

pub(super) fn put_rule(out: &mut BytesMut, rule: &Rule) {
    put_bytes(out, rule.name.as_bytes());
    put_time(out, rule.created_at);
    match &rule.filter {
        Filter::True => out.put_u8(TRUE),
        Filter::False => out.put_u8(FALSE),
        Filter::Sql(filter) if !filter.parameters().is_empty() => {
            out.put_u8(SQL_WITH_PARAMETERS);
            put_bytes(out, filter.text().as_bytes());
            put_scalars(out, filter.parameters());
        }
        Filter::Sql(filter) => {
            out.put_u8(SQL);
            put_bytes(out, filter.text().as_bytes());
        }
        Filter::Correlation(filter) => {
            out.put_u8(CORRELATION);
            let text = |(name, text): &(&str, String)| (Value::string(name), Value::string(text));
            put_map(out, filter.system.iter().map(text).collect());
            put_scalars(out, &filter.user);
        }
    }
    put_bytes(out, rule.action.as_ref().map_or("", Action::text).as_bytes());
}

pub(super) fn rule(input: &mut Input<'_>) -> Result<Rule, CodecError> {
    let name = input.text("rule name")?.to_owned();
    let created_at = input.time()?;
    let filter = match input.u8()? {
        TRUE => Filter::True,
        FALSE => Filter::False,
        SQL_WITH_PARAMETERS => {
            let text = input.text("filter")?;
            let filter = SqlFilter::with_parameters(text, user(input)?);
            Filter::Sql(filter.map_err(|_| CodecError::Field("filter"))?)
        }
        SQL => {
            let filter = SqlFilter::parse(input.text("filter")?);
            Filter::Sql(filter.map_err(|_| CodecError::Field("filter"))?)
        }
        CORRELATION => {
            Filter::Correlation(Correlation { system: system(input)?, user: user(input)? })
        }
        kind => return Err(CodecError::Kind(kind)),
    };
    let action = match input.text("action")? {
        "" => None,
        text => Some(Action::parse(text).map_err(|_| CodecError::Field("action"))?),
    };
    Ok(Rule { name, filter, action, created_at })
}

fn system(input: &mut Input<'_>) -> Result<Vec<(&'static str, String)>, CodecError> {
    let pairs = map(input)?;
    let known = |(key, value): (Value, Value)| {
        let name = SYSTEM.into_iter().find(|name| key.as_text() == Some(name))?;
        Some((name, value.as_text()?.to_owned()))
    };
    pairs.into_iter().map(known).collect::<Option<_>>().ok_or(CodecError::Field("filter"))
}

fn user(input: &mut Input<'_>) -> Result<Vec<(String, Scalar<'static>)>, CodecError> {
    let known = |(key, value): (Value, Value)| {
        let value = match value {
            Value::Bool(v) => Scalar::Bool(v),
            Value::Long(v) => Scalar::Int(v),
            Value::Double(v) => Scalar::Float(v),
            Value::String(v) => Scalar::Text(v.into()),
            Value::Timestamp(v) => Scalar::Time(v),
            Value::Uuid(v) => Scalar::Uuid(v),
            Value::Null => Scalar::Null,
            _ => return None,
        };
        Some((key.as_text()?.to_owned(), value))
    };
    map(input)?.into_iter().map(known).collect::<Option<_>>().ok_or(CodecError::Field("filter"))
}

fn put_scalars(out: &mut BytesMut, scalars: &[(String, Scalar<'static>)]) {
    let scalar = |(name, value): &(String, Scalar<'static>)| {
        (Value::string(name), crate::message::from_scalar(value))
    };
    put_map(out, scalars.iter().map(scalar).collect());
}

fn put_map(out: &mut BytesMut, pairs: Vec<(Value, Value)>) {
    let mut encoded = BytesMut::new();
    put_value(&mut encoded, &Value::Map(pairs));
    put_bytes(out, &encoded);
}

fn map(input: &mut Input<'_>) -> Result<Vec<(Value, Value)>, CodecError> {
    match Reader::new(&Bytes::copy_from_slice(input.bytes()?)).value() {
        Ok(Value::Map(pairs)) => Ok(pairs),
        _ => Err(CodecError::Field("filter")),
    }
}
