//! `cargo stack dlq`: dead letters from the command line, over the HTTP API of a running system.
//! Shows what the API says and knows nothing of what the messages mean.

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::client::{Api, encoded};
use crate::fault::Fault;
use crate::table::{table, text};

/// What to do with dead letters.
#[derive(Debug, Parser)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// The system's address.
    #[arg(long, global = true, default_value = "http://localhost:7071")]
    url: String,
    /// Prints the API's answer instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Counts per source and reason, or the dead letters of one source.
    List {
        /// A subscription or the poison queue, e.g. billing-sub.
        source: Option<String>,
        /// Only those with this reason.
        #[arg(long)]
        reason: Option<String>,
        /// Continues after this sequence number.
        #[arg(long)]
        after: Option<i64>,
        /// At most this many.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// One dead letter with its body, its history and the order beside it.
    Show {
        /// Where it is.
        source: String,
        /// Its sequence number.
        number: i64,
    },
    /// Sends dead letters again, to their own subscription alone.
    Replay {
        #[command(flatten)]
        chosen: Chosen,
        /// Takes the failure away that the client had asked for.
        #[arg(long)]
        without_fault: bool,
        /// A file with an event that takes the place of the original; with a single --number.
        #[arg(long)]
        body: Option<std::path::PathBuf>,
    },
    /// Removes dead letters.
    Discard {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Who did what, newest first.
    Audit {
        /// At most this many.
        #[arg(long)]
        limit: Option<u32>,
        /// Continues after an earlier page.
        #[arg(long)]
        after: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Chosen {
    /// A subscription or the poison queue, e.g. billing-sub.
    source: String,
    #[command(flatten)]
    select: Select,
    /// Why; kept in the audit trail.
    #[arg(long)]
    reason: String,
    /// At most this many, oldest first.
    #[arg(long)]
    limit: Option<u32>,
    /// Says what would happen and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Select {
    /// This one; may be repeated.
    #[arg(long)]
    number: Vec<i64>,
    /// Those that were dead-lettered for this reason.
    #[arg(long)]
    with_reason: Option<String>,
    /// All of the source.
    #[arg(long)]
    all: bool,
}

impl Chosen {
    fn body(&self) -> Value {
        let select = match &self.select {
            Select { all: true, .. } => json!({ "all": true }),
            Select { with_reason: Some(reason), .. } => json!({ "reason": reason }),
            Select { number, .. } => json!({ "sequenceNumbers": number }),
        };
        let mut body = json!({ "select": select, "reason": self.reason, "dryRun": self.dry_run });
        if let Some(limit) = self.limit {
            body["limit"] = limit.into();
        }
        body
    }
}

/// Carries out one command; what it prints on standard output.
///
/// # Errors
/// The system does not answer, or refuses; the fault has its words.
pub async fn dlq(options: Options) -> Result<String, Fault> {
    let Options { verb, url, json } = options;
    let api = Api { url };
    let (answer, table): (Value, fn(&Value) -> String) = match verb {
        Verb::List { source: None, .. } => (api.get("/api/ops/dead-letters", &[]).await?, overview),
        Verb::List { source: Some(source), reason, after, limit } => {
            let parameters = [
                ("reason", reason),
                ("after", after.map(|number| number.to_string())),
                ("limit", limit.map(|number| number.to_string())),
            ];
            let path = format!("/api/ops/dead-letters/{}", encoded(&source));
            (api.get(&path, &parameters).await?, list)
        }
        Verb::Show { source, number } => {
            let path = format!("/api/ops/dead-letters/{}/{number}", encoded(&source));
            (api.get(&path, &[]).await?, show)
        }
        Verb::Replay { chosen, without_fault, body } => {
            let mut asked = chosen.body();
            if without_fault {
                asked["withoutFault"] = true.into();
            }
            if let Some(file) = body {
                asked["body"] = event(&file)?;
            }
            (act(&api, &chosen.source, "replay", &asked).await?, report)
        }
        Verb::Discard { chosen } => {
            (act(&api, &chosen.source, "discard", &chosen.body()).await?, report)
        }
        Verb::Audit { limit, after } => {
            let limit = limit.map(|number| number.to_string());
            let parameters = [("limit", limit), ("after", after)];
            (api.get("/api/ops/audit", &parameters).await?, audit)
        }
    };
    Ok(if json { format!("{answer:#}\n") } else { table(&answer) })
}

fn event(file: &std::path::Path) -> Result<Value, Fault> {
    let unusable = |why: String| {
        let what = format!("{} holds no event.", file.display());
        Fault::new(what, why, "write the body that `dlq show … --json` prints, edited")
    };
    let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
}

async fn act(api: &Api, source: &str, action: &str, body: &Value) -> Result<Value, Fault> {
    let path = format!("/api/ops/dead-letters/{}/{action}", encoded(source));
    api.post(&path, &[], body).await
}

fn overview(answer: &Value) -> String {
    let mut rows = Vec::new();
    for source in answer["sources"].as_array().into_iter().flatten() {
        let more = if source["atLeast"] == true { "+" } else { "" };
        let count = format!("{}{more}", text(&source["count"]));
        let age = source["oldestAgeSeconds"].as_i64().map_or("-".to_owned(), |s| format!("{s} s"));
        let groups: Vec<String> = source["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|group| format!("{} {}", text(&group["count"]), text(&group["reason"])))
            .collect();
        let said = source["unavailable"].as_str().map(str::to_owned);
        rows.push([text(&source["source"]), count, age, said.unwrap_or(groups.join(", "))]);
    }
    table(["SOURCE", "COUNT", "OLDEST", "REASONS"], &rows)
}

fn list(answer: &Value) -> String {
    let letters = answer["deadLetters"].as_array().into_iter().flatten();
    let row = |letter: &Value| {
        ["sequenceNumber", "enqueuedAt", "deliveryCount", "replays", "orderId", "reason"]
            .map(|name| text(&letter[name]))
    };
    let rows: Vec<_> = letters.map(row).collect();
    let columns = ["NUMBER", "ENQUEUED", "DELIVERIES", "REPLAYS", "ORDER", "REASON"];
    let mut out = table(columns, &rows);
    if let Some(next) = answer["next"].as_str() {
        out.push_str(&format!("more: --after {next}\n"));
    }
    out
}

fn show(answer: &Value) -> String {
    let mut out = String::new();
    for name in [
        "source",
        "sequenceNumber",
        "messageId",
        "orderId",
        "eventType",
        "reason",
        "description",
        "deliveryCount",
        "enqueuedAt",
        "replays",
        "unreadable",
    ] {
        out.push_str(&format!("{name:>16}  {}\n", text(&answer[name])));
    }
    for (name, value) in answer["properties"].as_object().into_iter().flatten() {
        out.push_str(&format!("{:>16}  {name} = {}\n", "property", text(value)));
    }
    for (name, status) in answer["order"]["status"].as_object().into_iter().flatten() {
        out.push_str(&format!("{name:>16}  {}\n", text(status)));
    }
    for entry in answer["order"]["history"].as_array().into_iter().flatten() {
        let [at, service, what, note] =
            ["at", "service", "what", "note"].map(|member| text(&entry[member]));
        out.push_str(&format!("{:>16}  {at} {service} {what} {note}\n", "history"));
    }
    out.push_str(&format!("{:>16}  {:#}\n", "body", answer["body"]));
    out
}

fn report(answer: &Value) -> String {
    let items = answer["results"].as_array().into_iter().flatten();
    let row = |item: &Value| {
        ["sequenceNumber", "outcome", "orderId", "part", "detail"].map(|name| text(&item[name]))
    };
    let rows: Vec<_> = items.map(row).collect();
    let mut out = table(["NUMBER", "OUTCOME", "ORDER", "PART WAS", "DETAIL"], &rows);
    let counts = answer["counts"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    out.push_str(&format!("{}\n", counts.join(", ")));
    if answer["more"] == true {
        out.push_str("more fit the selection: run it again\n");
    }
    out
}

fn audit(answer: &Value) -> String {
    let entries = answer["entries"].as_array().into_iter().flatten();
    let row = |entry: &Value| {
        ["at", "actor", "action", "source", "sequenceNumber", "outcome", "reason"]
            .map(|name| text(&entry[name]))
    };
    let rows: Vec<_> = entries.map(row).collect();
    let columns = ["AT", "ACTOR", "ACTION", "SOURCE", "NUMBER", "OUTCOME", "REASON"];
    let mut out = table(columns, &rows);
    if let Some(next) = answer["next"].as_str() {
        out.push_str(&format!("more: --after {next}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::client::refused;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["dlq"].into_iter().chain(line.split(' ')))
    }

    #[test]
    fn a_selection_is_one_of_three_and_has_a_reason() {
        for (line, select) in [
            ("replay s --number 3 --number 4 --reason r", json!({"sequenceNumbers": [3, 4]})),
            ("replay s --with-reason x --reason r", json!({"reason": "x"})),
            ("replay s --all --reason r --limit 5 --dry-run", json!({"all": true})),
        ] {
            let Verb::Replay { chosen, .. } = parse(line).unwrap().verb else { panic!("{line}") };
            assert_eq!(chosen.body()["select"], select, "{line}");
        }
        for line in
            ["replay s --reason r", "replay s --all", "discard s --all --number 1 --reason r"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("audit").unwrap().url, "http://localhost:7071");
    }

    #[test]
    fn tables_line_up_and_foreign_text_stays_in_its_cell() {
        let answer = json!({"deadLetters": [{"sequenceNumber": 7, "reason": "a\u{1b}[31m\nb"}],
            "next": "7"});
        let shown = list(&answer);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "NUMBER  ENQUEUED  DELIVERIES  REPLAYS  ORDER  REASON");
        assert_eq!(lines[1], "7       -         -           -        -      a [31m b");
        assert_eq!(lines[2], "more: --after 7");
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
        let fault = refused(StatusCode::NOT_FOUND, &json!({"title": "Gone.", "type": "/p/gone"}));
        assert!(fault.to_string().contains("404 Not Found /p/gone"), "{fault}");
    }
}
