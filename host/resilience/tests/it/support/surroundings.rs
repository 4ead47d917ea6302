//! What policies find around them: fake components and budgets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fusebox_resilience::{
    Budget, ComponentId, DelayDecision, Delayer, Exchange, KeyQuestion, Keyer, Parts, Peek,
    Predicate, Responder, Response, Verdict,
};

use crate::support::time::ms;

/// What policies find around them.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    predicates: BTreeMap<&'static str, Arc<Fake>>,
    responders: BTreeMap<&'static str, Arc<Answer>>,
    delayers: BTreeMap<&'static str, Arc<FakeDelay>>,
    keyers: BTreeMap<&'static str, Arc<FakeKey>>,
    budgets: BTreeMap<&'static str, Arc<Budget>>,
    upstreams: Vec<&'static str>,
}

impl Surroundings {
    pub(crate) fn predicate(mut self, name: &'static str, predicate: &Arc<Fake>) -> Self {
        self.predicates.insert(name, predicate.clone());
        self
    }

    pub(crate) fn responder(mut self, name: &'static str, responder: Answer) -> Self {
        self.responders.insert(name, Arc::new(responder));
        self
    }

    pub(crate) fn delayer(mut self, name: &'static str, delayer: &Arc<FakeDelay>) -> Self {
        self.delayers.insert(name, delayer.clone());
        self
    }

    pub(crate) fn keyer(mut self, name: &'static str, keyer: &Arc<FakeKey>) -> Self {
        self.keyers.insert(name, keyer.clone());
        self
    }

    pub(crate) fn upstream(mut self, name: &'static str) -> Self {
        self.upstreams.push(name);
        self
    }

    pub(crate) fn budget(mut self, name: &'static str, budget: &Arc<Budget>) -> Self {
        self.budgets.insert(name, budget.clone());
        self
    }
}

impl Parts for Surroundings {
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String> {
        let found =
            self.predicates.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String> {
        let found =
            self.responders.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn delayer(&self, component: &str) -> Result<Arc<dyn Delayer>, String> {
        let found =
            self.delayers.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn keyer(&self, component: &str) -> Result<Arc<dyn Keyer>, String> {
        let found =
            self.keyers.get(component).ok_or_else(|| format!("no component `{component}`"))?;
        Ok(found.clone())
    }

    fn upstream(&self, name: &str) -> Result<(), String> {
        if self.upstreams.contains(&name) { Ok(()) } else { Err(format!("no upstream `{name}`")) }
    }

    fn budget(&self, name: &str) -> Result<Arc<Budget>, String> {
        self.budgets.get(name).cloned().ok_or_else(|| format!("no budget `{name}`"))
    }
}

/// A component as a condition: answers by a function, and keeps what it was shown.
pub(crate) struct Fake {
    answer: fn(&Exchange<'_>) -> bool,
    peek: Option<Peek>,
    reads_trailers: AtomicBool,
    seen: Mutex<Vec<String>>,
}

impl Fake {
    pub(crate) fn new(answer: fn(&Exchange<'_>) -> bool) -> Arc<Self> {
        let reads_trailers = AtomicBool::new(false);
        Arc::new(Self { answer, peek: None, reads_trailers, seen: Mutex::default() })
    }

    /// The same as one that looks at trailers.
    pub(crate) fn reading(self: Arc<Self>) -> Arc<Self> {
        self.reads_trailers.store(true, Ordering::Relaxed);
        self
    }

    /// Another version has taken its place, which does not.
    pub(crate) fn stops_reading(&self) {
        self.reads_trailers.store(false, Ordering::Relaxed);
    }

    pub(crate) fn peeking(
        bytes: usize,
        timeout: u64,
        answer: fn(&Exchange<'_>) -> bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer,
            peek: Some(Peek { bytes, timeout: ms(timeout) }),
            reads_trailers: AtomicBool::new(false),
            seen: Mutex::default(),
        })
    }

    /// One line for each question, such as `503 "busy" of attempt 1, 60 ms left`; `…` stands for
    /// what was not shown, and `+` for trailers.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Predicate for Fake {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        let line = match seen.outcome {
            Ok(response) => {
                let bytes = self.peek.map_or(0, |peek| peek.bytes);
                let peeked = response.body.peeked(bytes, 0, bytes);
                let whole = if response.body.is_peeked_whole(bytes) { "" } else { "…" };
                let trailers = response.body.trailers().map_or("", |_| "+");
                format!(
                    "{} {:?}{whole}{trailers}",
                    response.status.as_u16(),
                    String::from_utf8_lossy(&peeked)
                )
            }
            Err(error) => error.kind().failure().name().to_owned(),
        };
        let left = seen
            .remaining()
            .map_or(String::new(), |left| format!(", {} ms left", left.as_millis()));
        let line = format!("{line} of attempt {}{left}", seen.number());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Verdict::native((self.answer)(seen))
    }

    fn peek(&self) -> Option<Peek> {
        self.peek
    }

    fn reads_trailers(&self) -> bool {
        self.reads_trailers.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("peek", &self.peek).finish_non_exhaustive()
    }
}

/// A component as a fallback.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) peek: Option<Peek>,
    pub(crate) respond: fn(&Exchange<'_>) -> Option<Response>,
}

impl Responder for Answer {
    fn respond<'a>(&'a self, seen: &'a Exchange<'a>) -> fusebox_resilience::Answer<'a> {
        fusebox_resilience::Answer::Now((self.respond)(seen))
    }

