//! Results as JSON text. The item as a whole is copied, never rebuilt.

use bytes::Bytes;

use crate::sql::Query;
use crate::sql::ast::{Expr, Projection};
use crate::sql::eval::{self, Scope};
use crate::sql::watch::value_bytes;

/// The result of one row of `query` over the item with this text; `None` when it is undefined.
pub(super) fn row(query: &Query, row: &Scope<'_>, text: &Bytes) -> Option<Bytes> {
    let projection = &query.select.projection;
    if !query.select.sources.is_empty() {
        return value(projection, row);
    }
    match projection {
        Projection::Star | Projection::Value(Expr::Slot(0)) => Some(text.clone()),
        Projection::Value(expr) => {
            let mut out = Vec::new();
            write(expr, row, text, &mut out).then(|| out.into())
        }
        Projection::List(items) => {
            let mut out = Vec::new();
            object(items, row, text, &mut out);
            Some(out.into())
        }
    }
}

/// The result of a row that is not a whole item.
pub(super) fn value(projection: &Projection, row: &Scope<'_>) -> Option<Bytes> {
    eval::project(projection, row).map(|value| value.to_string().into())
}

/// Writes the value of `expr`; whether it is defined.
fn write(expr: &Expr, row: &Scope<'_>, text: &Bytes, out: &mut Vec<u8>) -> bool {
    match expr {
        Expr::Slot(0) if !row.watch.builds(text.len()) => return false,
        Expr::Slot(0) => out.extend_from_slice(text),
        Expr::Object(properties) => object(properties, row, text, out),
        other => match eval::eval(other, row) {
            Some(value) if !row.watch.builds(value_bytes(&value)) => return false,
            // Writing into memory does not fail.
            Some(value) => drop(serde_json::to_writer(out, &*value)),
            None => return false,
        },
    }
    true
}

fn object(properties: &[(String, Expr)], row: &Scope<'_>, text: &Bytes, out: &mut Vec<u8>) {
    out.push(b'{');
    let empty = out.len();
    for (name, value) in properties {
        let start = out.len();
        if start > empty {
            out.push(b',');
        }
        drop(serde_json::to_writer(&mut *out, name));
        out.push(b':');
        if !write(value, row, text, out) {
            out.truncate(start);
        }
    }
    out.push(b'}');
}
