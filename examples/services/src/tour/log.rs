//! The log of a program, and waiting for its lines.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, Lines};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::program::Output;

/// How long to wait for a line.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lines of a program, kept from its start line on. What is not JSON is a line with nothing but
/// a `msg`.
#[derive(Debug)]
pub(super) struct ProgramLog {
    lines: watch::Receiver<Vec<Value>>,
    _readers: JoinSet<()>,
}

impl ProgramLog {
    pub(super) fn of(output: Output) -> Self {
        let (kept, lines) = watch::channel(Vec::new());
        let mut readers = JoinSet::new();
        readers.spawn(keep(output.lines, kept.clone()));
        readers.spawn(keep(output.errors, kept));
        Self { lines, _readers: readers }
    }

    /// The number of lines.
    pub(super) fn len(&self) -> usize {
        self.lines.borrow().len()
    }

    /// The wanted lines from this position on.
    pub(super) fn all(&self, from: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.lines.borrow().iter().skip(from).filter(|line| wanted(line)).cloned().collect()
    }

    /// Waits for the first wanted line from this position on; `None` if it does not come.
    pub(super) async fn first(
        &self,
        from: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> Option<Value> {
        let mut lines = self.lines.clone();
        let mut position = from;
        let found = async {
            loop {
                {
                    let lines = lines.borrow_and_update();
                    let new = lines.get(position..).unwrap_or_default();
                    if let Some(line) = new.iter().find(|line| wanted(line)) {
                        return Some(line.clone());
                    }
                    position = position.max(lines.len());
                }
                lines.changed().await.ok()?;
            }
        };
        timeout(PATIENCE, found).await.ok()?
    }

    /// Waits for so many wanted lines, or until no more will come, and returns them.
    pub(super) async fn some(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = self.lines.clone();
        let enough =
            lines.wait_for(|lines| lines.iter().filter(|line| wanted(line)).count() >= count);
        // Fewer than expected is for the caller to notice.
        let _ = timeout(PATIENCE, enough).await;
        self.all(0, wanted)
    }

    /// Waits for the last line of a program that has ended.
    pub(super) async fn ended(&self) {
        let mut lines = self.lines.clone();
        let _ = timeout(PATIENCE, async { while lines.changed().await.is_ok() {} }).await;
    }
}

async fn keep<R: AsyncBufRead + Unpin>(mut lines: Lines<R>, kept: watch::Sender<Vec<Value>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "msg": line }));
        kept.send_modify(|kept| kept.push(line));
    }
}

/// The message of a line.
pub(super) fn message(line: &Value) -> &str {
    line["msg"].as_str().unwrap_or_default()
}

/// Whether a line is about this request.
pub(super) fn is_about(line: &Value, request_id: &str) -> bool {
    line["request_id"] == request_id
}

/// Whether a line is an access line.
pub(super) fn is_access(line: &Value) -> bool {
    line["request"].is_object()
}

/// Whether a line is unexpected: from stderr, or of a panic. A warning is not.
pub(super) fn is_stray(line: &Value) -> bool {
    line["time"].is_null() && !is_warning(line)
}

/// Whether a line warns of what is hardly meant in the configuration.
pub(super) fn is_warning(line: &Value) -> bool {
    line["time"].is_null() && message(line).starts_with("warning: ")
}

/// The seconds from `since` until the time in a line.
pub(super) fn seconds(time: &Value, since: Timestamp) -> f64 {
    let time = time.as_str().and_then(|time| time.parse::<Timestamp>().ok()).unwrap_or(since);
    time.duration_since(since).as_secs_f64()
}
