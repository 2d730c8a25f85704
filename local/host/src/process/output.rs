//! The handler's stdout and stderr, line by line, as the Azure host logs them.
//!
//! Source: `WorkerProcess` and `WorkerProcessUtilities` of the Azure Functions host.

use std::collections::VecDeque;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::log::{Level, category};

/// A longer line is cut: a handler that never writes a line end must not fill the memory.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// How many stderr lines an exit message repeats.
pub(crate) const STDERR_LINES_KEPT: usize = 3;

const SYSTEM_PREFIX: &str = "LanguageWorkerConsoleLog";
const TOOLING_PREFIX: &str = "azfuncjsonlog:";

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    /// `errors_only` is `useStdErrorStreamForErrorsOnly`.
    Err {
        errors_only: bool,
    },
}

/// How one line is logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Classified<'a> {
    pub(crate) level: Level,
    pub(crate) category: &'static str,
    pub(crate) text: &'a str,
    /// Whether the exit message may repeat it.
    pub(crate) is_error: bool,
}

/// Decides level and category of `line`.
pub(crate) fn classify(stream: Stream, line: &str) -> Classified<'_> {
    let as_line = |level, category, text| Classified {
        level,
        category,
        text,
        is_error: level == Level::Error,
    };
    if let Some(text) = strip_prefix(line, TOOLING_PREFIX) {
        return as_line(Level::Information, category::TOOLING, text);
    }
    let (name, text) = match strip_prefix(line, SYSTEM_PREFIX) {
        Some(text) => (category::WORKER, text),
        None => (category::CONSOLE, line),
    };
    let has = |words: &[&str]| {
        let lower = text.to_ascii_lowercase();
        words.iter().any(|word| lower.contains(word))
    };
    let level = match stream {
        Stream::Err { .. } if has(&["warn"]) => Level::Warning,
        Stream::Err { errors_only: true } => Level::Error,
        Stream::Err { errors_only: false }
            if has(&["error", "fail", "severe", "unhandled exception"]) =>
        {
            Level::Error
        }
        Stream::Out | Stream::Err { errors_only: false } => Level::Information,
    };
    as_line(level, name, text)
}

fn strip_prefix<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let head = line.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &line[prefix.len()..])
}

/// Hands every line of `stream` to `each` until the stream ends.
pub(crate) async fn lines(stream: impl tokio::io::AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(more) = next_line(&mut reader, &mut line).await {
        if more || !line.is_empty() {
            let text = String::from_utf8_lossy(&line);
            each(text.trim_end_matches('\r'));
        }
        if !more {
            return;
        }
        line.clear();
    }
}

/// Reads up to a line end or the length limit. False at the end of the stream.
async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let room = LINE_MAX_BYTES - line.len();
        let window = &available[..available.len().min(room)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(&window[..end]);
                reader.consume(end + 1);
                return Ok(true);
            }
            None => {
                let taken = window.len();
                line.extend_from_slice(window);
                reader.consume(taken);
                if line.len() == LINE_MAX_BYTES {
                    return Ok(true);
                }
            }
        }
    }
}

/// The last few error lines of one process.
#[derive(Debug, Default)]
pub(crate) struct LastErrors(VecDeque<String>);

impl LastErrors {
    pub(crate) fn push(&mut self, line: &str) {
        if self.0.len() == STDERR_LINES_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_logged_as_the_azure_host_logs_them() {
        use Level::{Error, Information, Warning};
        let strict = Stream::Err { errors_only: true };
        let lenient = Stream::Err { errors_only: false };
        for (stream, line, level, name, text) in [
            (Stream::Out, "error: x", Information, category::CONSOLE, "error: x"),
            (strict, "listening", Error, category::CONSOLE, "listening"),
            (strict, "a WARNing", Warning, category::CONSOLE, "a WARNing"),
            (lenient, "listening", Information, category::CONSOLE, "listening"),
            (lenient, "it FAILED", Error, category::CONSOLE, "it FAILED"),
            (Stream::Out, "LanguageWorkerConsoleLog hi", Information, category::WORKER, " hi"),
            (Stream::Out, "azfuncjsonlog:{}", Information, category::TOOLING, "{}"),
        ] {
            let got = classify(stream, line);
            assert_eq!((got.level, got.category, got.text), (level, name, text), "{line}");
        }
    }

    #[tokio::test]
    async fn lines_without_an_end_are_cut_and_the_last_one_counts() {
        let mut input = vec![b'x'; LINE_MAX_BYTES + 5];
        input.extend_from_slice(b"\r\n\nlast");
        let mut seen = Vec::new();
        lines(&*input, |line| seen.push(line.len())).await;
        assert_eq!(seen, [LINE_MAX_BYTES, 5, 0, 4]);
    }

    #[test]
    fn the_last_three_error_lines_are_kept() {
        let mut errors = LastErrors::default();
        for line in ["1", "2", "3", "4"] {
            errors.push(line);
        }
        assert_eq!(errors.take(), ["2", "3", "4"]);
    }
}
