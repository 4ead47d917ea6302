//! The connections of a worker that wait for a request, the one that has waited longest first.
//!
//! All have the same limit, so the order of their ends is that of their beginnings: one timer does
//! for all of them, and a connection that begins or ends a wait is moved in constant time.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fusebox_resilience::clock;
use slab::Slab;
use tokio::time::{Instant, sleep_until};

/// A queue of connections.
#[derive(Debug, Default)]
pub(super) struct IdleQueue(RefCell<WaitingList>);

#[derive(Debug, Default)]
struct WaitingList {
    connections: Slab<WaitingConnection>,
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug)]
struct WaitingConnection {
    wait: Wait,
    /// Its task, known since its first wait.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    /// It does not wait.
    Busy,
    Since {
        began: Instant,
        before: Option<usize>,
        behind: Option<usize>,
    },
    /// It has waited for too long.
    Over,
}

impl WaitingList {
    fn push(&mut self, index: usize) {
        let before = self.last.replace(index);
        match before {
            Some(before) => self.set_behind(before, Some(index)),
            None => self.first = Some(index),
        }
        self.connections[index].wait = Wait::Since { began: clock::now(), before, behind: None };
    }

    /// Takes it out, if it is in the queue.
    fn take(&mut self, index: usize, wait: Wait) {
        let before = std::mem::replace(&mut self.connections[index].wait, wait);
        let Wait::Since { before, behind, .. } = before else { return };
        match before {
            Some(before) => self.set_behind(before, behind),
            None => self.first = behind,
        }
        match behind {
            Some(index) => self.set_before(index, before),
            None => self.last = before,
        }
    }

    fn set_behind(&mut self, index: usize, new: Option<usize>) {
        if let Wait::Since { behind, .. } = &mut self.connections[index].wait {
            *behind = new;
        }
    }

    fn set_before(&mut self, index: usize, new: Option<usize>) {
        if let Wait::Since { before, .. } = &mut self.connections[index].wait {
            *before = new;
        }
    }

    /// Since when the first one has waited.
    fn longest(&self) -> Option<Instant> {
        match self.connections[self.first?].wait {
            Wait::Since { began, .. } => Some(began),
            Wait::Busy | Wait::Over => None,
        }
    }

    /// Ends the wait of the first one.
    fn end_first(&mut self) -> bool {
        let Some(first) = self.first else { return false };
        self.take(first, Wait::Over);
        if let Some(waker) = &self.connections[first].waker {
            waker.wake_by_ref();
        }
        true
    }
}

impl IdleQueue {
    /// Adds a connection, which does not wait yet.
    pub(super) fn join(self: &Rc<Self>) -> IdlePlace {
        let connection = WaitingConnection { wait: Wait::Busy, waker: None };
        let index = self.0.borrow_mut().connections.insert(connection);
        IdlePlace { queue: self.clone(), index }
    }

    /// Ends the waits that have lasted for `limit`, each at its time.
    pub(super) async fn expire(self: Rc<Self>, limit: Duration) {
        loop {
            let now = Instant::now();
            let end = loop {
                let queue = &mut *self.0.borrow_mut();
                // Whoever begins to wait later ends later.
                let end = queue.longest().unwrap_or(now) + limit;
                if end > now {
                    break end;
                }
                queue.end_first();
            };
            sleep_until(end).await;
        }
    }
}

/// A connection's place in the queue.
#[derive(Debug)]
pub(super) struct IdlePlace {
    queue: Rc<IdleQueue>,
    index: usize,
}

impl IdlePlace {
    /// The connection waits for a request. `Ready`: it has done so for too long.
    pub(super) fn poll_wait(&self, cx: &Context<'_>) -> Poll<()> {
        let queue = &mut *self.queue.0.borrow_mut();
        let connection = &mut queue.connections[self.index];
        match connection.wait {
            Wait::Busy => {
                match &mut connection.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    waker => *waker = Some(cx.waker().clone()),
                }
                queue.push(self.index);
                Poll::Pending
            }
            Wait::Since { .. } => Poll::Pending,
            Wait::Over => Poll::Ready(()),
        }
    }

    /// Something has come.
    pub(super) fn end_wait(&self) {
        self.queue.0.borrow_mut().take(self.index, Wait::Busy);
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        let queue = &mut *self.queue.0.borrow_mut();
        queue.take(self.index, Wait::Busy);
        queue.connections.remove(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::task::{JoinSet, LocalSet};
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_time() {
        LocalSet::new()
            .run_until(async {
                let queue = Rc::<IdleQueue>::default();
                let start = Instant::now();
                let mut waits = JoinSet::new();
                for (second, again) in [(1, None), (3, Some(2)), (3, None), (4, Some(9))] {
                    let place = queue.join();
                    waits.spawn_local(async move {
                        sleep(Duration::from_secs(second)).await;
                        if let Some(seconds) = again {
                            let first = poll_fn(|cx| place.poll_wait(cx));
                            let within = Duration::from_secs(seconds);
                            assert!(tokio::time::timeout(within, first).await.is_err());
                            place.end_wait();
                        }
                        poll_fn(|cx| place.poll_wait(cx)).await;
                        start.elapsed().as_secs()
                    });
                }
                let expire = tokio::task::spawn_local(queue.clone().expire(LIMIT));
                let mut ends = waits.join_all().await;
                ends.sort_unstable();
                assert_eq!(ends, [11, 13, 15, 23]);
                assert!(queue.0.borrow().connections.is_empty());
                expire.abort();
            })
            .await;
    }

    proptest! {
        /// Beside a list.
        #[test]
        fn the_first_is_the_one_that_has_waited_longest(
            steps in prop::collection::vec((0..6usize, 0..3u8), 0..60),
        ) {
            let queue = Rc::<IdleQueue>::default();
            let places: Vec<_> = (0..6).map(|_| queue.join()).collect();
            let cx = Context::from_waker(Waker::noop());
            let mut list: Vec<usize> = Vec::new();
            let mut over: Vec<usize> = Vec::new();
            for (index, step) in steps {
                match step {
                    0 => {
                        let is_over = over.contains(&index);
                        prop_assert_eq!(places[index].poll_wait(&cx).is_ready(), is_over);
                        if !is_over && !list.contains(&index) {
                            list.push(index);
                        }
                    }
                    1 => {
                        places[index].end_wait();
                        list.retain(|other| *other != index);
                        over.retain(|other| *other != index);
                    }
                    _ => {
                        let ended = queue.0.borrow_mut().end_first();
                        prop_assert_eq!(ended, !list.is_empty());
                        if ended {
                            over.push(list.remove(0));
                        }
                    }
                }
                prop_assert_eq!(queue.0.borrow().first, list.first().copied());
                prop_assert_eq!(queue.0.borrow().last, list.last().copied());
            }
        }
    }
}
