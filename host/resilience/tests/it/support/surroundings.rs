//! What policies find around them: fake components and budgets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fusebox_resilience::{Budget, Exchange, Parts, Peek, Predicate, Responder, Response, Verdict};

use crate::support::time::ms;

/// What policies find around them.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    predicates: BTreeMap<&'static str, Arc<Fake>>,
    responders: BTreeMap<&'static str, Arc<Answer>>,
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
    seen: Mutex<Vec<String>>,
}

impl Fake {
    pub(crate) fn new(answer: fn(&Exchange<'_>) -> bool) -> Arc<Self> {
        Arc::new(Self { answer, peek: None, seen: Mutex::default() })
    }

    pub(crate) fn peeking(
        bytes: usize,
        timeout: u64,
        answer: fn(&Exchange<'_>) -> bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            answer,
            peek: Some(Peek { bytes, timeout: ms(timeout) }),
            seen: Mutex::default(),
        })
    }

    /// One line for each question, such as `503 "busy" of attempt 1, 60 ms left`; `…` stands for
    /// what was not shown.
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
                format!(
                    "{} {:?}{whole}",
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
