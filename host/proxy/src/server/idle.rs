//! The connections of a worker that wait for a request, the one that has waited longest first.
//!
//! All have the same limit, so the order of their ends is that of their beginnings: one timer does
//! for all of them, and a connection that begins or ends a wait is moved in constant time.
//!
//! Once the worker drains, another limit counts, from then on at the earliest: a request may be on
//! its way to a connection that was to be kept, and whoever sends one must not find it closed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fusebox_resilience::{ConnectionLimit, clock};
use slab::Slab;
use tokio::time::{Instant, sleep_until};

use super::load::WorkerLoad;

/// How long a connection may be idle whoever needs its place: its client may have sent a request
/// just now, or be about to.
pub(super) const LEAST_WAIT: Duration = Duration::from_millis(100);

/// A queue of connections.
#[derive(Debug)]
pub(super) struct IdleQueue {
    list: RefCell<WaitingList>,
    /// Where others see since when the first one has waited.
    load: Arc<WorkerLoad>,
}

/// Why a wait has ended without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// It has lasted for too long.
    TooLong,
    /// Another connection needs the place.
    CrowdedOut,
    /// The worker drains.
    Drained,
}

impl WaitEnd {
    /// The limit of the listener that has ended it.
    pub(super) fn limit(self) -> Option<ConnectionLimit> {
        match self {
            Self::TooLong => Some(ConnectionLimit::IdleTimeout),
            Self::CrowdedOut => Some(ConnectionLimit::MaxConnections),
            Self::Drained => None,
        }
    }
}

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
    Over(WaitEnd),
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

    /// Takes it out, if it is in the queue. Returns what it did before.
    fn take(&mut self, index: usize, wait: Wait) -> Wait {
        let was = std::mem::replace(&mut self.connections[index].wait, wait);
        let Wait::Since { before, behind, .. } = was else { return was };
        match before {
            Some(before) => self.set_behind(before, behind),
            None => self.first = behind,
        }
        match behind {
            Some(index) => self.set_before(index, before),
            None => self.last = before,
        }
        was
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
            Wait::Busy | Wait::Over(_) => None,
        }
    }

    /// Ends the wait of the first one.
    fn end_first(&mut self, end: WaitEnd) -> bool {
        let Some(first) = self.first else { return false };
        self.take(first, Wait::Over(end));
        if let Some(waker) = &self.connections[first].waker {
            waker.wake_by_ref();
        }
        true
    }
}

impl IdleQueue {
    /// Of a worker with this load.
    pub(super) fn new(load: Arc<WorkerLoad>) -> Self {
        Self { list: RefCell::default(), load }
    }

    fn change<R>(&self, change: impl FnOnce(&mut WaitingList) -> R) -> R {
        let list = &mut *self.list.borrow_mut();
        let first = list.first;
        let changed = change(list);
        if list.first != first {
            self.load.set_idle_since(list.longest());
        }
        changed
    }

    /// Adds a connection, which does not wait yet.
    pub(super) fn join(self: &Rc<Self>) -> IdlePlace {
        let connection = WaitingConnection { wait: Wait::Busy, waker: None };
        let index = self.list.borrow_mut().connections.insert(connection);
        IdlePlace { queue: self.clone(), index }
    }

    /// Ends the waits that have lasted for `limit`, each at its time, and once the worker is
    /// `draining` those that have lasted for `grace` since then.
    pub(super) async fn expire(
        self: Rc<Self>,
        limit: Duration,
        grace: Duration,
        draining: impl Future<Output = ()>,
    ) {
        let began = Instant::now();
        tokio::select! {
            () = draining => {}
            () = self.end_waits(began, limit, WaitEnd::TooLong) => {}
        }
        self.end_waits(Instant::now(), grace.min(limit), WaitEnd::Drained).await;
    }

    /// Ends waits for ever: those that have lasted for `limit` since `from`.
    async fn end_waits(&self, from: Instant, limit: Duration, with: WaitEnd) {
        loop {
            let now = Instant::now();
            // Whoever begins to wait later ends later.
            let end = loop {
                let end = self.list.borrow().longest().unwrap_or(now).max(from) + limit;
                if end > now {
                    break end;
                }
                self.change(|list| list.end_first(with));
            };
            sleep_until(end).await;
        }
    }

    /// Ends the longest wait, since somebody needs the place. What comes of that, the load tells: a
    /// request may have come just now.
    pub(super) fn crowd_out(&self) {
        let now = Instant::now();
        let is_ending = self.change(|list| {
            let has_waited = list.longest().is_some_and(|began| now - began >= LEAST_WAIT);
            has_waited && list.end_first(WaitEnd::CrowdedOut)
        });
        if !is_ending {
            self.load.set_asked(false);
        }
    }

