//! What components of a condition have said of an outcome.

use smallvec::SmallVec;

use crate::event::ComponentId;
use crate::predicate::Verdict;

/// The answers of a condition's components, by their places in it.
#[derive(Debug, Default)]
pub(crate) struct ComponentAnswers {
    said: SmallVec<[Option<ComponentAnswer>; 4]>,
    /// Who said the last one.
    by: Option<ComponentId>,
}

#[derive(Clone, Copy, Debug)]
struct ComponentAnswer {
    is_handled: bool,
    /// Whether trailers had come.
    saw_trailers: bool,
}

impl ComponentAnswers {
    pub(super) fn get(&self, index: usize) -> Option<bool> {
        self.said.get(index).copied().flatten().map(|answer| answer.is_handled)
    }

    pub(super) fn put(&mut self, index: usize, verdict: &Verdict, saw_trailers: bool) {
        if self.said.len() <= index {
            self.said.resize(index + 1, None);
        }
        self.said[index] = Some(ComponentAnswer { is_handled: verdict.is_handled(), saw_trailers });
        self.by = verdict.decided_by().cloned();
    }

    /// Forgets what those have said that read trailers, and have seen none. Returns whether there
    /// are some.
    pub(super) fn forget(&mut self, reads_trailers: impl Fn(usize) -> bool) -> bool {
        let mut has_forgotten = false;
        for (index, said) in self.said.iter_mut().enumerate() {
            let is_asked_again = |answer: &mut ComponentAnswer| !answer.saw_trailers;
            if reads_trailers(index) && said.take_if(is_asked_again).is_some() {
                has_forgotten = true;
            }
        }
        has_forgotten
    }

    /// What they come to.
    pub(super) fn verdict(&self, is_handled: bool) -> Verdict {
        let by = self.by.clone();
        if is_handled { Verdict::Handled(by) } else { Verdict::Unhandled(by) }
    }
}
