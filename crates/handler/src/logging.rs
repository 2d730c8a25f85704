//! Logs that the Functions host can read: one line of stdout per event.
//!
//! The host takes a line of stderr for an error, and every line on its own, so an event with a
//! line break in it would become several. It also gives a meaning to two prefixes
//! (`LanguageWorkerConsoleLog`, `azfuncjsonlog:`), with which no line of ours may start. Both are
//! seen to here, whatever an event contains.
//!
//! Nothing is redacted: what must not be in a log must not be put into an event.

use std::io::{self, Write};
use std::panic;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What a line of the host's own begins with.
const MAGIC_PREFIXES: [&[u8]; 2] = [b"LanguageWorkerConsoleLog", b"azfuncjsonlog:"];

/// Used when no filter is given.
const FILTER_DEFAULT: &str = "info";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read; an example is info,handler=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a subscriber already.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the process's `tracing` events, and its panics, to stdout. `filter` is what `RUST_LOG`
/// usually holds; without one it is `info`.
///
/// # Errors
/// The filter cannot be read, or the process has a subscriber already.
pub fn init(filter: Option<&str>, format: Format) -> Result<(), InitError> {
    subscriber(filter, format, io::stdout)?.try_init()?;
    // A panic on stderr would be several lines, each an error of its own.
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(panic.location = location, panic.message = message, "panicked");
    }));
    Ok(())
}

fn subscriber<W>(
    filter: Option<&str>,
    format: Format,
    writer: W,
) -> Result<impl tracing::Subscriber + Send + Sync + 'static, InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter.map(str::trim).filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder().parse(filter.unwrap_or(FILTER_DEFAULT))?;
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines(writer));
    let layer: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> = match format {
        Format::Text => Box::new(layer),
        Format::Json => Box::new(layer.json().flatten_event(true).with_span_list(true)),
    };
    Ok(tracing_subscriber::registry().with(filter).with(layer))
}

/// Makes writers that write one line each.
struct Lines<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { writer: self.0.make_writer(), event: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Line { writer: self.0.make_writer_for(meta), event: Vec::new() }
    }
}

/// Collects one event and writes it as one line, at once, when dropped.
struct Line<W: Write> {
    writer: W,
    event: Vec<u8>,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.event.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Line<W> {
    fn drop(&mut self) {
        let line = one_line(&self.event);
        // A log that nobody can write any more has nobody to tell.
        let _ = self.writer.write_all(&line).and_then(|()| self.writer.flush());
    }
}

/// The event as one line that starts with nothing magic.
fn one_line(event: &[u8]) -> Vec<u8> {
    let event = event.trim_ascii_end();
    let mut line = Vec::with_capacity(event.len() + 2);
    if MAGIC_PREFIXES.iter().any(|prefix| event.starts_with(prefix)) {
        line.push(b' ');
    }
    for &byte in event {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, info_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(Some("info"), format, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let _span = info_span!("invocation", function = "charge").entered();
            info!(order.id = "o-7", "two\nlines\r\nazfuncjsonlog: and a forged one");
            debug!("not at this level");
            info!("second");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_line_per_event() {
        let text = logged(Format::Text);
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(text[0].contains("function") && text[0].contains("o-7"), "{text:?}");
        assert!(text.iter().all(|line| !line.starts_with("azfunc") && !line.contains('\r')));

        let json = logged(Format::Json);
        assert_eq!(json.len(), 2, "{json:?}");
        let event: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(event["order.id"], "o-7");
        assert_eq!(event["span"]["function"], "charge");
        assert_eq!(event["spans"][0]["function"], "charge", "every span around the line");
        assert_eq!(event["message"], "two\nlines\r\nazfuncjsonlog: and a forged one");
    }

    #[test]
    fn no_line_starts_with_a_magic_prefix() {
        for magic in ["LanguageWorkerConsoleLog[x]", "azfuncjsonlog:{}"] {
            assert_eq!(one_line(magic.as_bytes()), format!(" {magic}\n").as_bytes());
        }
        assert_eq!(one_line(b"plain\n"), b"plain\n");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        assert!(subscriber(Some("handler=loudest"), Format::Text, io::sink).is_err());
        assert!(subscriber(Some(" "), Format::Text, io::sink).is_ok());
    }
}
