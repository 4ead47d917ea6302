//! Asking a component what the cases ask, and holding its answers against what they expect.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use fusebox_resilience::{
    Attempt, AttemptOutcome, Call, Error, Exchange, Failure as FailureKind, Fault, Outcome,
    PastAttempt, Provenance, Request as ClientRequest, RequestBody, Response, ResponseBody, Slot,
    Worker,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use similar::TextDiff;
use tokio::time::Instant;

use super::{Case, Expect, ExpectedResponse, Headers, kind};
use crate::attempt;
use crate::component::Version;
use crate::fault::Failure;
use crate::instances::Instance;

/// The names that a guest sees where a case says nothing.
const ROUTE: &str = "/";
const POLICY: &str = "policy";
const AUTHORITY: &str = "localhost";

/// How much of a value a line shows.
const SHOWN: usize = 200;

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line of its file that it begins on.
    pub line: usize,
    /// In what the answer differs from what was expected; nothing: it is as expected.
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

/// A part of an answer that is not as expected.
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

    /// Line by line, if it has several.
    pub fn lines(&self) -> Option<String> {
        if !self.expected.contains('\n') && !self.found.contains('\n') {
            return None;
        }
        let diff = TextDiff::from_lines(&self.expected, &self.found);
        let mut text = String::new();
        for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
            for change in hunk.iter_changes() {
                text.push_str(&format!(
                    "{} {}",
                    change.tag(),
                    change.value().trim_end_matches('\n')
                ));
                text.push('\n');
            }
        }
        Some(text)
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

/// Asks all of them, each call within `limit` or the component's own timeout if that is longer.
///
/// # Errors
/// An instance does not start, or a case can't be asked.
pub(crate) fn run_all(
    version: &Arc<Version>,
    cases: &[Case],
    limit: Duration,
) -> Result<Vec<CaseReport>> {
    let limit = limit.max(version.config().timeout.0);
    let mut kept = None;
    let ask = |case: &Case| {
        let place = || format!("`{}`", case.name);
        let other = case
            .settings
            .as_ref()
            .map(|settings| version.with_settings(settings))
            .transpose()?
            .map(Arc::new);
        let started = match (other.as_ref(), kept.take()) {
            (Some(other), instance) => {
                kept = instance;
                Instance::start(other, limit)
            }
            (None, Some(instance)) => Ok(instance),
            (None, None) => Instance::start(version, limit),
        };
        let (answer, printed) = match started {
            Ok(mut instance) => {
                match Asked::of(case).with_context(place)?.ask_in_time(&mut instance, limit) {
                    Ok(answer) => {
                        let printed = instance.printed();
                        if other.is_none() {
                            kept = Some(instance).filter(Instance::is_reusable);
                        }
                        (answer, printed)
                    }
                    Err(failure) => Answer::of(failure),
                }
            }
            Err(failure) => Answer::of(failure),
        };
        let differences = case.expect.differences(&answer);
        Ok(CaseReport { name: case.name.clone(), line: case.line, differences, printed })
    };
    cases.iter().map(ask).collect()
}

// ===== asking =====

/// A case as a policy would see it.
pub(crate) struct Asked {
    call: Call,
    outcome: Outcome,
    policy: String,
    slot: Slot,
    remaining: Option<Duration>,
}

