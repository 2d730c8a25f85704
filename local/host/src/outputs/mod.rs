//! Output bindings: what the handler has answered is written where the bindings say.
//!
//! Written after the handler has answered and before the invocation counts as succeeded: a failed
//! output fails the invocation, and the trigger item is delivered again, although the handler has
//! done its work and other outputs may be written already. That is how the Azure host does it;
//! whoever needs exactly one message sends it with an id of their own.
//!
//! To add an output: a variant of [`OutputKind`], its reading in `config::outputs`, its writing
//! here.

mod convert;
mod cosmos;
mod name;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::bindings::{
    CosmosDbOutput, DataType, Function, Output, OutputKind, QueueOutput, ServiceBusOutput,
};
use crate::config::MessageEncoding;
use crate::invocation::{Answer, Envelope};
use crate::log::{Level, Logger};
use crate::rest::RestClient;
use crate::storage::{Queue, Wakers, is_queue_name};
use crate::triggers::service_bus::{Outgoing, Senders};
use convert::{Decoded, Payload};
use cosmos::Containers;

pub(crate) use name::EntityName;

/// The binding that takes `ReturnValue`.
pub(crate) const RETURN: &str = "$return";

/// Content type of a Service Bus message made from text, as the .NET converters set it.
const TEXT: &str = "text/plain";
/// Content type of a Service Bus message made from bytes.
const BYTES: &str = "application/octet-stream";

/// Writes outputs, shared by all functions of one host.
pub(crate) struct Outputs {
    log: Logger,
    client: RestClient,
    encoding: MessageEncoding,
    wakers: Wakers,
    senders: Senders,
    containers: Containers,
}

/// One invocation as far as its outputs are concerned.
pub(crate) struct Source<'a> {
    pub(crate) function: &'a Function,
    pub(crate) envelope: &'a Envelope,
    /// W3C trace context of the invocation.
    pub(crate) traceparent: Option<&'a str>,
}

impl Outputs {
    pub(crate) fn new(
        log: Logger,
        client: RestClient,
        encoding: MessageEncoding,
        wakers: Wakers,
    ) -> Self {
        Self {
            containers: Containers::new(log.clone()),
            log,
            client,
            encoding,
            wakers,
            senders: Senders::default(),
        }
    }

    /// Writes every output there is a value for, also after one has failed. The error says which
    /// failed and what follows from that.
    pub(crate) async fn write(&self, source: Source<'_>, answer: &Answer) -> Result<(), String> {
        self.warn_of_strangers(source.function, answer);
        let mut failed = Vec::new();
        for output in &source.function.outputs {
            let Some(value) = value_of(&output.name, source.function, answer) else { continue };
            if let Err(why) = self.write_one(&source, output, value).await {
                failed.push(format!("Output '{}' was not written: {why}.", output.name));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        failed.push(
            "The handler has answered, but the invocation counts as failed: the trigger item is \
             delivered again, and the handler must not do its work twice."
                .to_owned(),
        );
        Err(failed.join("\n"))
    }

    /// Outputs that no binding asks for get lost without a word in Azure.
    fn warn_of_strangers(&self, function: &Function, answer: &Answer) {
        let known = |name: &str| function.outputs.iter().any(|output| output.name == name);
        let names = answer.outputs.iter().flatten().map(|(name, _)| name);
        for name in names.filter(|name| !known(name)) {
            let function = &function.name;
            let cause = format!("Function '{function}' answered with an unknown output '{name}'");
            self.log.sharp_edge(Level::Warning, &cause, || {
                format!(
                    "Function '{function}' answered with a value for the output '{name}', and \
                     {function}/function.json has no output binding of that name: as in Azure the \
                     value is lost. Fix: use the name of the binding, or add one."
                )
            });
        }
    }

    async fn write_one(
        &self,
        source: &Source<'_>,
        output: &Output,
        value: &Value,
    ) -> Result<(), String> {
        match &output.kind {
            // The response of the call: made by whoever serves it.
            OutputKind::Http => Ok(()),
            OutputKind::Queue(queue) => {
                let value = self.decoded(source, output, value, queue.data_type);
                self.queue(source, queue, value).await
            }
            OutputKind::ServiceBus(bus) => {
                let value = self.decoded(source, output, value, bus.data_type);
                self.service_bus(source, bus, value).await
            }
            OutputKind::CosmosDb(cosmos) => {
                let value = self.decoded(source, output, value, cosmos.data_type);
                self.cosmos(source, cosmos, &value).await
            }
        }
    }

    /// Falls into the base64 trap as the Azure host does, and says so once per output.
    fn decoded<'v>(
        &self,
        source: &Source<'_>,
        output: &Output,
        value: &'v Value,
        data_type: DataType,
    ) -> Decoded<'v> {
        let decoded = convert::decoded(value, data_type);
        if let (Decoded::Bytes(bytes), Some(text)) = (&decoded, value.as_str()) {
            let (name, function) = (&output.name, &source.function.name);
            if !text.is_empty() {
                let cause = format!("Output '{name}' of function '{function}' was valid base64");
                self.log.sharp_edge(Level::Warning, &cause, || {
                    format!(
                        "Output '{name}' of function '{function}' is a text of {} characters that \
                         happens to be valid base64. As in Azure, the {} bytes it decodes to are \
                         written, not the text. Fix: answer with a JSON object or list instead of \
                         a text, or keep the text with \"dataType\": \"binary\" in the binding.",
                        text.chars().count(),
                        bytes.len()
                    )
                });
            }
        }
        decoded
    }

