//! Reading the output bindings `queue`, `serviceBus` and `cosmosDB`.

use super::function_json::data_type;
use super::json::Section;
use super::queues::name_problem;
use super::{Settings, connection, cosmos, storage};
use crate::bindings::{CosmosDbOutput, OutputKind, QueueOutput, ServiceBusOutput};
use crate::error::Problem;
use crate::outputs::EntityName;
use crate::storage::is_queue_name;

/// Reads one output binding of type `kind`. `None` when the type is not known; what is wrong with
/// one that is known is in `problems`.
pub(super) fn read(
    kind: &str,
    section: &Section<'_>,
    path: &str,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<Option<OutputKind>> {
    let mut reader = Reader { section, path, settings, problems };
    Some(match kind.to_ascii_lowercase().as_str() {
        "queue" => reader.queue().map(OutputKind::Queue),
        "servicebus" => reader.service_bus().map(OutputKind::ServiceBus),
        "cosmosdb" => reader.cosmos_db().map(OutputKind::CosmosDb),
        _ => return None,
    })
}

struct Reader<'a, 's> {
    section: &'a Section<'s>,
    path: &'a str,
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn queue(&mut self) -> Option<QueueOutput> {
        let queue = self.required("queueName");
        let fixed = queue.as_ref().and_then(EntityName::fixed).map(str::to_lowercase);
        if let Some(name) = fixed.filter(|name| !is_queue_name(name)) {
            self.problems.push(name_problem(self.path, &name));
        }
        let connection = storage::queues(&self.setting(), self.settings);
        let connection = self.kept(connection);
        let data_type = data_type(self.section, self.problems);
        Some(QueueOutput { queue: queue?, connection: connection?, data_type })
    }

    fn service_bus(&mut self) -> Option<ServiceBusOutput> {
        let given = (self.optional("queueName"), self.optional("topicName"));
        let entity = match given {
            (Some(entity), None) | (None, Some(entity)) => Some(entity),
            _ => {
                self.problems.push(Problem::new(
                    format!("{}: the entity to send to is not clear", self.path),
                    "a serviceBus output names one queue or one topic",
                    "give either \"queueName\" or \"topicName\"",
                ));
                None
            }
        };
        let connection = connection::service_bus(&self.setting(), self.settings);
        let connection = self.kept(connection);
        let data_type = data_type(self.section, self.problems);
        Some(ServiceBusOutput { entity: entity?, connection: connection?, data_type })
    }

    fn cosmos_db(&mut self) -> Option<CosmosDbOutput> {
        let (database, container) = (self.required("databaseName"), self.required("containerName"));
        let create_if_missing = self.section.flag("createIfNotExists", false, self.problems);
        let partition_key = self.optional("partitionKey");
        let connection = cosmos::find(&self.setting(), self.settings);
        let connection = self.kept(connection);
        let data_type = data_type(self.section, self.problems);
        Some(CosmosDbOutput {
            database: database?,
            container: container?,
            connection: connection?,
            data_type,
            create_if_missing,
            partition_key,
        })
    }

    fn setting(&mut self) -> String {
        self.section.text("connection", self.problems).unwrap_or_default()
    }

    fn kept<T>(&mut self, found: Result<T, Problem>) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(mut problem) => {
                problem.what = format!("{}: {}", self.path, problem.what);
                self.problems.push(problem);
                None
            }
        }
    }

    fn optional(&mut self, key: &str) -> Option<EntityName> {
        let text = self.section.text(key, self.problems).filter(|text| !text.is_empty())?;
        match EntityName::parse(&text) {
            Ok(name) => Some(name),
            Err(why) => {
                self.problems.push(Problem::new(
                    format!("{}: {key} cannot be resolved", self.path),
                    why,
                    "write a name, or properties of the trigger item in braces: \"audit-{region}\"",
                ));
                None
            }
        }
    }

    fn required(&mut self, key: &str) -> Option<EntityName> {
        let before = self.problems.len();
        let name = self.optional(key);
        if name.is_none() && self.problems.len() == before {
            self.problems.push(Problem::new(
                format!("{}: an output without {key}", self.path),
                "the host would not know where to write",
                format!("add \"{key}\" to the binding"),
            ));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bindings::DataType;

    fn made(binding: &Value) -> (Option<Option<OutputKind>>, String) {
        let settings = [
            ("AzureWebJobsStorage", "UseDevelopmentStorage=true"),
            ("CosmosDB", "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=a2V5"),
            (
                "AzureWebJobsBus",
                "Endpoint=sb://h:1;SharedAccessKeyName=n;SharedAccessKey=k;\
                 UseDevelopmentEmulator=true",
            ),
        ];
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let (settings, mut problems) = (Settings::new(settings.collect()), Vec::new());
        let section = Section::root("f/function.json", binding.as_object().unwrap());
        let kind = binding["type"].as_str().unwrap();
        let read = read(kind, &section, "f/function.json", &settings, &mut problems);
        (read, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_kind_is_read_with_its_defaults() {
        let (read, problems) = made(&json!({ "type": "queue", "queueName": "Payments" }));
        let Some(Some(OutputKind::Queue(queue))) = read else { panic!("{problems}") };
        assert_eq!(queue.connection.setting, "AzureWebJobsStorage");
        assert_eq!(queue.data_type, DataType::Undefined);

        let binding = json!({ "type": "serviceBus", "topicName": "t-{region}", "connection": "Bus",
            "dataType": "binary" });
        let (read, problems) = made(&binding);
        let Some(Some(OutputKind::ServiceBus(bus))) = read else { panic!("{problems}") };
        assert_eq!(Ok(bus.entity), EntityName::parse("t-{region}"));
        assert_eq!(bus.data_type, DataType::Binary);

        let binding = json!({ "type": "cosmosDB", "databaseName": "shop", "containerName": "c",
            "createIfNotExists": true, "partitionKey": "/orderId" });
        let (read, problems) = made(&binding);
        let Some(Some(OutputKind::CosmosDb(cosmos))) = read else { panic!("{problems}") };
        assert!(cosmos.create_if_missing);
        assert_eq!(cosmos.partition_key.unwrap().fixed(), Some("/orderId"));
        assert_eq!(made(&json!({ "type": "sendGrid" })).0, None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        for (binding, what) in [
            (json!({ "type": "queue" }), "without queueName"),
            (json!({ "type": "queue", "queueName": "a_b" }), "cannot be the name of a queue"),
            (json!({ "type": "queue", "queueName": "a{b" }), "without its partner"),
            (json!({ "type": "queue", "queueName": "abc", "connection": "X" }), "no setting"),
            (json!({ "type": "serviceBus", "connection": "Bus" }), "not clear"),
            (
                json!({ "type": "serviceBus", "queueName": "a", "topicName": "b",
                    "connection": "Bus" }),
                "not clear",
            ),
            (json!({ "type": "cosmosDB", "databaseName": "d" }), "without containerName"),
        ] {
            let (_, problems) = made(&binding);
            assert!(problems.contains(what), "{binding}: {problems}");
        }
    }
}
