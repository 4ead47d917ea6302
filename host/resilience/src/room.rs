//! A room with places, and a line in front of it, for all workers.
//!
//! Whoever finds a free place takes it; others wait in the order of their arrival. Leaving the line
//! costs those behind nothing: a place that was handed to somebody who has just left goes on to the
//! next in the same turn. All of it is in a `RoomQueue` behind one lock, which is held for a line
//! at a time; wakers are called outside of it, and may wake a task on another worker.

mod queue;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use crate::sync::{Mutex, MutexGuard};
use queue::{LineStanding, RoomQueue, Ticket};

/// Places that calls take, and a line of those that wait for one.
pub struct Room(CachePadded<Mutex<RoomQueue<Waker>>>);

/// What becomes of somebody who wants a place.
#[derive(Debug)]
pub enum Entry {
    /// It has one.
    Place(Place),
    /// It waits in the line.
    Line(InLine),
    /// The line is full.
    Full,
}

impl Room {
    /// An empty one with so many places.
    pub fn new(places: usize) -> Self {
        Self(CachePadded::new(Mutex::new(RoomQueue::new(places))))
    }

    /// Takes a place, or goes to the end of the line if fewer than `max_waiting` wait.
    pub fn enter(self: &Arc<Self>, max_waiting: usize) -> Entry {
        self.enter_as(0, max_waiting)
    }

    /// The same for one of this rank: in a full line the youngest of the lowest rank makes place
    /// for it, if that is a lower one.
    pub(crate) fn enter_as(self: &Arc<Self>, rank: u16, max_waiting: usize) -> Entry {
        let mut evicted = None;
        let entry = self.try_enter(rank, max_waiting, &mut evicted);
        evicted.into_iter().for_each(Waker::wake);
        entry
    }

    fn try_enter(
        self: &Arc<Self>,
        rank: u16,
        max_waiting: usize,
        evicted: &mut Option<Waker>,
    ) -> Entry {
        let mut queue = self.lock();
        if queue.try_take() {
            return Entry::Place(Place { room: self.clone(), among: queue.taken() });
        }
        if queue.waiting() >= max_waiting {
            *evicted = if max_waiting > 0 { queue.evict_below(rank) } else { None };
            if evicted.is_none() {
                return Entry::Full;
            }
        }
        let ahead = queue.waiting();
        // Until it is polled, nobody is there to be woken.
        let ticket = queue.join(rank, Waker::noop().clone());
        Entry::Line(InLine { room: self.clone(), ticket: Some(ticket), ahead })
    }

    /// Places that there are.
    pub fn places(&self) -> usize {
        self.lock().places()
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// How many wait for one.
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// There are so many places from now on. Those that are taken stay so.
    pub(crate) fn resize(&self, places: usize) -> Woken {
        Woken(self.lock().resize(places))
    }

    fn give_back(&self) {
        let woken = self.lock().give_back();
        woken.into_iter().for_each(Waker::wake);
    }

    fn leave(&self, ticket: Ticket) {
        let woken = self.lock().leave(ticket);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, RoomQueue<Waker>> {
        // A queue is never left half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

/// Those who got a place. They are woken once nothing is locked any more.
#[must_use = "they wait"]
pub(crate) struct Woken(Vec<Waker>);

impl Woken {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

/// A place in a room, until it is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    among: usize,
}

impl Place {
    /// How many places were taken when it was, with it.
    pub(crate) fn among(&self) -> usize {
        self.among
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.give_back();
    }
}

/// Waits in the line for a place. Dropped, it leaves the line.
#[derive(Debug)]
pub struct InLine {
    room: Arc<Room>,
    /// None: it has its place, or has made place for another one.
    ticket: Option<Ticket>,
    ahead: usize,
}

impl InLine {
    /// How many waited before it when it came.
    pub(crate) fn ahead(&self) -> usize {
        self.ahead
    }
}

impl Future for InLine {
    /// `None`: it has made place for another one.
    type Output = Option<Place>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Place>> {
        let ticket = self.ticket.expect("it is not polled after its end");
        let mut queue = self.room.lock();
        let standing = queue.collect(ticket, cx.waker());
        let among = queue.taken();
        drop(queue);
        if standing == LineStanding::Waits {
            return Poll::Pending;
        }
        self.ticket = None;
        let has_place = standing == LineStanding::HasPlace;
        Poll::Ready(has_place.then(|| Place { room: self.room.clone(), among }))
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.room.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests;
