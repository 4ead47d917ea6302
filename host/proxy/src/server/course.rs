//! The course of a worker: it serves, it drains, it ends. Its connections learn of it without a
//! lock, for they look at it with every turn.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::sync::watch;

/// How far the shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections stay.
    Serving,
    /// Each connection ends with the request that it is at.
    Draining,
    /// All connections end now.
    Ended,
}

/// Where one worker is, and the tasks of its connections.
#[derive(Debug)]
pub(super) struct Course {
    phase: Cell<Phase>,
    tasks: RefCell<BTreeMap<u64, Waker>>,
    joined: Cell<u64>,
}

impl Default for Course {
    fn default() -> Self {
        Self { phase: Cell::new(Phase::Serving), tasks: RefCell::default(), joined: Cell::new(0) }
    }
}

impl Course {
    /// Does as the server says, as long as there is one.
    pub(super) async fn follow(self: Rc<Self>, mut server: watch::Receiver<Phase>) {
        while server.changed().await.is_ok() {
            self.enter(*server.borrow_and_update());
        }
        self.enter(Phase::Ended);
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.tasks.borrow().values().for_each(Waker::wake_by_ref);
    }

    /// Another connection.
    pub(super) fn join(self: &Rc<Self>) -> Participant {
        self.joined.set(self.joined.get() + 1);
        Participant {
            course: self.clone(),
            number: self.joined.get(),
            is_known: false,
            told: Phase::Serving,
        }
    }
}

/// A connection of the worker.
#[derive(Debug)]
pub(super) struct Participant {
    course: Rc<Course>,
    number: u64,
    /// Whether its task is.
    is_known: bool,
    told: Phase,
}

impl Participant {
    /// The phase, if it is another than the last time. The task, which must be the same each time,
    /// is woken by the next.
    pub(super) fn poll_change(&mut self, cx: &Context<'_>) -> Option<Phase> {
        if !self.is_known {
            self.is_known = true;
            self.course.tasks.borrow_mut().insert(self.number, cx.waker().clone());
        }
        let phase = self.course.phase.get();
        (std::mem::replace(&mut self.told, phase) != phase).then_some(phase)
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.course.tasks.borrow_mut().remove(&self.number);
    }
}
