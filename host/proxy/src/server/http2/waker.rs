//! What wakes a connection.
//!
//! Streams wake their connection when they hand something over, and it wakes them when something
//! has come, mostly within its own turn: then there is another round of the same turn, not another
//! turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Wakes a task but within its turn, when it only notes that there is more to be done.
#[derive(Debug)]
pub(super) struct SessionWaker {
    task: Waker,
    is_in_turn: AtomicBool,
    is_due: AtomicBool,
}

impl SessionWaker {
    /// For this task.
    pub(super) fn new(task: &Waker) -> Arc<Self> {
        let (is_in_turn, is_due) = Default::default();
        Arc::new(Self { task: task.clone(), is_in_turn, is_due })
    }

    /// From now on until the turn's end it does not wake the task.
    pub(super) fn begin_turn(&self) {
        self.is_in_turn.store(true, Ordering::SeqCst);
    }

    /// More is to be done.
    pub(super) fn set_due(&self) {
        self.is_due.store(true, Ordering::SeqCst);
    }

    /// Whether more is to be done.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::SeqCst)
    }

    /// The same, and it is done now.
    pub(super) fn take_due(&self) -> bool {
        self.is_due() && self.is_due.swap(false, Ordering::SeqCst)
    }

    /// Wakes the task if there is more to be done.
    pub(super) fn end_turn(&self) {
        self.is_in_turn.store(false, Ordering::SeqCst);
        if self.take_due() {
            self.task.wake_by_ref();
        }
    }
}

impl Wake for SessionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Others wake from their threads, such as who leaves a waiting line that all workers share:
        // either the turn that ends meanwhile sees the note, or this sees its end.
        self.is_due.store(true, Ordering::SeqCst);
        if !self.is_in_turn.load(Ordering::SeqCst) {
            self.task.wake_by_ref();
        }
    }
}