impl Asked {
    /// # Errors
    /// The case holds what no request or response can.
    pub(crate) fn of(case: &Case) -> Result<Self> {
        let outcome = outcome(case)?;
        let past = case.history.iter().zip(1..).map(|(past, number)| PastAttempt {
            provenance: Provenance { attempt: number, ..Provenance::default() },
            outcome: match (past.status, past.failure) {
                (Some(status), _) => AttemptOutcome::Response(status),
                (None, Some(failure)) => {
                    kind(failure, None).map_or(AttemptOutcome::Cancelled, AttemptOutcome::Failure)
                }
                (None, None) => AttemptOutcome::Cancelled,
            },
            elapsed: past.elapsed.map_or(Duration::ZERO, |elapsed| elapsed.0),
        });
        let history: Vec<_> = past.collect();
        let made = u32::try_from(history.len()).unwrap_or(u32::MAX);
        let is_rejection = outcome.as_ref().err().is_some_and(|error| error.kind().is_rejection());
        let attempt = case.attempt.unwrap_or(if is_rejection { 0 } else { made + 1 });
        let route = case.route.as_deref().unwrap_or(ROUTE);
        let begun = attempt.saturating_sub(1).max(made.min(attempt));
        let id = HeaderValue::from_static("case");
        let request = ClientRequest::new(id, route.into(), head(case)?, SystemTime::UNIX_EPOCH)
            .arrived(case.elapsed.map_or(Duration::ZERO, |elapsed| elapsed.0));
        let call = Call::new(request, RequestBody::empty(), Worker::unobserved().into())
            .resumed(begun, history);
        let outcome = if attempt == 0 { outcome } else { Attempt::detached(&call).finish(outcome) };
        let slot = match (case.asked, &case.expect) {
            (Some(asked), _) => asked,
            (None, Expect { handled: Some(_), .. }) => Slot::HandleIf,
            (None, Expect { response: Some(_), .. } | Expect { declined: Some(_), .. }) => {
                Slot::Respond
            }
            (None, _) => Slot::HandleIf,
        };
        let policy = case.policy.clone().unwrap_or_else(|| POLICY.into());
        Ok(Self {
            call,
            outcome,
            policy,
            slot,
            remaining: case.remaining.map(|remaining| remaining.0),
        })
    }

    /// # Errors
    /// The guest came to nothing; its instance must not be used again.
    pub(crate) fn ask(&self, instance: &mut Instance, limit: Duration) -> Result<Answer, Failure> {
        // A case of a fault may be about a component that only responds.
        let slot =
            if instance.version().exports().has_predicate() { self.slot } else { Slot::Respond };
        let deadline = self.remaining.and_then(|remaining| Instant::now().checked_add(remaining));
        let seen = Exchange::of(&self.call, &self.outcome, &self.policy, slot).until(deadline);
        ask(instance, &seen, limit)
    }

    /// The same; but whoever was slow is asked once more, now that everything has been done once,
    /// and has its own timeout then.
    fn ask_in_time(&self, instance: &mut Instance, patience: Duration) -> Result<Answer, Failure> {
        let timeout = instance.version().config().timeout.0;
        let began = Instant::now();
        let answer = self.ask(instance, patience)?;
        if began.elapsed() > timeout { self.ask(instance, timeout) } else { Ok(answer) }
    }
}

/// Asks an instance what the slot of `seen` asks for.
///
/// # Errors
/// The guest came to nothing; its instance must not be used again.
pub(crate) fn ask(
    instance: &mut Instance,
    seen: &Exchange<'_>,
    limit: Duration,
) -> Result<Answer, Failure> {
    let outcome = attempt::outcome(seen);
    let exports = instance.version().exports();
    match seen.slot {
        Slot::Respond if !exports.has_fallback() => return Ok(Answer::Missing("fallback")),
        Slot::Respond => {}
        _ if !exports.has_predicate() => return Ok(Answer::Missing("predicate")),
        _ => {}
    }
    attempt::lend(seen, || {
        if seen.slot != Slot::Respond {
            let asked = instance.call_within(limit, |guest, store| {
                guest.predicate().call_handle_if(store, outcome)
            });
            return asked.map(Answer::Handled);
        }
        let answer = instance.call_within(limit, |guest, store| {
            let answer = guest.fallback().call_respond(&mut *store, outcome)?;
            Ok(answer
                .map(|answer| attempt::into_response(answer, store.data().console()))
                .transpose()?)
        })?;
        Ok(answer.map_or(Answer::Declined, |answer| Answer::Response(answer.into())))
    })
}

