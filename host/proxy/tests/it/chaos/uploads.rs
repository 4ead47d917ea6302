//! What clients do to their uploads: a retry and a breaker around an upstream that takes all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use fusebox_dev::{FramedConnection, Origin, PREFACE, RawFrame, Wire, eventually, flag, kind, ok};
use serde_json::Value;

use crate::support::Proxy;

/// Whom a client speaks what to, and who is asked by what.
const COLUMNS: [(u8, u8); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

/// How an upload ends, of which half has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadEnd {
    Whole,
    Closes,
    ClosesItsSide,
    Resets,
    Short,
    NoChunk,
    TooLarge,
    Hangs,
}

const ENDS: [(UploadEnd, &str); 8] = [
    (UploadEnd::Whole, "is whole"),
    (UploadEnd::Closes, "ends with the connection"),
    (UploadEnd::ClosesItsSide, "ends with the client's side of the connection"),
    (UploadEnd::Resets, "ends with a reset, of the stream over HTTP/2"),
    (UploadEnd::Short, "ends before its length"),
    (UploadEnd::NoChunk, "has a chunk without a length"),
    (UploadEnd::TooLarge, "grows larger than `max_body`"),
    (UploadEnd::Hangs, "does not go on for `body_timeout`"),
];

const LISTENER: &str = "workers = 1\n[listener]\nmax_body = '1KiB'\nbody_timeout = '300ms'\n\
    [policies.retry]\nkind = 'retry'\nmax_retries = 1\nmethods = ['POST']\ndelay = '1ms'\n\
    budget = 'none'\n";

/// What has come to an upstream.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicU8>);

impl Progress {
    const HEAD: u8 = 1;
    const CUT: u8 = 2;
    const WHOLE: u8 = 3;

    fn set(&self, step: u8) {
        self.0.store(step, Ordering::SeqCst);
    }

    /// Waits until it is so far.
    #[track_caller]
    fn until(&self, step: u8) -> u8 {
        eventually("the upstream", || {
            let now = self.0.load(Ordering::SeqCst);
            (now >= step).then_some(now)
        })
    }
}

/// An upstream that takes what comes, over this version.
fn upstream(version: u8, progress: &Progress) -> Origin {
    let progress = progress.clone();
    if version == 2 {
        return Origin::framed(move |peer, stream| {
            progress.set(Progress::HEAD);
            let is_whole = takes(peer);
            progress.set(if is_whole { Progress::WHOLE } else { Progress::CUT });
            peer.answer(stream, "200");
        });
    }
    Origin::start(move |connection| {
        let Some(seen) = connection.head() else { return };
        progress.set(Progress::HEAD);
        let is_whole = match seen.request.header("content-length") {
            Some(length) => {
                let length = length.parse().expect("a number");
                connection.wire.up_to(length).len() == length
            }
            None => connection.wire.up_to(usize::MAX).ends_with(b"\r\n0\r\n\r\n"),
        };
        progress.set(if is_whole { Progress::WHOLE } else { Progress::CUT });
        connection.wire.try_send(ok("")).ok();
    })
}

/// Whether the body of a stream comes to its end.
fn takes(peer: &mut FramedConnection<'_>) -> bool {
    while let Some(frame) = peer.next_frame() {
        match frame.kind {
            kind::DATA if frame.flags & flag::END_STREAM != 0 => return true,
            kind::RESET => return false,
            _ => {}
        }
    }
    false
}

/// An upload that a client begins, and ends once the upstream has the head.
struct Upload {
    end: UploadEnd,
    by: u8,
    path: String,
}

impl Upload {
    /// What the client gets.
    fn run(&self, proxy: &Proxy, progress: &Progress) -> String {
        let has_length = !matches!(self.end, UploadEnd::NoChunk | UploadEnd::TooLarge);
        let mut wire = proxy.connect();
        match self.by {
            1 => wire.send(self.begin(has_length)),
            _ => wire.send(self.begin_frames(has_length)),
        }
        progress.until(Progress::HEAD);
        match (self.end, self.by) {
            (UploadEnd::Whole, 1) => wire.send("whole"),
            (UploadEnd::Whole, _) => wire.send(RawFrame::data(1, "whole", true).bytes()),
            (UploadEnd::Closes, _) => return "left".to_owned(),
            (UploadEnd::ClosesItsSide, _) => wire.cut(),
            (UploadEnd::Resets, 1) => {
                wire.resets();
                return "left".to_owned();
            }
            (UploadEnd::Resets, _) => {
                wire.send(RawFrame::reset(1, 8).bytes());
                return "left".to_owned();
            }
            (UploadEnd::Short, 2) => wire.send(RawFrame::data(1, "", true).bytes()),
            (UploadEnd::NoChunk, 1) => wire.send("x\r\n"),
            (UploadEnd::TooLarge, 1) => wire.send(format!("400\r\n{}\r\n", "x".repeat(1024))),
            (UploadEnd::TooLarge, _) => {
                wire.send(RawFrame::data(1, "x".repeat(1024), false).bytes());
            }
            (UploadEnd::Hangs, _) => {}
            (UploadEnd::Short | UploadEnd::NoChunk, _) => unreachable!("left out"),
        }
        if self.by == 1 { heard(&mut wire) } else { heard_in_frames(&mut wire) }
    }

