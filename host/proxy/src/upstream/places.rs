//! How many connections a worker makes to an endpoint, and who waits for one.
//!
//! Each connection has a place as long as it is open, used or not. A worker has its share of an
//! endpoint's places, at least one, so nobody waits for another worker: whoever waits has
//! connections of its own worker before it, which come free, or end and give their places on. If
//! all workers took from the same places, those that one keeps unused would keep another waiting,
//! and under a full load connections would be closed on one worker to be made on the next.
//!
//! The first in the line is handed the place of a connection that ends, or may look where something
//! has come free: an unused connection, or a stream. Meanwhile others don't look. Who looks in vain
//! keeps its place in the line, and what was handed to one who has left meanwhile goes on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use fusebox_resilience::Error;
use tokio::time::{Instant, timeout_at};

use super::limits::{EndpointLimits, full, most_waiting};
use super::line::{LineNumber, WaitingLine};

/// The places for a worker's connections to an endpoint.
pub(super) struct UpstreamPlaces {
    most: usize,
    taken: Cell<usize>,
    line: RefCell<WaitingLine<LineTurn>>,
    /// Those in it; most requests ask for no more.
    in_line: Cell<usize>,
    limits: Arc<EndpointLimits>,
}

/// What somebody in the line is handed.
enum LineTurn {
    /// Something has come free.
    Look,
    /// A connection has ended.
    Make(UpstreamPlace),
}

/// How somebody goes on who has waited.
pub(super) enum Waited<K> {
    /// By what has come free.
    Kept(K),
    /// By making a connection.
    Make(UpstreamPlace),
}

impl UpstreamPlaces {
    pub(super) fn new(most: usize, limits: Arc<EndpointLimits>) -> Rc<Self> {
        let (taken, line, in_line) = (Cell::new(0), RefCell::default(), Cell::new(0));
        Rc::new(Self { most, taken, line, in_line, limits })
    }

    /// A place, if one is free. None is while somebody waits.
    pub(super) fn take(self: &Rc<Self>) -> Option<UpstreamPlace> {
        self.has_free().then(|| {
            self.taken.set(self.taken.get() + 1);
            self.limits.opened();
            UpstreamPlace(self.clone())
        })
    }

    /// Whether a place is free.
    pub(super) fn has_free(&self) -> bool {
        self.taken.get() < self.most
    }

    /// Whether somebody waits, or is about to look: what is free is not for others.
    pub(super) fn has_line(&self) -> bool {
        self.in_line.get() > 0
    }

    /// Waits in the line, until `end` at most, for a place or what `look` finds. `has_more`: the
    /// next one may find something, too.
    ///
    /// # Errors
    /// There is nothing by then, or too many wait.
    pub(super) async fn wait<K>(
        self: &Rc<Self>,
        end: Instant,
        look: impl Fn() -> Option<K>,
        has_more: impl Fn() -> bool,
    ) -> Result<Waited<K>, Error> {
        if self.in_line.get() >= most_waiting(self.most) {
            return Err(full("too many wait for a connection"));
        }
        let number = self.line.borrow_mut().join();
        self.in_line.set(self.in_line.get() + 1);
        self.limits.joined();
        let waiting = InConnectionLine { places: self, number };
        let way = poll_fn(|cx| waiting.poll(cx.waker(), &look, &has_more));
        timeout_at(end, way).await.map_err(|_| full("no connection came free in time"))
    }

    /// Something has come free, for which the first in the line may look.
    pub(super) fn look(&self) {
        if self.has_line() {
            self.hand(None, LineTurn::Look);
        }
    }

    /// Hands this to the first in the line after this one. If nobody waits it is dropped.
    fn hand(&self, after: Option<LineNumber>, turn: LineTurn) {
        let handed = self.line.borrow_mut().hand(after, turn);
        match handed {
            Ok(waker) => waker.wake(),
            // Its place is free by this.
            Err(turn) => drop(turn),
        }
    }
}

impl fmt::Debug for UpstreamPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamPlaces").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// The place of a connection, until it is dropped. Then it is the first one's in the line.
pub(super) struct UpstreamPlace(Rc<UpstreamPlaces>);

impl UpstreamPlace {
    /// Those that it is one of.
    pub(super) fn places(&self) -> &UpstreamPlaces {
        &self.0
    }
}

impl Drop for UpstreamPlace {
    fn drop(&mut self) {
        let places = &self.0;
        if places.line.borrow().waiting() > 0 {
            places.hand(None, LineTurn::Make(Self(places.clone())));
        } else {
            places.taken.set(places.taken.get() - 1);
            places.limits.closed();
        }
    }
}