fn outcome(case: &Case) -> Result<Outcome> {
    if let Some(response) = &case.response {
        let status = StatusCode::from_u16(response.status).context("response.status")?;
        let body = match (&response.body, &response.body_bytes) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(bytes)) => {
                bytes.chars().map(|character| u8::try_from(character).unwrap_or(b'?')).collect()
            }
            (None, None) => Vec::new(),
        };
        return Ok(Ok(Response::new(
            status,
            headers(&response.headers)?,
            ResponseBody::full(body),
        )));
    }
    let failure = case.failure.unwrap_or(FailureKind::Other);
    let kind = kind(failure, case.failure_detail.as_deref()).context("no such failure")?;
    Ok(Err(if failure == FailureKind::RetriesExceeded {
        Error::retries_exceeded(0, None)
    } else {
        Error::new(kind)
    }))
}

fn head(case: &Case) -> Result<http::request::Parts> {
    let request = &case.request;
    ensure!(
        request.path.starts_with('/'),
        "request.path: expected one that begins with `/`, found `{}`",
        request.path
    );
    let mut uri = http::Uri::builder().path_and_query(request.path.as_str());
    let authority = request.authority.as_deref().unwrap_or(AUTHORITY);
    if let Some(scheme) = &request.scheme {
        uri = uri.scheme(scheme.as_str()).authority(authority);
    }
    let method = request.method.as_str();
    let built = http::Request::builder()
        .method(method)
        .uri(uri.build().context("request")?)
        .body(())
        .context("request")?;
    let (mut head, ()) = built.into_parts();
    head.headers = headers(&request.headers)?;
    if !head.headers.contains_key(header::HOST) {
        head.headers.insert(header::HOST, authority.try_into().context("request.authority")?);
    }
    Ok(head)
}

fn headers(named: &Headers) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in named {
        let place = || format!("header `{name}`");
        for value in values.iter() {
            let name = HeaderName::try_from(name).with_context(place)?;
            let value = attempt::header_value(value);
            let value = value.with_context(|| {
                format!("{}: a value with a character that no header may have", place())
            })?;
            headers.try_append(name, value).context("more headers than a message may have")?;
        }
    }
    Ok(headers)
}

// ===== comparing =====

/// What a component said.
#[derive(Debug)]
pub(crate) enum Answer {
    Handled(bool),
    Response(Box<Response>),
    Declined,
    Fault {
        fault: Fault,
        detail: String,
    },
    /// It does not export what was asked.
    Missing(&'static str),
}

impl Answer {
    /// And what was printed.
    fn of(failure: Failure) -> (Self, Vec<String>) {
        (Self::Fault { fault: failure.fault, detail: failure.detail }, failure.printed)
    }

    fn short(&self) -> String {
        match self {
            Self::Handled(handled) => format!("handled = {handled}"),
            Self::Response(response) => {
                format!("a response with status {}", response.status.as_u16())
            }
            Self::Declined => "declined".into(),
            Self::Fault { fault, detail } => format!("the fault `{}`: {detail}", fault.name()),
            Self::Missing(export) => format!("no export `fusebox:policy/{export}@0.1.0`"),
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
            Self { fault: Some(fault), detail: Some(detail), .. } => {
                format!("the fault `{}`: …{detail}…", fault.name())
            }
            Self { fault: Some(fault), .. } => format!("the fault `{}`", fault.name()),
            _ => "nothing".into(),
        }
    }

    fn differences(&self, answer: &Answer) -> Vec<Difference> {
        let is_same = match (self, answer) {
            (Self { response: Some(expected), .. }, Answer::Response(found)) => {
                return expected.differences(found);
            }
            (Self { handled, .. }, Answer::Handled(found)) => *handled == Some(*found),
            (Self { declined, .. }, Answer::Declined) => *declined == Some(true),
            (
                Self { fault: Some(expected), detail, .. },
                Answer::Fault { fault, detail: found },
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
        for (name, values) in &self.headers {
            let expected: Vec<_> = values.iter().map(str::to_owned).collect();
            let values: Vec<_> =
                found.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
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

/// The body that a component made, which is all there.
pub(crate) fn text_of(response: &Response) -> String {
    String::from_utf8_lossy(&response.body.peeked(usize::MAX, 0, usize::MAX)).into_owned()
}
