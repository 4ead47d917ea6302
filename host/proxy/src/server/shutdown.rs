//! The shutdown of a worker in phases. Connections learn the phase without a lock: they look at it
//! each time they are polled.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::sync::watch;

/// The phases of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShutdownPhase {
    /// Connections stay open.
    Serving,
    /// Each connection ends after its current request.
    Draining,
    /// All connections end now.
    Ended,
}

/// The phase of a worker, and the tasks of its connections.
#[derive(Debug)]
pub(super) struct Shutdown {
    phase: Cell<ShutdownPhase>,
    tasks: RefCell<BTreeMap<u64, Waker>>,
    joined: Cell<u64>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            phase: Cell::new(ShutdownPhase::Serving),
            tasks: RefCell::default(),
            joined: Cell::new(0),
        }
    }
}

impl Shutdown {
    /// Follows the server's phase. Without a server, the phase is `Ended`.
    pub(super) async fn follow(self: Rc<Self>, mut server: watch::Receiver<ShutdownPhase>) {
        while server.changed().await.is_ok() {
            self.enter(*server.borrow_and_update());
        }
        self.enter(ShutdownPhase::Ended);
    }

    fn enter(&self, phase: ShutdownPhase) {
        self.phase.set(phase);
        self.tasks.borrow().values().for_each(Waker::wake_by_ref);
    }

    /// Whether connections are to end after their current requests.
    pub(super) fn is_draining(&self) -> bool {
        self.phase.get() != ShutdownPhase::Serving
    }

    /// Adds a connection.
    pub(super) fn join(self: &Rc<Self>) -> ShutdownWatch {
        self.joined.set(self.joined.get() + 1);
        ShutdownWatch {
            shutdown: self.clone(),
            number: self.joined.get(),
            is_known: false,
            told: ShutdownPhase::Serving,
        }
    }
}

/// The shutdown as one connection sees it.
#[derive(Debug)]
pub(super) struct ShutdownWatch {
    shutdown: Rc<Shutdown>,
    number: u64,
    /// Whether its task is registered.
    is_known: bool,
    told: ShutdownPhase,
}

impl ShutdownWatch {
    /// The phase, if it has changed since the last call. The next change wakes the task, which must
    /// be the same in each call.
    pub(super) fn poll_change(&mut self, cx: &Context<'_>) -> Option<ShutdownPhase> {
        if !self.is_known {
            self.is_known = true;
            self.shutdown.tasks.borrow_mut().insert(self.number, cx.waker().clone());
        }
        let phase = self.shutdown.phase.get();
        (std::mem::replace(&mut self.told, phase) != phase).then_some(phase)
    }
}

impl Drop for ShutdownWatch {
    fn drop(&mut self) {
        self.shutdown.tasks.borrow_mut().remove(&self.number);
    }
}