    fn peek(&self) -> Option<Peek> {
        self.peek
    }
}

/// The version of a component that decides.
pub(crate) fn version() -> ComponentId {
    ComponentId { name: "asked".into(), digest: "d".into(), generation: 1 }
}

/// A component that says how long to wait: answers by a function, and keeps what it was asked.
#[derive(Debug)]
pub(crate) struct FakeDelay {
    answer: fn(&Exchange<'_>, u32) -> DelayDecision,
    peek: Option<Peek>,
    seen: Mutex<Vec<String>>,
}

impl FakeDelay {
    pub(crate) fn new(answer: fn(&Exchange<'_>, u32) -> DelayDecision) -> Arc<Self> {
        Arc::new(Self { answer, peek: None, seen: Mutex::default() })
    }

    pub(crate) fn peeking(
        bytes: usize,
        answer: fn(&Exchange<'_>, u32) -> DelayDecision,
    ) -> Arc<Self> {
        let peek = Some(Peek { bytes, timeout: ms(1000) });
        Arc::new(Self { answer, peek, seen: Mutex::default() })
    }

    /// A line for each question: `retry 1 for 503, own 100 ms`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Delayer for FakeDelay {
    fn after(&self, seen: &Exchange<'_>, own: Duration, count: u32) -> DelayDecision {
        let outcome = match seen.outcome {
            Ok(response) => response.status.as_u16().to_string(),
            Err(error) => error.kind().failure().name().to_owned(),
        };
        let line = format!("{} {count} for {outcome}, own {} ms", seen.policy, own.as_millis());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        (self.answer)(seen, count)
    }

    fn peek(&self) -> Option<Peek> {
        self.peek
    }
}

/// A component that says whose call it is: by a function, and counts its questions.
#[derive(Debug)]
pub(crate) struct FakeKey {
    answer: fn(&KeyQuestion<'_>) -> Option<String>,
    asked: AtomicUsize,
}

impl FakeKey {
    pub(crate) fn new(answer: fn(&KeyQuestion<'_>) -> Option<String>) -> Arc<Self> {
        Arc::new(Self { answer, asked: AtomicUsize::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Keyer for FakeKey {
    fn key(&self, seen: &KeyQuestion<'_>) -> Option<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.answer)(seen)
    }
}
