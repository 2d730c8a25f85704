//! Discovery: every folder one level below the app root that holds a `function.json`.
//!
//! A function that cannot be indexed is reported and left out; the others run.
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-triggers-bindings>.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::{Section, parse_object};
use super::{HostJson, Settings, connection, cosmos, outputs, queues, retry, timer};
use crate::bindings::{
    AuthLevel, Cardinality, DataType, Function, HttpTrigger, Output, OutputKind, ServiceBusTrigger,
    Trigger,
};
use crate::error::Problem;
use crate::http::route::Template;

const FILE: &str = "function.json";

/// Longest function name the Azure host accepts.
const NAME_MAX_CHARS: usize = 128;

/// First path segments that belong to the host itself.
const RESERVED_ROUTES: [&str; 2] = ["admin", "runtime"];

/// Files by which the Azure host recognises functions of other languages.
const SCRIPTS: [&str; 8] = [".js", ".mjs", ".cjs", ".py", ".ps1", ".csx", ".dll", ".jar"];

/// Triggers that need no extension bundle.
const BUILT_IN: [&str; 2] = ["httptrigger", "timertrigger"];

/// One folder with a `function.json`, usable or not.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) name: Arc<str>,
    /// The file's content, or `null` if it is not JSON.
    pub(crate) config: Value,
    pub(crate) disabled: bool,
    /// `type` of the trigger binding, if one could be read.
    pub(crate) trigger_type: Option<String>,
    pub(crate) outcome: Result<Arc<Function>, Vec<Problem>>,
    /// What works here, but not as one would think or not everywhere; one sentence each.
    pub(crate) notes: Vec<String>,
}

/// Indexes every function below `root`, in name order.
pub(crate) fn discover(
    root: &Path,
    host: &HostJson,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Indexed> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(Problem::new(
                format!("{} cannot be listed", root.display()),
                error.to_string(),
                "point the host at the app directory",
            ));
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    if host.routes.is_empty() {
        return names.iter().map(|name| index(root, name, host, settings)).collect();
    }
    if let Some(name) = names.first() {
        problems.push(Problem::new(
            format!("customHandler.http.routes and {name}/{FILE} are there together"),
            "functions come from one or the other",
            "remove customHandler.http.routes (or configurationProfile) from host.json, or the \
             folders of the functions",
        ));
    }
    let numbered = (1..).zip(&host.routes);
    numbered
        .map(|(number, (route, level))| generated(number, route, level, host, settings))
        .collect()
}

/// The function that stands for an entry of `customHandler.http.routes`.
fn generated(
    number: usize,
    route: &str,
    level: &str,
    host: &HostJson,
    settings: &Settings,
) -> Indexed {
    let file = serde_json::json!({ "bindings": [
        { "type": "httpTrigger", "direction": "in", "name": "req", "route": route,
          "authLevel": level },
        { "type": "http", "direction": "out", "name": "res" },
    ] });
    let object = file.as_object().cloned().unwrap_or_default();
    let path = format!("customHandler.http.routes[{}]", number - 1);
    read(&format!("http-handler{number}"), &path, object, host, settings)
}

/// What functions do to each other, and `host.json` to them, without meaning to.
pub(crate) fn notes_together(indexed: &[Indexed], host: &HostJson) -> Vec<String> {
    let mut notes = Vec::new();
    let usable = |found: &Indexed| found.outcome.as_ref().ok().cloned().filter(|_| !found.disabled);
    let functions: Vec<Arc<Function>> = indexed.iter().filter_map(usable).collect();
    let mut seen: Vec<(&Function, &HttpTrigger)> = Vec::new();
    for function in &functions {
        let Trigger::Http(http) = &function.trigger else { continue };
        let shares = |methods: &[String]| {
            methods.is_empty()
                || http.methods.is_empty()
                || methods.iter().any(|method| http.methods.contains(method))
        };
        let same = |template: &Template| {
            template.to_string().eq_ignore_ascii_case(&http.template.to_string())
        };
        let first = seen.iter().find(|(_, other)| same(&other.template) && shares(&other.methods));
        if let Some((first, _)) = first {
            notes.push(format!(
                "{}/{FILE}: the route \"{}\" is that of function '{}' as well. As in Azure one of \
                 them gets the calls, here '{}', and the other none. Fix: give each its own route \
                 or its own methods.",
                function.name, http.template, first.name, first.name
            ));
        }
        seen.push((function, http));
        let is_handed_on = host.handler.proxying || host.handler.forwarding;
        if is_handed_on && !function.http_in_and_out {
            notes.push(format!(
                "{}/{FILE}: calls come in the JSON envelope, whatever host.json says: proxying and \
                 forwarding need exactly one httpTrigger and one http output. Fix: remove the \
                 other bindings, or have the handler answer in JSON.",
                function.name
            ));
        }
    }
    notes
}

