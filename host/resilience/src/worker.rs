//! What a worker lends to the calls that it runs.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::background::{Background, NoBackground};
use crate::event::Observers;
use crate::question_turns::QuestionTurns;
use crate::random::Random;
use crate::spare_headers::SpareHeaders;
use crate::timers::Timers;

/// A worker's own observers, timers, chance and memory. Calls share one by reference count, on one
/// thread.
#[derive(Debug)]
pub struct Worker {
    observers: Observers,
    timers: Timers,
    random: Random,
    background: Box<dyn Background>,
    /// A `WayOut`, whose upstreams know of calls, as a worker must not. `None`: components ask
    /// nobody.
    way_out: Option<Rc<dyn Any>>,
    handles: Handles,
    spare_headers: SpareHeaders,
    question_turns: QuestionTurns,
    cuts_calls: Cell<bool>,
}

/// A worker's own handle of something that all workers share.
#[derive(Debug)]
pub(crate) struct WorkerHandle<T>(Arc<T>);

impl<T> Deref for WorkerHandle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A worker's own handles of what all workers share, by address. There are as many as policies.
#[derive(Default)]
struct Handles(RefCell<Vec<(usize, Rc<dyn Any>)>>);

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that tells these observers and draws from this chance.
    pub fn new(observers: Observers, random: Random) -> Self {
        Self {
            observers,
            timers: Timers::default(),
            random,
            background: Box::new(NoBackground),
            way_out: None,
            handles: Handles::default(),
            spare_headers: SpareHeaders::default(),
            question_turns: QuestionTurns::default(),
            cuts_calls: Cell::new(false),
        }
    }

    /// The same, with a place where work goes on that outlives its call.
    #[must_use]
    pub fn with_background(self, background: impl Background + 'static) -> Self {
        Self { background: Box::new(background), ..self }
    }

    /// The same, with those whom components may ask: a [`WayOut`](crate::WayOut).
    #[must_use]
    pub fn with_way_out(self, way_out: Rc<dyn Any>) -> Self {
        Self { way_out: Some(way_out), ..self }
    }

    /// The same, with this place for header maps that are used again.
    #[must_use]
    pub fn with_spare_headers(self, spare_headers: SpareHeaders) -> Self {
        Self { spare_headers, ..self }
    }

    /// A worker that nobody observes: for trying out a component.
    pub fn unobserved() -> Self {
        Self::new(Observers::default(), Random::with_seed(0))
    }

    /// Who hears of events.
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// For limits on what a call waits for.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(crate) fn way_out(&self) -> Option<&Rc<dyn Any>> {
        self.way_out.as_ref()
    }

    /// Where work goes on that outlives its call.
    pub fn background(&self) -> &dyn Background {
        &*self.background
    }

    /// A handle of the worker's own. If each stream that needs one cloned the shared `Arc`, workers
    /// would contend on its count.
    pub(crate) fn handle<T: Send + Sync + 'static>(&self, shared: &Arc<T>) -> Rc<WorkerHandle<T>> {
        let handles = &mut *self.handles.0.borrow_mut();
        // What has a handle lives on, so nothing else gets its address.
        let address = Arc::as_ptr(shared) as usize;
        let known = handles.iter().find(|(of, _)| *of == address).map(|(_, known)| known.clone());
        known.and_then(|known| known.downcast().ok()).unwrap_or_else(|| {
            let handle = Rc::new(WorkerHandle(shared.clone()));
            handles.push((address, handle.clone()));
            handle
        })
    }

    /// Whose turn it is to ask a component.
    pub fn question_turns(&self) -> &QuestionTurns {
        &self.question_turns
    }

    /// Header maps that are used again.
    pub(crate) fn spare_headers(&self) -> &SpareHeaders {
        &self.spare_headers
    }

    /// From now on it drops calls that have not ended, for no reason of theirs: it is to end.
    pub fn cut_calls(&self) {
        self.cuts_calls.set(true);
    }

    /// Whether it does.
    pub fn cuts_calls(&self) -> bool {
        self.cuts_calls.get()
    }

    /// For delays that are drawn.
    pub fn random(&self) -> &Random {
        &self.random
    }
}
