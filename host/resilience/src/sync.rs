//! What threads share state with: the standard library's, and in this crate's unit tests loom's,
//! which tries every order in which threads can get there. loom's works within `loom::model` only.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(not(test))]
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

#[cfg(test)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(test)]
pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
}

/// What models of several threads are made of.
#[cfg(test)]
pub(crate) mod models {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use loom::sync::Notify;

    /// Three threads can meet in too many orders to try all: those with up to two switches that no
    /// thread asks for.
    pub(crate) fn model(of: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(of);
    }

    /// Wakes a thread.
    struct Thread(Notify);

    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }

    /// Runs a future on this thread. One that nobody wakes is found by the model.
    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let thread = Arc::new(Thread(Notify::new()));
        let waker = Waker::from(thread.clone());
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread.0.wait(),
            }
        }
    }
}