fn index(root: &Path, name: &str, host: &HostJson, settings: &Settings) -> Indexed {
    let path = format!("{name}/{FILE}");
    let failed = |problem| Indexed {
        name: name.into(),
        config: Value::Null,
        disabled: false,
        trigger_type: None,
        outcome: Err(vec![problem]),
        notes: Vec::new(),
    };
    let text = match std::fs::read_to_string(root.join(name).join(FILE)) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("{path} cannot be read");
            return failed(Problem::new(what, error.to_string(), "make the file readable"));
        }
    };
    let object = match parse_object(&text) {
        Ok(object) => object,
        Err(error) => {
            return failed(Problem::new(
                format!("{path} is not a JSON object"),
                error.to_string(),
                "correct the file at that line",
            ));
        }
    };
    let mut indexed = read(name, &path, object, host, settings);
    let others = std::fs::read_dir(root.join(name)).into_iter().flatten().filter_map(Result::ok);
    let script = others
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|file| SCRIPTS.iter().any(|kind| file.to_ascii_lowercase().ends_with(kind)));
    if let Some(script) = script {
        indexed.notes.push(format!(
            "{path}: {script} lies beside it, and other hosts may take the function for one of that \
             language. Fix: keep sources out of the folders of functions."
        ));
    }
    indexed
}

fn read(
    name: &str,
    path: &str,
    object: Map<String, Value>,
    host: &HostJson,
    settings: &Settings,
) -> Indexed {
    let mut problems = Vec::new();
    let section = Section::root(path, &object);
    let disabled = section.flag("disabled", false, &mut problems)
        || settings.is_on(&format!("AzureWebJobs.{name}.Disabled"));
    check_name(name, &mut problems);
    let reader = Reader { name, path, host, settings };
    let (trigger_type, function) = reader.function(&section, &mut problems);
    let notes = function.iter().flat_map(|function| notes(path, function)).collect();
    // Two bindings of one connection have the same problem.
    problems.dedup();
    let outcome = match function {
        Some(function) if problems.is_empty() => Ok(Arc::new(function)),
        _ => Err(problems),
    };
    let config = Value::Object(object);
    Indexed { name: name.into(), config, disabled, trigger_type, outcome, notes }
}

/// Sharp edges of a function that can run.
fn notes(path: &str, function: &Function) -> Vec<String> {
    let mut notes = Vec::new();
    let redelivers = match function.trigger {
        Trigger::ServiceBus(_) | Trigger::Queue(_) => true,
        Trigger::Http(_) | Trigger::CosmosDb(_) | Trigger::Timer(_) => false,
    };
    if function.retry.is_some() && redelivers {
        notes.push(format!(
            "{path}: soon retries will not be supported for this trigger. The policy is applied \
             here as in Azure today, while the message stays locked; to be independent of it, \
             remove \"retry\" and let the broker redeliver."
        ));
    }
    if let Trigger::ServiceBus(bus) = &function.trigger {
        if !bus.auto_complete {
            notes.push(format!(
                "{path}: autoCompleteMessages is false, and a custom handler cannot settle through \
                 the host: every message comes back when its lock ends, unless the handler settles \
                 it by its lock token. Fix: remove it, or settle."
            ));
        }
        if bus.cardinality == Cardinality::Many && bus.data_type == DataType::Undefined {
            notes.push(format!(
                "{path}: a batch without dataType has to be JSON in every message: one that is not \
                 fails all of them before the handler is called. Fix: add \"dataType\": \
                 \"string\"."
            ));
        }
    }
    if let Trigger::Timer(timer) = &function.trigger
        && !timer.schedule.adjusts_for_dst()
    {
        notes.push(format!(
            "{path}: a schedule that is a time span works on an App Service plan only; elsewhere \
             write six fields, e.g. \"0 */5 * * * *\""
        ));
    }
    notes
}

