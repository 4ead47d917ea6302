//! Whose turn it is to fill a seat: one content at a time, and the newest overtakes the others.
//!
//! Content that comes while other content is compiled or tried out ends that, and so takes its turn
//! within moments. Of those that wait only the newest is left. Content that is under way already is
//! not tried a second time: who brings it again gets the same result.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::reload::Reload;
use crate::overtaken::Overtaken;

/// The turns of one seat.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<TurnQueue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnQueue {
    /// The content whose turn it is.
    under_way: Option<Arc<Candidate>>,
    /// The content that came last: the one under way, or the one that waits for it to end.
    newest: Option<Arc<Candidate>>,
}

/// Content that wants the seat.
#[derive(Debug)]
pub(super) struct Candidate {
    digest: Arc<str>,
    overtaken: Overtaken,
    result: OnceLock<Reload>,
}

/// The place that content gets.
#[derive(Debug)]
pub(super) enum QueuePlace {
    /// It is the newest, and overtakes what is under way.
    Newest(Arc<Candidate>),
    /// The same content is under way, or waits.
    Same(Arc<Candidate>),
    /// It is no news, and other content is under way.
    Behind(Arc<Candidate>),
}

impl Turns {
    /// Finds the place of this content. Does not wait.
    pub(super) fn enter(&self, digest: &Arc<str>, is_news: bool) -> QueuePlace {
        let mut queue = self.queue();
        match &queue.newest {
            Some(newest) if newest.digest == *digest => return QueuePlace::Same(newest.clone()),
            Some(newest) if !is_news => return QueuePlace::Behind(newest.clone()),
            _ => {}
        }
        let candidate = Arc::new(Candidate {
            digest: digest.clone(),
            overtaken: Overtaken::default(),
            result: OnceLock::new(),
        });
        if let Some(older) = queue.newest.replace(candidate.clone()) {
            older.overtaken.set();
        }
        drop(queue);
        self.changed.notify_all();
        QueuePlace::Newest(candidate)
    }

    /// Waits for the turn of this content; `None` if it is overtaken before.
    pub(super) fn turn(&self, candidate: Arc<Candidate>) -> Option<SeatTurn<'_>> {
        let mut queue = self.queue();
        while queue.under_way.is_some() && !candidate.overtaken.is_set() {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if candidate.overtaken.is_set() {
            candidate.result.set(Reload::Overtaken).ok();
            drop(queue);
            self.changed.notify_all();
            return None;
        }
        queue.under_way = Some(candidate.clone());
        Some(SeatTurn { turns: self, candidate })
    }

    /// Whether no content is under way or waits.
    pub(super) fn are_idle(&self) -> bool {
        self.queue().newest.is_none()
    }

    /// Waits for what becomes of this content.
    pub(super) fn result(&self, candidate: &Candidate) -> Reload {
        let mut queue = self.queue();
        loop {
            if let Some(result) = candidate.result.get() {
                return result.clone();
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Held for a few lines at a time, none of which panics.
    fn queue(&self) -> MutexGuard<'_, TurnQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of some content, until it is dropped.
#[derive(Debug)]
pub(super) struct SeatTurn<'a> {
    turns: &'a Turns,
    candidate: Arc<Candidate>,
}

impl SeatTurn<'_> {
    pub(super) fn overtaken(&self) -> &Overtaken {
        &self.candidate.overtaken
    }

    /// Ends the turn, with this result for all who brought the content.
    pub(super) fn ends(self, result: Reload) -> Reload {
        self.candidate.result.set(result.clone()).ok();
        result
    }
}

impl Drop for SeatTurn<'_> {
    fn drop(&mut self) {
        // After a panic those who wait for the result try for themselves.
        self.candidate.result.set(Reload::Overtaken).ok();
        let mut queue = self.turns.queue();
        queue.under_way = None;
        queue.newest.take_if(|newest| Arc::ptr_eq(newest, &self.candidate));
        drop(queue);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn newest(turns: &Turns, digest: &str) -> Arc<Candidate> {
        match turns.enter(&digest.into(), true) {
            QueuePlace::Newest(candidate) => candidate,
            place => panic!("{place:?}"),
        }
    }

    #[test]
    fn the_newest_overtakes_what_is_under_way_and_what_waits() {
        let turns = Turns::default();
        let first = turns.turn(newest(&turns, "1")).expect("nobody is there");
        let second = newest(&turns, "2");
        assert!(first.overtaken().is_set(), "before its turn is over");
        thread::scope(|scope| {
            let second = scope.spawn(|| turns.turn(second).is_some());
            let third = newest(&turns, "3");
            assert!(!second.join().expect("no panic"), "it need not wait for the first");
            let third = scope.spawn(|| {
                let turn = turns.turn(third).expect("it is the newest");
                assert!(!turn.overtaken().is_set());
                turn.ends(Reload::Unchanged)
            });
            drop(first);
            assert_eq!(third.join().expect("no panic"), Reload::Unchanged);
        });
        assert!(turns.turn(newest(&turns, "3")).is_some(), "afterwards it may be tried again");
    }

    #[test]
    fn the_same_content_is_tried_once_for_all_who_bring_it() {
        let turns = Turns::default();
        let turn = turns.turn(newest(&turns, "1")).expect("nobody is there");
        let QueuePlace::Same(under_way) = turns.enter(&"1".into(), true) else { panic!("it is") };
        assert!(!turn.overtaken().is_set());
        thread::scope(|scope| {
            let waits = scope.spawn(|| turns.result(&under_way));
            turn.ends(Reload::Rejected("so".into()));
            assert_eq!(waits.join().expect("no panic"), Reload::Rejected("so".into()));
        });
    }

    #[test]
    fn what_is_taken_is_not_overtaken_any_more() {
        let turns = Turns::default();
        let turn = turns.turn(newest(&turns, "1")).expect("nobody is there");
        assert!(turn.overtaken().take(), "it goes into use, and its guests must not end");
        let other = newest(&turns, "2");
        assert!(!turn.overtaken().is_set());
        drop(turn);
        let turn = turns.turn(other).expect("it is the newest");
        newest(&turns, "3");
        assert!(turn.overtaken().is_set() && !turn.overtaken().take());
    }

    #[test]
    fn what_is_no_news_overtakes_nothing() {
        let turns = Turns::default();
        let turn = turns.turn(newest(&turns, "1")).expect("nobody is there");
        let QueuePlace::Behind(under_way) = turns.enter(&"0".into(), false) else {
            panic!("it is old")
        };
        assert!(!turn.overtaken().is_set());
        drop(turn);
        assert_eq!(turns.result(&under_way), Reload::Overtaken);
        assert!(matches!(turns.enter(&"0".into(), false), QueuePlace::Newest(_)));
    }
}
