//! Two observations, side by side: JSON lines, equal or not.

use std::fmt::Write;

use serde::Serialize;

use super::scenario::{EventName, Millis, Observed};

/// What differs, as lines to read; None: nothing.
pub(crate) fn difference(expected: &Observed, got: &Observed) -> Option<String> {
    let mut got = got.clone();
    adapt(&mut got, expected);
    let (expected, got) = (sections(expected), sections(&got));
    if expected == got {
        return None;
    }
    let mut text = String::from("    - expected, + got\n");
    for ((name, expected), (_, got)) in expected.iter().zip(&got) {
        let _ = writeln!(text, "    {name}");
        for index in 0..expected.len().max(got.len()) {
            match (expected.get(index), got.get(index)) {
                (Some(expected), Some(got)) if expected == got => {
                    let _ = writeln!(text, "        {got}");
                }
                (expected, got) => {
                    expected.iter().for_each(|line| text.push_str(&format!("      - {line}\n")));
                    got.iter().for_each(|line| text.push_str(&format!("      + {line}\n")));
                }
            }
        }
    }
    Some(text)
}

/// An observation as lines to read.
pub(crate) fn display(observed: &Observed) -> String {
    let mut text = String::new();
    for (name, lines) in sections(observed) {
        let _ = writeln!(text, "    {name}");
        lines.iter().for_each(|line| text.push_str(&format!("        {line}\n")));
    }
    text
}

fn sections(observed: &Observed) -> [(&'static str, Vec<String>); 4] {
    [
        ("requests", lines(&observed.requests)),
        ("attempts", lines(&observed.attempts)),
        ("events", lines(&observed.events)),
        ("breaker_final_state", lines(&observed.breaker_final_state)),
    ]
}

fn lines<T: Serialize>(items: &[T]) -> Vec<String> {
    items.iter().map(|item| serde_json::to_string(item).expect("plain data")).collect()
}

/// The two places where the fixture knows less than we do.
///
/// failsafe-go does not say which request moved a breaker where it passes no context. And tokio's
/// timers, unlike Go's, round up to the millisecond, so that after a delay of 37.5 ms everything of
/// that request is late by less than one; a scenario of whole milliseconds is held to them exactly.
fn adapt(got: &mut Observed, expected: &Observed) {
    for (got, expected) in got.events.iter_mut().zip(&expected.events) {
        if expected.kind == EventName::Breaker && expected.request.is_none() {
            got.request = None;
        }
    }
    let fractions = expected
        .events
        .iter()
        .filter_map(|event| event.delay_ms)
        .filter(|delay| delay.0.fract() != 0.0);
    let most_late = fractions.count() as f64;
    let forgive = |got: &mut Millis, expected: Millis| {
        if (0.0..most_late).contains(&(got.0 - expected.0)) {
            *got = expected;
        }
    };
    for (got, expected) in got.requests.iter_mut().zip(&expected.requests) {
        forgive(&mut got.done_at, expected.done_at);
        forgive(&mut got.duration, expected.duration);
    }
    for (got, expected) in got.attempts.iter_mut().zip(&expected.attempts) {
        forgive(&mut got.at, expected.at);
        if let (Some(got), Some(expected)) = (
            &mut got.since_previous_end_of_same_request,
            expected.since_previous_end_of_same_request,
        ) {
            forgive(got, expected);
        }
    }
    for (got, expected) in got.events.iter_mut().zip(&expected.events) {
        forgive(&mut got.at, expected.at);
    }
}
