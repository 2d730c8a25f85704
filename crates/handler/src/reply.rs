//! What a function answers: outputs, a return value, log lines.
//!
//! Two mistakes that the host punishes cannot be made here. An empty answer, which it waits for
//! until the function times out: a reply is never less than `{}`. And a string that happens to be
//! base64, which it decodes to bytes (`hello123` is base64;
//! <https://github.com/Azure/azure-functions-host/issues/8352>): a value is sent as JSON, so a
//! string arrives with its quotes, and [`Reply::text`] and [`Reply::bytes`] encode on purpose what
//! the host then decodes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::envelope::InvocationResponse;
use crate::failure::Failure;

/// Lines that one reply may add to the log of its invocation; more are counted, not kept. A loop
/// over a large batch must not make the answer larger than the batch.
const LOG_LINES_MAX: usize = 256;

/// Decodes what the host might decode, even where it would not: with any or no padding, and with
/// bits left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a function answers when it succeeded.
///
/// The host writes the outputs after it has the reply. If that fails, the invocation fails, and
/// the trigger comes again, with some of the outputs already written.
///
/// ```
/// # use handler::Reply;
/// # use serde_json::json;
/// let reply = Reply::done()
///     .output("payments", json!({"orderId": "o-7", "amountMinor": 1999}))
///     .log("payment of o-7 handed over");
/// assert_eq!(
///     serde_json::to_value(reply.into_envelope().unwrap()).unwrap(),
///     json!({
///         "Outputs": {"payments": {"orderId": "o-7", "amountMinor": 1999}},
///         "Logs": ["payment of o-7 handed over"],
///     }),
/// );
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a reply does nothing until the function returns it"]
pub struct Reply {
    outputs: Map<String, Value>,
    return_value: Value,
    logs: Vec<String>,
    logs_dropped: usize,
    unserializable: Option<String>,
}

impl Reply {
    /// Success, and nothing more.
    pub fn done() -> Self {
        Self::default()
    }

    /// Hands a value to an output binding, as JSON: an object or a number becomes one message or
    /// document, an array one per element. A string becomes its JSON text, in quotes; for the text
    /// itself there is [`text`](Self::text).
    ///
    /// A value that cannot be JSON makes the invocation fail.
    pub fn output(mut self, binding: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => {
                self.outputs.insert(binding.to_owned(), defused(value));
            }
            Err(error) => self.unserializable = Some(format!("output {binding}: {error}")),
        }
        self
    }

    /// Hands text to an output binding that takes text, such as a queue, and has it arrive
    /// exactly. Text that holds a JSON array becomes one message per element; that is the host's
    /// doing.
    pub fn text(mut self, binding: &str, text: &str) -> Self {
        let value = if is_base64(text) { STANDARD.encode(text) } else { text.to_owned() };
        self.outputs.insert(binding.to_owned(), Value::String(value));
        self
    }

    /// Hands bytes to an output binding that takes bytes. Its `function.json` must not say
    /// `"dataType": "binary"`, which keeps the host from decoding what is sent for them.
    pub fn bytes(mut self, binding: &str, bytes: &[u8]) -> Self {
        self.outputs.insert(binding.to_owned(), Value::String(STANDARD.encode(bytes)));
        self
    }

    /// Hands a value to the output binding named `$return`, as [`output`](Self::output) does.
    pub fn return_value(mut self, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => self.return_value = defused(value),
            Err(error) => self.unserializable = Some(format!("return value: {error}")),
        }
        self
    }

    /// Adds a line to the log of the invocation, where the host shows it with the invocation's id.
    /// The host keeps the first 256 lines of a success and none of a failure.
    pub fn log(mut self, line: impl Into<String>) -> Self {
        if self.logs.len() < LOG_LINES_MAX {
            self.logs.push(line.into());
        } else {
            self.logs_dropped += 1;
        }
        self
    }

    /// What is sent to the host.
    ///
    /// # Errors
    /// A value could not be JSON.
    pub fn into_envelope(self) -> Result<InvocationResponse, Failure> {
        if let Some(what) = self.unserializable {
            return Err(Failure::new("reply-not-json", what));
        }
        let mut logs = self.logs;
        if self.logs_dropped > 0 {
            logs.push(format!("{} more lines were dropped", self.logs_dropped));
        }
        Ok(InvocationResponse { outputs: self.outputs, logs, return_value: self.return_value })
    }
}

