//! `cargo stack order`: submit an order, show one, watch one to its end, over the HTTP API of a
//! running system.

use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::client::{Api, System, encoded};
use crate::fault::Fault;
use crate::output;
use crate::table::{table, text};

/// Pause between two looks while watching.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What to do with orders.
#[derive(Debug, Parser)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Submits an order.
    Submit {
        /// A product and how many, `vitamin-c=2`; may be repeated. Two of vitamin-c if left out.
        #[arg(long = "item", value_parser = item)]
        items: Vec<(String, u32)>,
        /// Who orders.
        #[arg(long, default_value = "c-demo")]
        customer: String,
        /// The currency.
        #[arg(long, default_value = "EUR")]
        currency: String,
        /// A failure on purpose, `billing=fail`; may be repeated.
        #[arg(long = "fault", value_parser = fault)]
        faults: Vec<(String, String)>,
        /// A file with the whole order, in place of the above.
        #[arg(long, conflicts_with_all = ["items", "faults"])]
        file: Option<std::path::PathBuf>,
        /// The same key with the same order creates nothing new.
        #[arg(long)]
        key: Option<String>,
        /// Goes on to watch it.
        #[arg(long, short)]
        watch: bool,
    },
    /// One order with its history.
    Show {
        /// Its id.
        id: String,
    },
    /// Prints what happens to an order until it rests: closed, or waiting for an operator.
    Watch {
        /// Its id.
        id: String,
    },
    /// The newest orders.
    List {
        /// At most this many, up to 100.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

fn item(text: &str) -> Result<(String, u32), String> {
    let (sku, quantity) = text.split_once('=').unwrap_or((text, "1"));
    let quantity = quantity.parse().map_err(|_| "write it as vitamin-c=2".to_owned())?;
    Ok((sku.to_owned(), quantity))
}

fn fault(text: &str) -> Result<(String, String), String> {
    let (service, fault) = text.split_once('=').ok_or("write it as billing=fail")?;
    Ok((service.to_owned(), fault.to_owned()))
}

/// Carries out one command and prints what comes of it.
///
/// # Errors
/// The system does not answer, or refuses; the fault has its words.
pub async fn order(options: Options) -> Result<(), Fault> {
    let Options { verb, system } = options;
    let (api, json) = (system.api(), system.json);
    match verb {
        Verb::Submit { items, customer, currency, faults, file, key, watch: goes_on } => {
            let body = match file {
                Some(path) => read(&path)?,
                None => body(&items, &customer, &currency, &faults),
            };
            let headers: Vec<_> = key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
            let answer = api.post("/api/orders", &headers, &body).await?;
            let id = text(&answer["orderId"]);
            if json {
                output::line(format_args!("{answer:#}"));
            } else {
                output::line(format_args!("{id}  accepted"));
            }
            if goes_on { watch(&api, &id, json).await } else { Ok(()) }
        }
        Verb::Show { id } => {
            let order = one(&api, &id).await?;
            output::print(if json { format!("{order:#}\n") } else { show(&order) });
            Ok(())
        }
        Verb::Watch { id } => watch(&api, &id, json).await,
        Verb::List { limit } => {
            let answer = api.get("/api/orders", &[("limit", Some(limit.to_string()))]).await?;
            output::print(if json { format!("{answer:#}\n") } else { list(&answer) });
            Ok(())
        }
    }
}

fn body(
    items: &[(String, u32)],
    customer: &str,
    currency: &str,
    faults: &[(String, String)],
) -> Value {
    let usual = [("vitamin-c".to_owned(), 2)];
    let items = if items.is_empty() { &usual[..] } else { items };
    let items: Vec<Value> =
        items.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
    let mut body = json!({"customerId": customer, "currency": currency, "items": items});
    if !faults.is_empty() {
        body["faults"] = faults.iter().map(|(name, fault)| (name.clone(), json!(fault))).collect();
    }
    body
}

fn read(path: &std::path::Path) -> Result<Value, Fault> {
    let unusable = |why: String| {
        let what = format!("{} holds no order.", path.display());
        Fault::new(what, why, "see tests/fixtures/order.json")
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
}

async fn one(api: &Api, id: &str) -> Result<Value, Fault> {
    api.get(&format!("/api/orders/{}", encoded(id)), &[]).await
}

/// Prints new lines of the history as they come.
async fn watch(api: &Api, id: &str, json: bool) -> Result<(), Fault> {
    let mut told = 0;
    loop {
        let order = one(api, id).await?;
        let history = order["history"].as_array().cloned().unwrap_or_default();
        for entry in history.iter().skip(told) {
            output::line(if json { entry.to_string() } else { happening(&order, entry) });
        }
        told = history.len();
        if rests(&order) {
            if !json {
                let overall = text(&order["overall"]);
                output::line(format_args!("{id}  {overall}  {}", parts(&order)));
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether nothing happens to it by itself any more.
fn rests(order: &Value) -> bool {
    let parts = || order["status"].as_object().into_iter().flat_map(|parts| parts.values());
    let at_work = parts().any(|status| ["pending", "processing"].iter().any(|open| status == open));
    !at_work && (order["overall"] != "accepted" || parts().any(|status| status == "dead-lettered"))
}

fn happening(order: &Value, entry: &Value) -> String {
    let at = text(&entry["at"]);
    let who = entry["service"].as_str().unwrap_or("order");
    let attempt = entry["attempt"].as_u64().map_or(String::new(), |n| format!("  attempt {n}"));
    let note =
        entry["note"].as_str().map_or(String::new(), |_| format!("  {}", text(&entry["note"])));
    let began = order["createdAt"].as_str().unwrap_or_default();
    let since = since(began, &at).map_or(String::new(), |ms| format!("+{ms} ms"));
    format!("{:>10}  {who:<13} {}{attempt}{note}", since, text(&entry["what"]))
}

/// Milliseconds between two moments in RFC 3339.
fn since(began: &str, at: &str) -> Option<i128> {
    let parse = |text: &str| {
        let form = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(text, form).ok()
    };
    Some((parse(at)? - parse(began)?).whole_milliseconds())
}

fn parts(order: &Value) -> String {
    let parts = order["status"].as_object().into_iter().flatten();
    parts.map(|(name, status)| format!("{name} {}", text(status))).collect::<Vec<_>>().join(", ")
}

fn show(order: &Value) -> String {
    let mut out = String::new();
    for name in ["orderId", "customerId", "overall", "createdAt", "correlationId"] {
        out.push_str(&format!("{name:>13}  {}\n", text(&order[name])));
    }
    let amount = format!("{} {}", text(&order["totalMinor"]), text(&order["currency"]));
    out.push_str(&format!("{:>13}  {amount} (minor units)\n", "total"));
    let row = |(name, status): (&String, &Value)| {
        let stage = &order["stage"][name];
        let why = if stage["error"].is_null() { &stage["outcome"] } else { &stage["error"] };
        [name.clone(), text(status), text(&stage["attempt"]), text(why)]
    };
    let rows: Vec<_> = order["status"].as_object().into_iter().flatten().map(row).collect();
    out.push('\n');
    out.push_str(&table(["SERVICE", "STATUS", "ATTEMPTS", "WHY"], &rows));
    out.push('\n');
    for entry in order["history"].as_array().into_iter().flatten() {
        out.push_str(&happening(order, entry));
        out.push('\n');
    }
    out
}

fn list(answer: &Value) -> String {
    let orders = answer["orders"].as_array().into_iter().flatten();
    let row = |order: &Value| {
        let total = format!("{} {}", text(&order["totalMinor"]), text(&order["currency"]));
        let [id, at, who, overall] =
            ["orderId", "createdAt", "customerId", "overall"].map(|name| text(&order[name]));
        [id, at, who, total, overall, parts(order)]
    };
    let rows: Vec<_> = orders.map(row).collect();
    table(["ORDER", "CREATED", "CUSTOMER", "TOTAL", "OVERALL", "PARTS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_put_together_from_words() {
        let parse =
            |line: &str| Options::try_parse_from(["order"].into_iter().chain(line.split(' ')));
        let options = parse("submit --item zinc=3 --item vitamin-c --fault billing=fail").unwrap();
        let Verb::Submit { items, customer, currency, faults, .. } = options.verb else { panic!() };
        let body = body(&items, &customer, &currency, &faults);
        assert_eq!(
            body["items"],
            json!([{"sku": "zinc", "quantity": 3}, {"sku": "vitamin-c", "quantity": 1}])
        );
        assert_eq!(body["faults"], json!({"billing": "fail"}));
        assert!(parse("submit --item zinc=many").is_err() && parse("submit --fault fail").is_err());
    }

    #[test]
    fn an_order_rests_when_it_is_closed_or_waits_for_a_person() {
        let order = |overall: &str, billing: &str| json!({"overall": overall, "status": {"billing": billing, "inventory": "done"}});
        assert!(rests(&order("completed", "done")));
        assert!(rests(&order("accepted", "dead-lettered")));
        assert!(!rests(&order("accepted", "done")), "the closing is still to come");
        assert!(!rests(&order("accepted", "processing")));
        let began = "2026-03-01T10:00:00.000000Z";
        assert_eq!(since(began, "2026-03-01T10:00:01.500000Z"), Some(1_500));
    }
}
