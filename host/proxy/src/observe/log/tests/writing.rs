//! What becomes of lines that can't be written, or not at once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::*;

/// Says when it is written to, and waits until it may go on.
struct Gate {
    entered: Sender<()>,
    go_on: Receiver<io::Result<()>>,
    sink: Sink,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        // Without anybody to say so, it always may.
        self.go_on.recv().unwrap_or(Ok(()))?;
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, Receiver<()>, Sender<io::Result<()>>, Sink) {
    let ((entered, has_entered), (give, go_on), sink) = (channel(), channel(), Sink::default());
    (Gate { entered, go_on, sink: sink.clone() }, has_entered, give, sink)
}

#[test]
fn lines_that_find_no_room_are_dropped_and_counted() {
    let (gate, has_entered, give, sink) = gate();
    let (log, writer) = Log::start_with(gate, Level::Info, true, 1000);
    log.line(Level::Info, "first", |_| {});
    has_entered.recv().unwrap();
    for _ in 0..100 {
        log.line(Level::Info, "more", |_| {});
    }
    let dropped = log.dropped();
    assert!((80..100).contains(&dropped), "{dropped}");
    drop(give);
    drop(writer);
    let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
    assert_eq!(lines.len() as u64, 1 + (100 - dropped) + 1);
    assert_eq!(
        lines.last().map(String::as_str),
        Some(format!(
            r#"{{"level":"WARN","msg":"{dropped} log lines dropped","dropped":{dropped}}}"#
        ))
        .as_deref()
    );
    assert_eq!(log.dropped(), dropped);
}

#[test]
fn lines_that_the_output_refuses_are_counted_too() {
    let (gate, has_entered, give, sink) = gate();
    let (log, writer) = Log::start(gate, Level::Info, true);
    log.line(Level::Info, "lost", |_| {});
    has_entered.recv().unwrap();
    give.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    while log.dropped() == 0 {
        thread::yield_now();
    }
    log.line(Level::Info, "written", |_| {});
    drop(give);
    drop(writer);
    let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
    assert_eq!(
        lines,
        [
            r#"{"level":"INFO","msg":"written"}"#,
            r#"{"level":"WARN","msg":"1 log lines dropped","dropped":1}"#
        ]
    );
}

#[test]
fn a_line_goes_out_without_another_behind_it() {
    let (gate, has_entered, give, sink) = gate();
    drop(give);
    let (log, writer) = Log::start(gate, Level::Info, true);
    for count in 1..=3 {
        log.line(Level::Info, "alone", |_| {});
        has_entered.recv_timeout(second(30)).unwrap();
        while sink.lines().len() < count {
            thread::yield_now();
        }
    }
    drop(writer);
}

#[test]
fn the_end_writes_everything_and_then_nothing() {
    let sink = Sink::default();
    let (log, writer) = Log::start(sink.clone(), Level::Info, true);
    for _ in 0..1000 {
        log.line(Level::Info, "one", |_| {});
    }
    drop(writer);
    assert_eq!(sink.lines().len(), 1000);
    log.line(Level::Info, "late", |_| {});
    assert_eq!(sink.lines().len(), 1000);
    assert_eq!(log.dropped(), 1);
}

#[test]
fn lines_of_many_threads_stay_whole_and_in_order() {
    let sink = Sink::default();
    let (log, writer) = Log::start(sink.clone(), Level::Info, true);
    thread::scope(|scope| {
        for thread in 0..8_usize {
            let log = &log;
            scope.spawn(move || {
                for number in 0..500 {
                    log.line(Level::Info, "counting", |line| {
                        line.field("thread", thread).field("number", number);
                    });
                }
            });
        }
    });
    drop(writer);
    let mut next = [0; 8];
    for line in sink.lines() {
        let line: Value = serde_json::from_str(&line).unwrap();
        let thread = usize::try_from(line["thread"].as_u64().unwrap()).unwrap();
        assert_eq!(line["number"], next[thread]);
        next[thread] += 1;
    }
    assert_eq!(next, [500; 8]);
}
