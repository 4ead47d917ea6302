//! A room with places, and a line in front of it, for all workers.
//!
//! Whoever finds a free place takes it; others wait in the order of their arrival. Leaving the line
//! costs those behind nothing: a place that was handed to somebody who has just left goes on to the
//! next in the same turn. All of it is in a [`RoomQueue`] behind one lock, which is held for a line
//! at a time; wakers are called outside of it, and may wake a task on another worker.

mod queue;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use crate::sync::{Mutex, MutexGuard};
use queue::{RoomQueue, Ticket};

/// Places that calls take, and a line of those that wait for one.
pub(crate) struct Room(CachePadded<Mutex<RoomQueue<Waker>>>);

/// What becomes of somebody who wants a place.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has one.
    Place(Place),
    /// It waits in the line.
    Line(InLine),
    /// The line is full.
    Full,
}

impl Room {
    pub(crate) fn new(places: usize) -> Self {
        Self(CachePadded::new(Mutex::new(RoomQueue::new(places))))
    }

    /// Takes a place, or goes to the end of the line if fewer than `max_waiting` wait.
    pub(crate) fn enter(self: &Arc<Self>, max_waiting: usize) -> Entry {
        let mut queue = self.lock();
        if queue.try_take() {
            return Entry::Place(Place { room: self.clone(), among: queue.taken() });
        }
        if queue.waiting() >= max_waiting {
            return Entry::Full;
        }
        let ahead = queue.waiting();
        // Until it is polled, nobody is there to be woken.
        let ticket = queue.join(Waker::noop().clone());
        Entry::Line(InLine { room: self.clone(), ticket: Some(ticket), ahead })
    }

    /// Places that there are.
    pub(crate) fn places(&self) -> usize {
        self.lock().places()
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().taken()
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
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
pub(crate) struct Place {
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
pub(crate) struct InLine {
    room: Arc<Room>,
    /// None: it has its place.
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
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        let ticket = self.ticket.expect("it is not polled after its end");
        let mut queue = self.room.lock();
        if !queue.collect(ticket, cx.waker()) {
            return Poll::Pending;
        }
        let among = queue.taken();
        drop(queue);
        self.ticket = None;
        Poll::Ready(Place { room: self.room.clone(), among })
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