    fn leave(&self, index: usize) {
        if let Wait::Over(WaitEnd::CrowdedOut) = self.change(|list| list.take(index, Wait::Busy)) {
            self.load.set_asked(false);
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
    /// The connection waits for a request. `Ready`: it is to do so no longer.
    pub(super) fn poll_wait(&self, cx: &Context<'_>) -> Poll<WaitEnd> {
        self.queue.change(|list| {
            let connection = &mut list.connections[self.index];
            match connection.wait {
                Wait::Busy => {
                    match &mut connection.waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        waker => *waker = Some(cx.waker().clone()),
                    }
                    list.push(self.index);
                    Poll::Pending
                }
                Wait::Since { .. } => Poll::Pending,
                Wait::Over(end) => Poll::Ready(end),
            }
        })
    }

    /// Something has come.
    pub(super) fn end_wait(&self) {
        self.queue.leave(self.index);
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.queue.leave(self.index);
        self.queue.list.borrow_mut().connections.remove(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use proptest::prelude::*;
    use tokio::task::{JoinSet, LocalSet};
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_time() {
        LocalSet::new()
            .run_until(async {
                let queue = Rc::new(IdleQueue::new(Arc::default()));
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
                let serving = queue.clone().expire(LIMIT, GRACE, pending());
                let expire = tokio::task::spawn_local(serving);
                let mut ends = waits.join_all().await;
                ends.sort_unstable();
                assert_eq!(ends, [11, 13, 15, 23]);
                assert!(queue.list.borrow().connections.is_empty());
                expire.abort();
            })
            .await;
    }

    /// The limit is 10 s, the grace 3, and the worker drains after 20.
    #[tokio::test(start_paused = true)]
    async fn what_is_idle_while_it_drains_has_a_grace_from_when_both_have_begun() {
        LocalSet::new()
            .run_until(async {
                let queue = Rc::new(IdleQueue::new(Arc::default()));
                let start = Instant::now();
                let mut waits = JoinSet::new();
                for second in [9, 11, 19, 21, 30] {
                    let place = queue.join();
                    waits.spawn_local(async move {
                        sleep(Duration::from_secs(second)).await;
                        let end = poll_fn(|cx| place.poll_wait(cx)).await;
                        (start.elapsed().as_secs(), end)
                    });
                }
                let draining = sleep(Duration::from_secs(20));
                let expire = tokio::task::spawn_local(queue.clone().expire(LIMIT, GRACE, draining));
                let mut ends = waits.join_all().await;
                ends.sort_unstable_by_key(|(second, _)| *second);
                let drained = [23, 23, 24, 33].map(|second| (second, WaitEnd::Drained));
                assert_eq!(ends, [&[(19, WaitEnd::TooLong)], &drained[..]].concat());
                expire.abort();
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_makes_place_unless_something_has_come() {
        let load = Arc::<WorkerLoad>::default();
        let queue = Rc::new(IdleQueue::new(load.clone()));
        let cx = Context::from_waker(Waker::noop());
        let places = [queue.join(), queue.join()];
        let ask = || {
            load.set_asked(true);
            queue.crowd_out();
            load.is_asked()
        };
        assert!(!ask(), "nobody waits");
        for place in &places {
            assert!(place.poll_wait(&cx).is_pending());
            assert!(!ask(), "not for long enough");
            tokio::time::advance(LEAST_WAIT / 2).await;
        }
        assert_eq!(load.idle_since().map(|since| since.elapsed()), Some(LEAST_WAIT));
        assert!(ask());
        assert_eq!(load.idle_since().map(|since| since.elapsed()), Some(LEAST_WAIT / 2));
        places[0].end_wait();
        assert!(!load.is_asked(), "it has got a request");
        assert!(places[0].poll_wait(&cx).is_pending());
        tokio::time::advance(LEAST_WAIT / 2).await;
        assert!(ask());
        assert_eq!(places[1].poll_wait(&cx), Poll::Ready(WaitEnd::CrowdedOut));
        assert!(load.is_asked(), "it is about to go");
        drop(places);
        assert!(!load.is_asked() && load.idle_since().is_none());
    }

    proptest! {
        /// Beside a list.
        #[test]
        fn the_first_is_the_one_that_has_waited_longest(
            steps in prop::collection::vec((0..6usize, 0..3u8), 0..60),
        ) {
            let queue = Rc::new(IdleQueue::new(Arc::default()));
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
                        let ended = queue.change(|list| list.end_first(WaitEnd::TooLong));
                        prop_assert_eq!(ended, !list.is_empty());
                        if ended {
                            over.push(list.remove(0));
                        }
                    }
                }
                prop_assert_eq!(queue.load.idle_since().is_some(), !list.is_empty());
                prop_assert_eq!(queue.list.borrow().first, list.first().copied());
                prop_assert_eq!(queue.list.borrow().last, list.last().copied());
            }
        }
    }
}