    fn begin(&self, has_length: bool) -> String {
        let (framing, first) = match has_length {
            true => ("content-length: 10", "begun"),
            false => ("transfer-encoding: chunked", "5\r\nbegun\r\n"),
        };
        let path = &self.path;
        format!(
            "POST /{path} HTTP/1.1\r\nhost: b\r\nx-request-id: {path}\r\n{framing}\r\n\r\n{first}"
        )
    }

    fn begin_frames(&self, has_length: bool) -> Vec<u8> {
        let path = format!("/{}", self.path);
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "b"),
            (":path", &*path),
            ("x-request-id", &*self.path),
        ];
        if has_length {
            fields.push(("content-length", "10"));
        }
        let frames = [
            RawFrame::settings(&[]),
            RawFrame::headers(1, &fields, false),
            RawFrame::data(1, "begun", false),
        ];
        [PREFACE.to_vec()].into_iter().chain(frames.map(|frame| frame.bytes())).flatten().collect()
    }
}

/// A status, or that there was none.
fn heard(wire: &mut Wire) -> String {
    match wire.head() {
        Some(head) => head.status().to_string(),
        None => "nothing".to_owned(),
    }
}

fn heard_in_frames(wire: &mut Wire) -> String {
    while let Some(frame) = wire.frame() {
        match frame.kind {
            kind::HEADERS => return frame.status().to_string(),
            kind::RESET => return "reset".to_owned(),
            _ => {}
        }
    }
    "nothing".to_owned()
}

/// An upload, with its own upstream and breaker.
struct UploadCell {
    upload: Upload,
    origin: Origin,
    to: u8,
    progress: Progress,
}

impl UploadCell {
    fn new(number: usize, end: UploadEnd, (by, to): (u8, u8)) -> Self {
        let progress = Progress::default();
        let origin = upstream(to, &progress);
        Self { upload: Upload { end, by, path: number.to_string() }, origin, to, progress }
    }

    fn config(&self) -> String {
        let (number, origin, to) = (&self.upload.path, &self.origin, self.to);
        format!(
            "[policies.b{number}]\nkind = 'circuit-breaker'\nfailure_threshold = 100\n\
             failure_capacity = 100\n[[routes]]\npath = '/{number}'\n\
             policies = ['retry', 'b{number}']\n\
             upstream = {{ url = '{origin}', protocol = 'http{to}' }}\n"
        )
    }

    /// What the client got, how many attempts were made, and what came to the upstream.
    fn run(&self, proxy: &Proxy) -> [String; 3] {
        let answer = self.upload.run(proxy, &self.progress);
        let line = proxy.story(&self.upload.path).pop().expect("an access line");
        let came =
            if self.progress.until(Progress::CUT) == Progress::WHOLE { "whole" } else { "cut" };
        [answer, line["attempts"].to_string(), came.to_owned()]
    }

    /// What the breaker has counted.
    fn counted(&self, state: &Value) -> String {
        let policy = &state["policies"][format!("b{}", self.upload.path)];
        let count = |key: &str| policy[key].as_u64().unwrap_or_default() as usize;
        let marks = "✗".repeat(count("failures")) + &"✓".repeat(count("successes"));
        if marks.is_empty() { "–".into() } else { marks }
    }
}

/// The table of all of them.
pub(super) fn table() -> String {
    let all = ENDS.into_iter().flat_map(|(end, _)| COLUMNS.map(|way| (end, way)));
    // By what they speak, some can't be said.
    let is_possible =
        |end, by| !matches!((end, by), (UploadEnd::Short, 1) | (UploadEnd::NoChunk, 2));
    let cells = all.enumerate().map(|(number, (end, way))| {
        is_possible(end, way.0).then(|| UploadCell::new(number, end, way))
    });
    let cells: Vec<_> = cells.collect();
    let config: String = cells.iter().flatten().map(UploadCell::config).collect();
    let proxy = Proxy::before(&"", &format!("{LISTENER}{config}"));
    let found: Vec<Option<[String; 3]>> = thread::scope(|scope| {
        let proxy = &proxy;
        let run = |cell| scope.spawn(move || UploadCell::run(cell, proxy));
        let running: Vec<_> = cells.iter().map(|cell| cell.as_ref().map(run)).collect();
        let ended = running.into_iter().map(|it| it.map(|it| it.join().expect("no panic")));
        ended.collect()
    });
    let state = proxy.state();
    let words = cells.iter().zip(found).map(|(cell, found)| match (cell, found) {
        (Some(cell), Some([answer, attempts, came])) => {
            format!(" {answer} ×{attempts} {} {came} |", cell.counted(&state))
        }
        _ => "  |".to_owned(),
    });
    let words: Vec<_> = words.collect();
    let names = COLUMNS.map(|(by, to)| {
        let version = |version| if version == 1 { "HTTP/1.1" } else { "HTTP/2" };
        format!("{} to {}", version(by), version(to))
    });
    let mut table = format!("| the body | {} |\n|---|{}", names.join(" | "), "---|".repeat(4));
    for (row, (_, name)) in words.chunks(COLUMNS.len()).zip(ENDS) {
        table += &format!("\n| {name} |{}", row.concat());
    }
    table
}