fn check_name(name: &str, problems: &mut Vec<Problem>) {
    let mut chars = name.chars();
    let legal = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && name.len() <= NAME_MAX_CHARS
        && !name.eq_ignore_ascii_case("host");
    if !legal {
        problems.push(Problem::new(
            format!("'{name}' is not a function name"),
            "a name is a letter followed by up to 127 letters, digits, '_' or '-', and not 'host'",
            "rename the folder",
        ));
    }
}

struct Reader<'a> {
    name: &'a str,
    path: &'a str,
    host: &'a HostJson,
    settings: &'a Settings,
}

impl Reader<'_> {
    fn function(
        &self,
        file: &Section<'_>,
        problems: &mut Vec<Problem>,
    ) -> (Option<String>, Option<Function>) {
        let bindings = match file.get("bindings") {
            Some(Value::Array(bindings)) if !bindings.is_empty() => bindings,
            _ => {
                problems.push(Problem::new(
                    format!("{}: no bindings", self.path),
                    "a function is started by exactly one trigger binding",
                    "add e.g. { \"type\": \"httpTrigger\", \"direction\": \"in\", \"name\": \
                     \"req\" } to \"bindings\"",
                ));
                return (None, None);
            }
        };
        let retry = retry::read(self.path, file, problems).or(self.host.retry);
        let resolved: Vec<Map<String, Value>> =
            bindings.iter().map(|binding| self.resolve(binding, problems)).collect();
        let sections: Vec<Section<'_>> =
            resolved.iter().map(|binding| Section::root(self.path, binding)).collect();

        let (mut triggers, mut outputs, mut inputs) = (Vec::new(), Vec::new(), 0_usize);
        for binding in &sections {
            let kind = binding.text("type", problems).unwrap_or_default();
            let direction = binding.text("direction", problems).unwrap_or_else(|| "in".to_owned());
            let name = binding.text("name", problems).unwrap_or_default();
            if kind.is_empty() || name.is_empty() {
                problems.push(Problem::new(
                    format!("{}: a binding without type or name", self.path),
                    "the handler finds a value by the name, the host by the type",
                    "give every binding \"type\", \"direction\" and \"name\"",
                ));
            } else if kind.to_ascii_lowercase().ends_with("trigger") {
                triggers.push((kind, name, binding));
            } else if direction.eq_ignore_ascii_case("out") {
                self.output(&kind, name, binding, &mut outputs, problems);
            } else {
                inputs += 1;
                problems.push(self.unsupported(&format!("the {direction} binding '{kind}'")));
            }
        }
        let [(kind, binding, section)] = triggers.as_slice() else {
            problems.push(Problem::new(
                format!("{}: {} trigger bindings", self.path, triggers.len()),
                "a function is started by exactly one trigger",
                "keep one binding whose type ends in Trigger",
            ));
            return (triggers.first().map(|(kind, ..)| kind.clone()), None);
        };
        let trigger = self.trigger(kind, section, problems);
        let is_http = kind.eq_ignore_ascii_case("httpTrigger");
        if !is_http && outputs.iter().any(|output| output.kind == OutputKind::Http) {
            problems.push(Problem::new(
                format!("{}: an http output without an httpTrigger", self.path),
                "there is no caller to answer",
                "remove the http binding",
            ));
        }
        let function = trigger.map(|trigger| Function {
            name: self.name.into(),
            binding: binding.clone(),
            trigger,
            // The Azure host does not apply it to HTTP either: the caller decides.
            retry: retry.filter(|_| !is_http),
            http_in_and_out: is_http && inputs == 0 && outputs.len() == 1,
            outputs,
        });
        (Some(kind.clone()), function)
    }

    /// The binding with every `%NAME%` in its texts replaced.
    fn resolve(&self, binding: &Value, problems: &mut Vec<Problem>) -> Map<String, Value> {
        let Value::Object(binding) = binding else {
            problems.push(Problem::new(
                format!("{}: a binding is not an object", self.path),
                "every entry of \"bindings\" describes one binding",
                "write { \"type\": …, \"direction\": …, \"name\": … }",
            ));
            return Map::new();
        };
        let mut resolved = binding.clone();
        for (key, value) in &mut resolved {
            let Value::String(text) = value else { continue };
            match self.settings.substitute(text) {
                Ok(replaced) => *text = replaced,
                Err(missing) => problems.push(Problem::new(
                    format!("{}: {key} needs the setting {missing}", self.path),
                    format!("\"{text}\" is resolved from settings and {missing} is not set"),
                    format!("add {missing} to local.settings.json (Values) or the environment"),
                )),
            }
        }
        resolved
    }

    fn output(
        &self,
        kind: &str,
        name: String,
        section: &Section<'_>,
        outputs: &mut Vec<Output>,
        problems: &mut Vec<Problem>,
    ) {
        if kind.eq_ignore_ascii_case("http") {
            outputs.push(Output { name, kind: OutputKind::Http });
            return;
        }
        if !self.host.has_extensions {
            problems.push(self.unknown(&format!("the output binding '{kind}'")));
        }
        match outputs::read(kind, section, self.path, self.settings, problems) {
            Some(read) => outputs.extend(read.map(|kind| Output { name, kind })),
            None => problems.push(self.unsupported(&format!("the output binding '{kind}'"))),
        }
    }

    fn trigger(
        &self,
        kind: &str,
        section: &Section<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Trigger> {
        let kind = kind.to_ascii_lowercase();
        if !BUILT_IN.contains(&kind.as_str()) && !self.host.has_extensions {
            problems.push(self.unknown(&format!("the trigger '{kind}'")));
        }
        match kind.as_str() {
            "httptrigger" => self.http(section, problems).map(Trigger::Http),
            "servicebustrigger" => self.service_bus(section, problems).map(Trigger::ServiceBus),
            "queuetrigger" => {
                queues::trigger(section, self.path, self.settings, problems).map(Trigger::Queue)
            }
            "cosmosdbtrigger" => cosmos::trigger(self.path, section, self.settings, problems)
                .map(|trigger| Trigger::CosmosDb(Arc::new(trigger))),
            "timertrigger" => timer::trigger(self.path, section, problems).map(Trigger::Timer),
            other => {
                problems.push(self.unsupported(&format!("the trigger '{other}'")));
                None
            }
        }
    }

    fn http(&self, section: &Section<'_>, problems: &mut Vec<Problem>) -> Option<HttpTrigger> {
        let route = section.text("route", problems).unwrap_or_else(|| self.name.to_owned());
        let route = route.trim_matches('/');
        let prefix = &self.host.route_prefix;
        let full = match (prefix.is_empty(), route.is_empty()) {
            (true, _) => route.to_owned(),
            (false, true) => prefix.clone(),
            (false, false) => format!("{prefix}/{route}"),
        };
        let first = full.split('/').next().unwrap_or_default();
        if RESERVED_ROUTES.iter().any(|reserved| reserved.eq_ignore_ascii_case(first)) {
            problems.push(Problem::new(
                format!("{}: the route \"{full}\" belongs to the host", self.path),
                "paths below /admin and /runtime are the host's own endpoints",
                "choose another route",
            ));
        }
        let auth = match section.text("authLevel", problems).as_deref() {
            None => AuthLevel::Function,
            Some(level) if level.eq_ignore_ascii_case("anonymous") => AuthLevel::Anonymous,
            Some(level) if level.eq_ignore_ascii_case("function") => AuthLevel::Function,
            Some(level) if level.eq_ignore_ascii_case("admin") => AuthLevel::Admin,
            Some(level) => {
                problems.push(Problem::new(
                    format!("{}: authLevel is \"{level}\"", self.path),
                    "it says which key a caller needs",
                    "write \"anonymous\", \"function\" or \"admin\"",
                ));
                AuthLevel::Function
            }
        };
        let methods = section.texts("methods", problems);
        match Template::parse(&full) {
            Ok(template) => Some(HttpTrigger {
                methods: methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
                template,
                auth,
            }),
            Err(why) => {
                problems.push(Problem::new(
                    format!("{}: the route \"{route}\" is not usable", self.path),
                    why,
                    "write e.g. \"orders/{id}\" or \"files/{*path}\"",
                ));
                None
            }
        }
    }

    fn service_bus(
        &self,
        section: &Section<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<ServiceBusTrigger> {
        let queue = section.text("queueName", problems);
        let topic = section.text("topicName", problems);
        let subscription = section.text("subscriptionName", problems);
        let entity = match (queue, topic, subscription) {
            (Some(queue), None, None) => Some(queue),
            (None, Some(topic), Some(subscription)) => {
                Some(format!("{topic}/Subscriptions/{subscription}"))
            }
            _ => {
                problems.push(Problem::new(
                    format!("{}: the entity to receive from is not clear", self.path),
                    "a serviceBusTrigger names one queue, or one topic and its subscription",
                    "give either \"queueName\", or \"topicName\" and \"subscriptionName\"",
                ));
                None
            }
        };
        let sessions = section.flag("isSessionsEnabled", false, problems);
        let cardinality = match section.text("cardinality", problems).as_deref() {
            None => Cardinality::One,
            Some(text) if text.eq_ignore_ascii_case("one") => Cardinality::One,
            Some(text) if text.eq_ignore_ascii_case("many") => Cardinality::Many,
            Some(text) => {
                problems.push(Problem::new(
                    format!("{}: cardinality is \"{text}\"", self.path),
                    "it says whether an invocation carries one message or a list",
                    "write \"one\" or \"many\"",
                ));
                Cardinality::One
            }
        };
        let data_type = data_type(section, problems);
        let bus = &self.host.service_bus;
        let auto_complete = section.flag("autoCompleteMessages", bus.auto_complete, problems);
        let max_batch_messages =
            section.count("maxMessageBatchSize", bus.max_batch_messages, 1, problems);
        let setting = section.text("connection", problems).unwrap_or_default();
        let connection = match connection::service_bus(&setting, self.settings) {
            Ok(connection) => Some(connection),
            Err(mut problem) => {
                problem.what = format!("{}: {}", self.path, problem.what);
                problems.push(problem);
                None
            }
        };
        Some(ServiceBusTrigger {
            entity: entity?,
            connection: connection?,
            cardinality,
            data_type,
            auto_complete,
            sessions,
            max_batch_messages,
        })
    }

    fn unknown(&self, what: &str) -> Problem {
        Problem::new(
            format!("{}: {what} is not known", self.path),
            "it lives in an extension, and host.json names no extension bundle",
            "add \"extensionBundle\": { \"id\": \"Microsoft.Azure.Functions.ExtensionBundle\", \
             \"version\": \"[4.*, 5.0.0)\" } to host.json",
        )
    }

    fn unsupported(&self, what: &str) -> Problem {
        Problem::new(
            format!("{}: {what} is not supported by this host yet", self.path),
            "it would be silently without effect",
            "remove it here, or run the app with func",
        )
    }
}

/// `dataType` of a binding.
pub(super) fn data_type(section: &Section<'_>, problems: &mut Vec<Problem>) -> DataType {
    match section.text("dataType", problems).as_deref() {
        Some(text) if text.eq_ignore_ascii_case("binary") => DataType::Binary,
        Some(text) if text.eq_ignore_ascii_case("string") => DataType::String,
        // "stream" and unknown values make no difference to a custom handler.
        _ => DataType::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::host_json;

    const HOST: &str = r#"{"version":"2.0","extensionBundle":{"id":"x"},
        "customHandler":{"description":{"defaultExecutablePath":"h"}}}"#;
    const BUS: &str = "Endpoint=sb://h:1;SharedAccessKeyName=n;SharedAccessKey=k;\
                       UseDevelopmentEmulator=true";

    fn app(host: &str, functions: &[(&str, &str)], settings: &[(&str, &str)]) -> Vec<Indexed> {
        let root = std::env::temp_dir().join(format!("host-index-{}", uuid::Uuid::new_v4()));
        for (name, text) in functions {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join(FILE), text).unwrap();
        }
        std::fs::create_dir_all(root.join("assets/deep")).unwrap();
        std::fs::write(root.join("assets/deep").join(FILE), "{}").unwrap();
        std::fs::write(root.join("host.json"), host).unwrap();
        let values = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (settings, mut problems) = (Settings::new(values), Vec::new());
        let host = host_json::load(&root, &settings, &mut problems).unwrap();
        let found = discover(&root, &host, &settings, &mut problems);
        assert_eq!(problems, []);
        std::fs::remove_dir_all(root).unwrap();
        found
    }

    #[test]
    fn a_broken_function_does_not_stop_the_others() {
        let bus = r#"{"bindings":[{"type":"serviceBusTrigger","name":"m","direction":"in",
            "topicName":"%TOPIC%","subscriptionName":"s","connection":"B"}]}"#;
        let http = r#"{"bindings":[{"type":"httpTrigger","name":"req","methods":["get"],
            "route":"orders/{id:int}"},{"type":"http","direction":"out","name":"res"}]}"#;
        let output = r#"{"bindings":[{"type":"httpTrigger","name":"req"},
            {"type":"sendGrid","direction":"out","name":"q","to":"%NO%"}]}"#;
        let found = app(
            HOST,
            &[("charge", bus), ("9lives", bus), ("get", http), ("out", output), ("bad", "{")],
            &[("TOPIC", "orders"), ("B", BUS), ("AzureWebJobs.get.Disabled", "true")],
        );
        let names: Vec<&str> = found.iter().map(|f| &*f.name).collect();
        assert_eq!(names, ["9lives", "bad", "charge", "get", "out"], "one level only");
        let problems = |name: &str| {
            let found = found.iter().find(|f| &*f.name == name).unwrap();
            found.outcome.as_ref().err().map_or(String::new(), |p| {
                p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            })
        };
        assert!(problems("9lives").contains("not a function name"));
        assert!(problems("bad").contains("not a JSON object"));
        assert!(problems("out").contains("'sendGrid' is not supported"));
        assert!(problems("out").contains("needs the setting NO"), "all problems, not the first");
        let charge = found[2].outcome.as_ref().unwrap();
        let Trigger::ServiceBus(trigger) = &charge.trigger else { panic!("{charge:?}") };
        assert_eq!(trigger.entity, "orders/Subscriptions/s");
        assert!(!charge.http_in_and_out);
        let get = found[3].outcome.as_ref().unwrap();
        assert!(get.http_in_and_out && found[3].disabled);
    }

    #[test]
    fn a_trigger_from_an_extension_needs_the_bundle() {
        let host = HOST.replace(r#""extensionBundle":{"id":"x"},"#, "");
        let bus = r#"{"bindings":[{"type":"serviceBusTrigger","name":"m","queueName":"q",
            "connection":"B"}]}"#;
        let found = app(&host, &[("charge", bus)], &[("B", BUS)]);
        let problems = found[0].outcome.as_ref().unwrap_err();
        assert!(problems[0].fix.contains("extensionBundle"), "{problems:?}");
    }
}
