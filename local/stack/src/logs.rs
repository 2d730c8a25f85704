//! `cargo stack logs`: what the processes of a running stack print, filtered by order, app, level or
//! any text, from the stack's own memory of the last lines.

use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use crate::client::System;
use crate::fault::Fault;
use crate::output;
use crate::table::text;

/// Pause between two questions while following.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What is looked for.
#[derive(Debug, Parser)]
pub struct Options {
    /// Only about this order.
    #[arg(long)]
    order: Option<String>,
    /// Only of this app or service.
    #[arg(long)]
    app: Option<String>,
    /// Only this level and what is worse: error, warn, info.
    #[arg(long)]
    level: Option<String>,
    /// Only lines with this text.
    #[arg(long)]
    text: Option<String>,
    /// At most this many lines, the newest.
    #[arg(long, default_value_t = 200)]
    limit: u32,
    /// Goes on with what comes, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    system: System,
}

/// Prints lines, oldest first.
///
/// # Errors
/// The system does not answer, or is none that `stack up` has started.
pub async fn logs(options: &Options) -> Result<(), Fault> {
    let api = options.system.api();
    let mut after: Option<u64> = None;
    loop {
        let parameters = [
            ("order", options.order.clone()),
            ("app", options.app.clone()),
            ("level", options.level.clone()),
            ("text", options.text.clone()),
            ("limit", Some(options.limit.to_string())),
            ("after", after.map(|seq| seq.to_string())),
        ];
        let answer = api.get("/api/ops/local/logs", &parameters).await?;
        for record in answer["records"].as_array().into_iter().flatten() {
            let line = if options.system.json { record.to_string() } else { shown(record) };
            output::line(line);
        }
        if !options.follow {
            return Ok(());
        }
        after = answer["newest"].as_u64();
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// `12:01:07.412  billing  WARN  attempt failed  attempt=2`.
fn shown(record: &Value) -> String {
    let at = text(&record["at"]);
    let time = at.get(11..23).unwrap_or(&at);
    let level = text(&record["level"]);
    let mut line =
        format!("{time}  {:<13} {level:<5}  {}", text(&record["app"]), text(&record["message"]));
    if let Some(order) = record["orderId"].as_str() {
        line.push_str(&format!("  order={order}"));
    }
    for (name, value) in record["fields"].as_object().into_iter().flatten() {
        line.push_str(&format!("  {name}={}", text(value)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_one_line() {
        let record = json!({"at": "2026-11-21T12:01:07.412345Z", "app": "billing", "level": "warn",
            "message": "attempt\nfailed", "orderId": "o-1", "fields": {"attempt": 2}});
        let line = shown(&record);
        assert_eq!(line, "12:01:07.412  billing       warn   attempt failed  order=o-1  attempt=2");
    }
}