    async fn queue(
        &self,
        source: &Source<'_>,
        output: &QueueOutput,
        value: Decoded<'_>,
    ) -> Result<(), String> {
        // The extension is so kind.
        let name = output.queue.resolve(source.envelope)?.to_lowercase();
        if !is_queue_name(&name) {
            return Err(format!("'{name}' cannot be the name of a queue"));
        }
        let queue = Queue::new(&output.connection, &name, &self.client, &self.log.clock());
        for payload in convert::messages(value)? {
            let text = match (self.encoding, payload) {
                (MessageEncoding::Base64, Payload::Text(text)) => BASE64.encode(text),
                (MessageEncoding::Base64, Payload::Bytes(bytes)) => BASE64.encode(bytes),
                (MessageEncoding::None, Payload::Text(text)) => text,
                (MessageEncoding::None, Payload::Bytes(bytes)) => String::from_utf8(bytes)
                    .map_err(|_| {
                        "the bytes are no UTF-8 text, and extensions.queues.messageEncoding is \
                         \"none\" in host.json"
                    })?,
            };
            let put = queue.put_and_create(&text).await;
            put.map_err(|error| format!("{}: {error}", queue.described()))?;
            self.wakers.wake(&name);
        }
        Ok(())
    }

    async fn service_bus(
        &self,
        source: &Source<'_>,
        output: &ServiceBusOutput,
        value: Decoded<'_>,
    ) -> Result<(), String> {
        let entity = output.entity.resolve(source.envelope)?;
        for payload in convert::messages(value)? {
            let (body, content_type) = match payload {
                Payload::Text(text) => (text.into_bytes(), TEXT),
                Payload::Bytes(bytes) => (bytes, BYTES),
            };
            let traceparent = source.traceparent.map(str::to_owned);
            let message = Outgoing { body, content_type, traceparent };
            let broker = &output.connection;
            let sent = self.senders.send(broker, &entity, &message, self.log.now()).await;
            sent.map_err(|error| {
                let (address, setting) = (broker.address(), &broker.setting);
                format!("'{entity}' at {address} (setting {setting}): {error}")
            })?;
        }
        Ok(())
    }

    async fn cosmos(
        &self,
        source: &Source<'_>,
        output: &CosmosDbOutput,
        value: &Decoded<'_>,
    ) -> Result<(), String> {
        let container = cosmos::Container {
            connection: &output.connection,
            database: output.database.resolve(source.envelope)?,
            container: output.container.resolve(source.envelope)?,
        };
        let create = match (output.create_if_missing, &output.partition_key) {
            (true, Some(path)) => cosmos::Missing::CreatedWith(path.resolve(source.envelope)?),
            (true, None) => cosmos::Missing::NeedsPartitionKey,
            (false, _) => cosmos::Missing::Refused,
        };
        for document in convert::documents(value)? {
            let done = self.containers.upsert(&container, &create, &document).await;
            done.map_err(|error| format!("{}: {error}", container.described()))?;
        }
        Ok(())
    }
}

/// The value for the binding `name`, if the handler has given one. Without a `$return` binding, the
/// members of an object that is returned count as outputs, before those of `Outputs`.
fn value_of<'a>(name: &str, function: &Function, answer: &'a Answer) -> Option<&'a Value> {
    let found = if name == RETURN {
        Some(&answer.return_value)
    } else {
        let returns = function.outputs.iter().any(|output| output.name == RETURN);
        let member = (!returns).then(|| answer.return_value.get(name)).flatten();
        member.or_else(|| answer.outputs.as_ref()?.get(name))
    };
    found.filter(|value| !value.is_null())
}
