//! Compares a component's answers with what its cases expect.

use std::fmt;

use fusebox_resilience::{Fault, Response};
use http::HeaderValue;

use super::case::{CaseDelay, Expect, ExpectedResponse};
use crate::contract::ContractExport;
use crate::convert::text_of;
use crate::fault::GuestFailure;

/// The longest value that is shown on a line, in bytes.
const SHOWN: usize = 200;

/// The result of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line of its file that it begins on.
    pub line: usize,
    /// The differences from the expected answer; empty if it is as expected.
    pub differences: Vec<Difference>,
    /// What the guest printed meanwhile.
    pub printed: Vec<String>,
}

impl CaseReport {
    /// Whether the answer is as expected.
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A part of an answer that differs from the expected one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which part.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl Difference {
    fn new(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), expected: expected.into(), found: found.into() }
    }
}

/// On one line: `status: expected 503, found 200`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, expected, found } = self;
        write!(f, "{what}: expected {}, found {}", short(expected), short(found))
    }
}

fn short(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    if line.len() <= SHOWN {
        line
    } else {
        format!("{}…", &line[..line.floor_char_boundary(SHOWN)])
    }
}

/// What a component said.
#[derive(Debug)]
pub(crate) enum CaseAnswer {
    Handled(bool),
    Response(Box<Response>),
    Declined,
    Delay(CaseDelay),
    /// Empty: it gives none.
    Key(String),
    Fault {
        fault: Fault,
        detail: String,
    },
    /// It does not export what was asked.
    Missing(ContractExport),
}

impl CaseAnswer {
    /// And what was printed.
    pub(super) fn of(failure: GuestFailure) -> (Self, Vec<String>) {
        (Self::Fault { fault: failure.fault, detail: failure.detail }, failure.printed)
    }

    fn short(&self) -> String {
        match self {
            Self::Handled(handled) => format!("handled = {handled}"),
            Self::Response(response) => {
                format!("a response with status {}", response.status.as_u16())
            }
            Self::Declined => "declined".into(),
            Self::Delay(delay) => format!("delay = {delay}"),
            Self::Key(key) => format!("key = {key:?}"),
            Self::Fault { fault, detail } => format!("the fault `{}`: {detail}", fault.name()),
            Self::Missing(export) => format!("no export `{}`", export.name()),
        }
    }
}

impl Expect {
    fn short(&self) -> String {
        match self {
            Self { handled: Some(handled), .. } => format!("handled = {handled}"),
            Self { response: Some(ExpectedResponse { status: Some(status), .. }), .. } => {
                format!("a response with status {status}")
            }
            Self { response: Some(_), .. } => "a response".into(),
            Self { declined: Some(_), .. } => "declined".into(),
            Self { delay: Some(delay), .. } => format!("delay = {delay}"),
            Self { key: Some(key), .. } => format!("key = {key:?}"),
            Self { fault: Some(fault), detail: Some(detail), .. } => {
                format!("the fault `{}`: …{detail}…", fault.name())
            }
            Self { fault: Some(fault), .. } => format!("the fault `{}`", fault.name()),
            _ => "nothing".into(),
        }
    }

    pub(super) fn differences(&self, answer: &CaseAnswer) -> Vec<Difference> {
        let is_same = match (self, answer) {
            (Self { response: Some(expected), .. }, CaseAnswer::Response(found)) => {
                return expected.differences(found);
            }
            (Self { handled, .. }, CaseAnswer::Handled(found)) => *handled == Some(*found),
            (Self { declined, .. }, CaseAnswer::Declined) => *declined == Some(true),
            (Self { delay, .. }, CaseAnswer::Delay(found)) => *delay == Some(*found),
            (Self { key, .. }, CaseAnswer::Key(found)) => key.as_ref() == Some(found),
            (
                Self { fault: Some(expected), detail, .. },
                CaseAnswer::Fault { fault, detail: found },
            ) => expected == fault && detail.as_ref().is_none_or(|detail| found.contains(detail)),
            _ => false,
        };
        if is_same {
            Vec::new()
        } else {
            vec![Difference::new("answer", self.short(), answer.short())]
        }
    }
}

impl ExpectedResponse {
    fn differences(&self, found: &Response) -> Vec<Difference> {
        let mut differences = Vec::new();
        let status = found.status.as_u16();
        if let Some(expected) = self.status.filter(|expected| *expected != status) {
            differences.push(Difference::new("status", expected.to_string(), status.to_string()));
        }
        let headers = found.headers.to_map();
        for (name, values) in &self.headers {
            let expected: Vec<_> = values.iter().map(str::to_owned).collect();
            let values: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            let found: Vec<_> =
                values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
            if expected != found {
                let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
                differences.push(Difference::new(
                    format!("header `{name}`"),
                    expected.join(", "),
                    found,
                ));
            }
        }
        let body = text_of(found);
        if let Some(expected) = self.body.as_ref().filter(|expected| **expected != body) {
            differences.push(Difference::new("body", expected.clone(), body.clone()));
        }
        for part in self.contains.iter().filter(|part| !body.contains(*part)) {
            differences.push(Difference::new(
                "body",
                format!("one that contains `{part}`"),
                body.clone(),
            ));
        }
        differences
    }
}
