//! One line: its fields as JSON, formatted into a buffer that the thread keeps.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use fusebox_resilience::ComponentId;
use serde::Serialize;

use super::Level;
use crate::observe::now;

/// What is kept of a text from outside.
pub(super) const MAX_TEXT: usize = 4 << 10;

/// A line under construction.
#[derive(Debug)]
pub struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    seconds: &'a mut Seconds,
}

impl Line<'_> {
    /// Adds a field. `key` is a plain word in snake_case, and no field of the line yet.
    pub fn field(&mut self, key: &'static str, value: impl Serialize) -> &mut Self {
        self.key(key);
        let start = self.buffer.len();
        if serde_json::to_writer(&mut *self.buffer, &value).is_err() {
            // No value of ours fails; a stranger one must not cost the rest of the line.
            self.buffer.truncate(start);
            self.buffer.extend_from_slice(b"null");
        }
        self
    }

    /// Adds a field if there is a value.
    pub fn maybe(&mut self, key: &'static str, value: Option<impl Serialize>) -> &mut Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Adds what somebody else wrote, whatever its bytes and length.
    pub fn text(&mut self, key: &'static str, bytes: &[u8]) -> &mut Self {
        // Nearly all of it needs no escape, and this finds out many bytes at a time.
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        if bytes.len() <= MAX_TEXT && bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
            self.key(key);
            self.buffer.push(b'"');
            self.buffer.extend_from_slice(bytes);
            self.buffer.push(b'"');
            return self;
        }
        match bytes.get(..MAX_TEXT) {
            Some(start) if bytes.len() > MAX_TEXT => {
                self.field(key, format_args!("{}…", String::from_utf8_lossy(start)))
            }
            _ => self.field(key, String::from_utf8_lossy(bytes)),
        }
    }

    /// Adds what is JSON already.
    pub(super) fn json(&mut self, key: &'static str, json: &str) -> &mut Self {
        self.key(key);
        self.buffer.extend_from_slice(json.as_bytes());
        self
    }

    pub(super) fn component(&mut self, component: &ComponentId) -> &mut Self {
        self.field("component", &*component.name)
            .field("digest", &*component.digest)
            .field("generation", component.generation)
    }

    pub(super) fn time(&mut self, key: &'static str, time: SystemTime) -> &mut Self {
        self.key(key);
        self.seconds.write(time, self.buffer);
        self
    }

    pub(super) fn open(&mut self, key: &'static str) -> &mut Self {
        self.key(key);
        self.buffer.push(b'{');
        self
    }

    pub(super) fn close(&mut self) {
        self.buffer.push(b'}');
    }

    fn key(&mut self, key: &'static str) {
        if self.buffer.last() != Some(&b'{') {
            self.buffer.push(b',');
        }
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }
}

/// What a thread formats with, kept from line to line.
#[derive(Default)]
pub(super) struct Scratch {
    buffer: Vec<u8>,
    seconds: Seconds,
}

impl Scratch {
    pub(super) fn with(use_it: impl FnOnce(&mut Self)) {
        thread_local! {
            static SCRATCH: Cell<Scratch> = Cell::default();
        }
        // Taken out for the while, so that a value that logs when it is formatted meets an empty one; and a thread at its
        // very end has none.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        use_it(&mut scratch);
        let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    }

    pub(super) fn line(&mut self, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) -> &[u8] {
        self.buffer.clear();
        self.buffer.push(b'{');
        let mut line = Line { buffer: &mut self.buffer, seconds: &mut self.seconds };
        line.time("time", now()).field("level", level.name()).field("msg", message);
        fields(&mut line);
        self.buffer.extend_from_slice(b"}\n");
        &self.buffer
    }
}

/// The last second that was formatted, `2024-08-20T08:37:36`: most lines are of the same as the line before.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    second: Option<u64>,
    text: String,
}

impl Seconds {
    pub(super) fn write(&mut self, time: SystemTime, buffer: &mut Vec<u8>) {
        // A clock before 1970 is a clock that was never set.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
            self.text.clear();
            // A `String` takes everything.
            let _ = write!(self.text, "{timestamp:.0}");
            self.text.truncate(self.text.trim_end_matches('Z').len());
        }
        let mut fraction = *b".000000Z\"";
        let mut rest = since.subsec_micros();
        for digit in fraction[1..7].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        buffer.push(b'"');
        buffer.extend_from_slice(self.text.as_bytes());
        buffer.extend_from_slice(&fraction);
    }
}
