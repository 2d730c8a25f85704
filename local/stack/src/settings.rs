//! `stack settings`: the `local.settings.json` that `func` reads, made from the example.
//!
//! The example has the endpoints of the stand-ins on their default ports, which are those of the
//! official emulators too. What differs is said here, and nowhere else.

use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::workspace::Workspace;

/// The example, relative to the repository.
const EXAMPLE: &str = "local.settings.json.example";

/// Overrides one setting of host.json: neither the stand-in nor the emulator speaks the direct
/// protocol that the extension would choose.
const GATEWAY: (&str, &str) =
    ("AzureFunctionsJobHost__extensions__cosmosDB__connectionMode", "Gateway");

/// The store's client would ask Azure's metadata service where it runs.
const NO_METADATA_SERVICE: (&str, &str) = ("COSMOS_DISABLE_IMDS", "1");

/// The settings of an app at a desk; `set` comes last, and wins.
///
/// # Errors
/// The example cannot be read, or is not of the shape that `func` wants.
pub fn local(workspace: &Workspace, set: &[(String, String)]) -> Result<Value, Fault> {
    let unusable = |why: String| {
        let fix = format!("compare it with `git diff {EXAMPLE}`");
        Fault::new(format!("{EXAMPLE} cannot be used."), why, fix)
    };
    let text = std::fs::read_to_string(workspace.root.join(EXAMPLE))
        .map_err(|error| unusable(error.to_string()))?;
    of_example(&text, set).map_err(unusable)
}

fn of_example(text: &str, set: &[(String, String)]) -> Result<Value, String> {
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut settings: Value =
        serde_json::from_str(&lines.join("\n")).map_err(|error| error.to_string())?;
    if !settings["IsEncrypted"].is_boolean() {
        return Err("IsEncrypted is missing, and `func` would take that for true".to_owned());
    }
    let values: &mut Map<String, Value> =
        settings["Values"].as_object_mut().ok_or("Values is missing")?;
    for (name, value) in [GATEWAY, NO_METADATA_SERVICE] {
        values.insert(name.to_owned(), json!(value));
    }
    for (name, value) in set {
        values.insert(name.clone(), json!(value));
    }
    // `func` takes nothing but text here, and says so in a way that nobody understands.
    match values.iter().find(|(_, value)| !value.is_string()) {
        Some((name, _)) => Err(format!("{name} is no text")),
        None => Ok(settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_what_is_set_wins() {
        let text =
            "{\n  // why\n  \"IsEncrypted\": false,\n  \"Values\": { \"A\": \"http://x\" }\n}\n";
        let set = [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())];
        let settings = of_example(text, &set).unwrap();
        assert_eq!(settings["Values"]["A"], "1");
        assert_eq!(settings["Values"]["B"], "2");
        assert_eq!(settings["Values"][GATEWAY.0], GATEWAY.1);
        assert_eq!(settings["IsEncrypted"], false);
    }

    #[test]
    fn what_func_would_stumble_over_is_refused() {
        for (text, why) in [
            ("{", "EOF"),
            ("{\"Values\": {}}", "IsEncrypted"),
            ("{\"IsEncrypted\": false}", "Values"),
            ("{\"IsEncrypted\": false, \"Values\": {\"A\": true}}", "A is no text"),
        ] {
            let error = of_example(text, &[]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