/// A string as its JSON text, which is never base64: it has quotes. Only the value itself is in
/// danger, not what it contains.
fn defused(value: Value) -> Value {
    match value {
        Value::String(_) => Value::String(value.to_string()),
        other => other,
    }
}

/// Whether the host may take the text for base64. White space does not count.
fn is_base64(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    LENIENT.decode(compact).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(reply: Reply) -> Value {
        serde_json::to_value(reply.into_envelope().unwrap()).unwrap()
    }

    /// What the host makes of a string: `Convert.TryFromBase64String`.
    fn host_decodes(value: &Value) -> Option<Vec<u8>> {
        STANDARD.decode(value.as_str()?.replace([' ', '\t', '\r', '\n'], "")).ok()
    }

    #[test]
    fn a_reply_is_never_empty() {
        assert_eq!(sent(Reply::done()).to_string(), "{}");
        assert_eq!(sent(Reply::done().return_value(Value::Null)).to_string(), "{}");
        assert_eq!(sent(Reply::done().output("x", ())), json!({"Outputs": {"x": null}}));
    }

    #[test]
    fn no_string_falls_into_the_base64_trap() {
        for text in ["hello123", "", "abcd", "ab==", "YWJj ZGVm", "12345678", "null", "true"] {
            let reply = sent(Reply::done().output("q", text).return_value(text).text("t", text));
            for value in [&reply["Outputs"]["q"], &reply["ReturnValue"]] {
                assert_eq!(host_decodes(value), None, "{text}");
                let arrived = value.as_str().unwrap();
                assert_eq!(serde_json::from_str::<String>(arrived).unwrap(), text);
            }
            // What was meant as text arrives as exactly that, decoded or not.
            let value = &reply["Outputs"]["t"];
            let arrived = host_decodes(value).unwrap_or(value.as_str().unwrap().into());
            assert_eq!(arrived, text.as_bytes());
        }
        let plain = sent(Reply::done().text("t", "hello, world"));
        assert_eq!(plain["Outputs"]["t"], "hello, world");
        let bytes = sent(Reply::done().bytes("b", &[0, 159, 146, 150]));
        assert_eq!(host_decodes(&bytes["Outputs"]["b"]).unwrap(), [0, 159, 146, 150]);
    }

    #[test]
    fn what_is_no_string_stays_as_it_is() {
        let value = json!({"text": "hello123", "list": ["abcd"]});
        assert_eq!(sent(Reply::done().output("q", &value))["Outputs"]["q"], value);
        assert_eq!(sent(Reply::done().output("q", 1234))["Outputs"]["q"], 1234);
        assert_eq!(sent(Reply::done().output("q", ["abcd"]))["Outputs"]["q"], json!(["abcd"]));
    }

    #[test]
    fn what_cannot_be_json_fails_and_logs_are_bounded() {
        let keyed_by_list = std::collections::BTreeMap::from([(vec![1], 1)]);
        let failure = Reply::done().output("q", keyed_by_list).into_envelope().unwrap_err();
        assert_eq!(failure.error_type(), "reply-not-json");

        let reply = (0..1000).fold(Reply::done(), |reply, line| reply.log(line.to_string()));
        let logs = reply.into_envelope().unwrap().logs;
        assert_eq!(logs.len(), LOG_LINES_MAX + 1);
        assert_eq!(logs[LOG_LINES_MAX], "744 more lines were dropped");
    }
}
