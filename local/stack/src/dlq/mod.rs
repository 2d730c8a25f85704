//! `cargo stack dlq`: dead letters from the command line, over the HTTP API of a running system.
//! Shows what the API says and knows nothing of what the messages mean.

mod view;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::client::{Api, System, encoded};
use crate::fault::Fault;
use view::{audit, list, overview, report, show};

/// What to do with dead letters.
#[derive(Debug, Parser)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Counts per source and reason, or the dead letters of one source.
    List {
        /// A subscription or the poison queue, e.g. billing-sub.
        source: Option<String>,
        /// Only those with this reason.
        #[arg(long, requires = "source")]
        reason: Option<String>,
        /// Continues after this sequence number.
        #[arg(long, requires = "source")]
        after: Option<i64>,
        /// At most this many.
        #[arg(long, requires = "source")]
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
    let Options { verb, system } = options;
    let (api, json) = (system.api(), system.json);
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
        assert_eq!(parse("audit").unwrap().system.api().url, "http://localhost:7071");
    }

    #[test]
    fn what_belongs_to_one_source_is_not_asked_of_all() {
        for line in ["list --reason x", "list --after 7", "list --limit 5"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let options = parse("list s --limit 5 --header authorization:x").unwrap();
        assert!(!format!("{options:?}").contains(": \"x\""), "a credential is shown: {options:?}");
        assert!(parse("list --header nonsense").is_err());
    }

    #[test]
    fn a_refusal_says_what_why_and_what_to_do() {
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
        let gone = json!({"title": "Gone.", "type": "/p/gone", "detail": "by o-1", "traceId": "4bf9",
            "errors": [{"pointer": "/limit", "detail": "must be between 1 and 1000"}]});
        let fault = refused(StatusCode::NOT_FOUND, &gone).to_string();
        for part in ["Gone.", "404 Not Found /p/gone", "by o-1", "/limit must be", "trace 4bf9"] {
            assert!(fault.contains(part), "{part} in {fault}");
        }
        let fault = refused(StatusCode::UNAUTHORIZED, &json!({})).to_string();
        assert!(fault.contains("--header"), "{fault}");
        let fault = refused(StatusCode::BAD_GATEWAY, &Value::Null).to_string();
        assert!(fault.contains("502") && !fault.contains(" -\n"), "{fault}");
    }
}
