//! Tables for a terminal.

use serde_json::Value;

/// Columns of a table are cut to this many characters, the last one excepted.
const CELL_CHARS_MAX: usize = 60;

/// A value in a cell; what is absent is a dash, and what would move the cursor a space: the texts
/// come from whoever sent the message.
pub(crate) fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns that line up; the last one is as wide as it wants to be.
pub(crate) fn table<const N: usize>(columns: [&str; N], rows: &[[String; N]]) -> String {
    let cell = |text: &str| -> String { text.chars().take(CELL_CHARS_MAX).collect() };
    let widest = |at: usize| {
        let cells = rows.iter().map(|row| cell(&row[at]).chars().count());
        cells.chain([columns[at].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(widest).collect();
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let padded = cells.iter().enumerate().map(|(at, text)| match at + 1 == N {
            true => (*text).to_owned(),
            false => format!("{:<width$}", cell(text), width = widths[at]),
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        out.push_str(line.trim_end());
        out.push('\n');
    };
    line(columns);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    out
}
