//! The app settings: the environment the caller passes in, completed by `local.settings.json`.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-develop-local>.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::json::parse_object;
use crate::error::Problem;

/// The file that is never deployed.
pub(crate) const LOCAL_SETTINGS: &str = "local.settings.json";

/// Name to value. Looked up in any case, as .NET configuration does; handed on as spelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn new(values: BTreeMap<String, String>) -> Self {
        Self { values }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .or_else(|| {
                self.values.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v)
            })
            .map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    pub(crate) fn set_default(&mut self, name: &str, value: impl FnOnce() -> String) {
        if self.get(name).is_none() {
            self.values.insert(name.to_owned(), value());
        }
    }

    /// Whether `name` is switched on: `true` or `1`.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// Adds the values of `local.settings.json` in `root`, if the file exists. A value that is
    /// already set wins; the names of those are returned.
    pub(crate) fn merge_local(&mut self, root: &Path, problems: &mut Vec<Problem>) -> Vec<String> {
        let text = match std::fs::read_to_string(root.join(LOCAL_SETTINGS)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                problems.push(Problem::new(
                    format!("{LOCAL_SETTINGS} cannot be read"),
                    error.to_string(),
                    "make the file readable, or remove it",
                ));
                return Vec::new();
            }
        };
        match local_values(&text) {
            Ok(values) => {
                let (mut kept, mut added) = (Vec::new(), Vec::new());
                for (name, value) in values {
                    if self.get(&name).is_some() {
                        kept.push(name);
                    } else {
                        added.push((name, value));
                    }
                }
                self.values.extend(added);
                kept
            }
            Err(problem) => {
                problems.push(problem);
                Vec::new()
            }
        }
    }

    /// Replaces every `%NAME%` by the setting of that name. The error is the first missing name.
    pub(crate) fn substitute(&self, text: &str) -> Result<String, String> {
        self.replace(text, |name| self.get(name).map(str::to_owned).ok_or_else(|| name.to_owned()))
    }

    /// Replaces every `%NAME%`; a name that is not set disappears. `extra` is asked first.
    pub(crate) fn expand(&self, text: &str, extra: &BTreeMap<String, String>) -> String {
        let found = |name: &str| {
            let value = extra.get(name).map(String::as_str).or_else(|| self.get(name));
            Ok::<_, String>(value.unwrap_or_default().to_owned())
        };
        self.replace(text, found).unwrap_or_default()
    }

    fn replace(
        &self,
        text: &str,
        mut value_of: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('%') {
            let Some(length) = rest[start + 1..].find('%') else { break };
            out.push_str(&rest[..start]);
            let name = &rest[start + 1..start + 1 + length];
            // `%%` is a literal percent sign.
            if name.is_empty() {
                out.push('%');
            } else {
                out.push_str(&value_of(name)?);
            }
            rest = &rest[start + length + 2..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// What `local.settings.json` says about the host itself, in its section `Host`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalHost {
    /// `LocalHttpPort`: where callers reach the host.
    pub port: Option<u16>,
    /// `CORS`: origins that may call, a list with commas or `*`.
    pub cors: Option<String>,
    /// `CORSCredentials`.
    pub cors_credentials: bool,
}

impl LocalHost {
    /// Reads the section from the file in `root`. What is missing or cannot be read is not there:
    /// [`crate::Host::bind`] says what is wrong with the file.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join(LOCAL_SETTINGS)).unwrap_or_default();
        let Ok(object) = parse_object(&text) else { return Self::default() };
        let Some(Value::Object(host)) = named(&object, "Host") else { return Self::default() };
        let port = named(host, "LocalHttpPort").and_then(Value::as_u64);
        Self {
            port: port.and_then(|port| u16::try_from(port).ok()),
            cors: named(host, "CORS").and_then(Value::as_str).map(str::to_owned),
            cors_credentials: named(host, "CORSCredentials").and_then(Value::as_bool) == Some(true),
        }
    }
}

fn named<'a>(object: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn local_values(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let object = parse_object(text).map_err(|error| {
        Problem::new(
            format!("{LOCAL_SETTINGS} is not a JSON object"),
            error.to_string(),
            "correct the file at that line",
        )
    })?;
    let encrypted = match named(&object, "IsEncrypted") {
        Some(Value::Bool(flag)) => *flag,
        // Core Tools take a missing IsEncrypted as true.
        _ => true,
    };
    let values = match named(&object, "Values") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(values)) => values,
        Some(_) => {
            return Err(Problem::new(
                format!("{LOCAL_SETTINGS}: Values is not an object"),
                "the host reads settings as name and value pairs from it",
                "write \"Values\": { \"NAME\": \"value\" }",
            ));
        }
    };
    if encrypted && !values.is_empty() {
        return Err(Problem::new(
            format!("{LOCAL_SETTINGS} counts as encrypted"),
            "IsEncrypted is true or missing, and a missing one means true",
            "write \"IsEncrypted\": false beside \"Values\"",
        ));
    }
    let scalar = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Ok(values.iter().filter_map(|(k, v)| Some((k.clone(), scalar(v)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn substitution_is_strict_in_bindings_and_lenient_in_arguments() {
        let settings = settings(&[("TOPIC", "orders"), ("EMPTY", "")]);
        assert_eq!(settings.substitute("%topic%-%EMPTY%x"), Ok("orders-x".to_owned()));
        assert_eq!(settings.substitute("100%"), Ok("100%".to_owned()));
        assert_eq!(settings.substitute("a%MISSING%"), Err("MISSING".to_owned()));
        let extra = BTreeMap::from([("PORT".to_owned(), "1234".to_owned())]);
        assert_eq!(settings.expand("--port=%PORT% %MISSING%", &extra), "--port=1234 ");
    }

    #[test]
    fn the_section_about_the_host_is_read_leniently() {
        let dir = std::env::temp_dir().join(format!("host-local-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(LocalHost::read(&dir), LocalHost::default());
        let text = r#"{"IsEncrypted":false,"Host":{"LocalHttpPort":7171,"CORS":"*",
            "CORSCredentials":true}}"#;
        std::fs::write(dir.join(LOCAL_SETTINGS), text).unwrap();
        let cors = Some("*".to_owned());
        let wanted = LocalHost { port: Some(7171), cors, cors_credentials: true };
        assert_eq!(LocalHost::read(&dir), wanted);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn local_settings_complete_the_environment_and_never_override_it() {
        let dir = std::env::temp_dir().join(format!("host-settings-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let write = |text: &str| std::fs::write(dir.join(LOCAL_SETTINGS), text).unwrap();

        write(r#"{"IsEncrypted":false,"Values":{"A":"file","b":"file","C":null,"D":5}}"#);
        let (mut settings, mut problems) = (settings(&[("B", "env")]), Vec::new());
        assert_eq!(settings.merge_local(&dir, &mut problems), ["b"]);
        assert_eq!(problems, []);
        assert_eq!(
            (settings.get("A"), settings.get("B"), settings.get("C"), settings.get("D")),
            (Some("file"), Some("env"), None, Some("5"))
        );

        for (text, what) in [
            (r#"{"Values":{"A":"1"}}"#, "counts as encrypted"),
            (r#"{"IsEncrypted":false,"Values":[]}"#, "not an object"),
            ("{", "not a JSON object"),
        ] {
            write(text);
            let mut problems = Vec::new();
            settings.merge_local(&dir, &mut problems);
            assert!(problems[0].what.contains(what), "{text}: {problems:?}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