/// Somebody in the line, until it is dropped.
struct InConnectionLine<'a> {
    places: &'a UpstreamPlaces,
    number: LineNumber,
}

impl InConnectionLine<'_> {
    fn poll<K>(
        &self,
        waker: &Waker,
        look: &impl Fn() -> Option<K>,
        has_more: &impl Fn() -> bool,
    ) -> Poll<Waited<K>> {
        let Self { places, number } = self;
        loop {
            let turn = places.line.borrow_mut().collect(*number, waker);
            match turn {
                None => return Poll::Pending,
                Some(LineTurn::Make(place)) => return Poll::Ready(Waited::Make(place)),
                Some(LineTurn::Look) => {}
            }
            // It is the first still: what it finds may have ended, and its place is free then.
            places.line.borrow_mut().rejoin(*number, waker);
            let found = look();
            if has_more() {
                places.hand(Some(*number), LineTurn::Look);
            }
            if let Some(kept) = found {
                return Poll::Ready(Waited::Kept(kept));
            }
        }
    }
}

impl Drop for InConnectionLine<'_> {
    fn drop(&mut self) {
        let Self { places, number } = self;
        let turn = places.line.borrow_mut().leave(*number);
        places.in_line.set(places.in_line.get() - 1);
        places.limits.left();
        match turn {
            // The next one may find it.
            Some(LineTurn::Look) => places.look(),
            // It goes on to the next one by this.
            Some(LineTurn::Make(place)) => drop(place),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;
    use std::time::Duration;

    use fusebox_resilience::ErrorKind;

    use super::*;

    fn places(most: usize) -> Rc<UpstreamPlaces> {
        UpstreamPlaces::new(most, Arc::default())
    }

    /// Waits for a second, for what there is a count of.
    fn wait<'a>(
        places: &'a Rc<UpstreamPlaces>,
        there: &'a Cell<usize>,
    ) -> impl Future<Output = Result<Waited<()>, Error>> + 'a {
        let look = || {
            let left = there.get().checked_sub(1)?;
            there.set(left);
            Some(())
        };
        let end = Instant::now() + Duration::from_secs(1);
        places.wait(end, look, || there.get() > 0)
    }

    fn is_waiting(future: std::pin::Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_in_the_line_gets_what_comes_free() {
        let (places, there) = (places(1), Cell::new(0));
        let place = places.take().unwrap();
        assert!(places.take().is_none() && !places.has_line());
        let mut first = pin!(wait(&places, &there));
        let mut second = pin!(wait(&places, &there));
        assert!(is_waiting(first.as_mut()) && is_waiting(second.as_mut()));
        places.look();
        assert!(is_waiting(first.as_mut()), "it looks in vain, and is the first still");
        there.set(1);
        places.look();
        assert!(is_waiting(second.as_mut()));
        assert!(matches!(first.await, Ok(Waited::Kept(()))));
        drop(place);
        assert!(places.take().is_none(), "nobody overtakes the line");
        let Ok(Waited::Make(place)) = second.await else { panic!("a place is free") };
        assert!(!places.has_line());
        drop(place);
        assert!(places.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_the_next_ones() {
        let (places, there) = (places(1), Cell::new(0));
        let _place = places.take().unwrap();
        let mut all: Vec<_> = (0..3).map(|_| Box::pin(wait(&places, &there))).collect();
        assert!(all.iter_mut().all(|one| is_waiting(one.as_mut())));
        there.set(2);
        places.look();
        let waiting: Vec<_> = all.iter_mut().map(|one| is_waiting(one.as_mut())).collect();
        assert_eq!((waiting, there.get()), (vec![false, false, true], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_was_handed_who_leaves_goes_on_to_the_next() {
        for is_place in [true, false] {
            let (places, there) = (places(1), Cell::new(0));
            let place = places.take().unwrap();
            let mut leaves = Box::pin(wait(&places, &there));
            let mut stays = pin!(wait(&places, &there));
            assert!(is_waiting(leaves.as_mut()) && is_waiting(stays.as_mut()));
            if is_place {
                drop(place);
            } else {
                there.set(1);
                places.look();
            }
            drop(leaves);
            let is_made = matches!(stays.await, Ok(Waited::Make(_)));
            assert_eq!((is_made, places.taken.get() == 0), (is_place, is_place));
            assert!(!places.has_line());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_waits_for_too_long_is_turned_away() {
        let (places, there) = (places(1), Cell::new(0));
        let _place = places.take().unwrap();
        let begun = Instant::now();
        let error = wait(&places, &there).await.err().unwrap();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::BulkheadFull, 1));
        assert!(!places.has_line());
    }
}
