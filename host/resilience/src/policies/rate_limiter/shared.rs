//! A bucket that workers share, and the line of calls that wait for a token.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::time::{Instant, sleep};

use super::bucket::{BucketSettings, TokenBucket};
use crate::clock;
use crate::room::{Entry, Room};
use crate::sync::{Mutex, MutexGuard};

/// A bucket for many threads.
#[derive(Debug)]
pub(super) struct SharedBucket {
    /// From when time is told.
    origin: Instant,
    locked: CachePadded<Mutex<WaitedBucket>>,
    /// Those who wait. The first of them has its only place, and takes the next token.
    line: Arc<Room>,
}

#[derive(Debug)]
struct WaitedBucket {
    bucket: TokenBucket,
    /// How many wait for a token of it.
    waiting: usize,
}

/// What becomes of somebody who wants a token.
#[derive(Debug)]
pub(super) enum TokenTurn {
    /// It has one.
    Taken,
    /// It waits.
    Line(TokenWait),
    /// There is none in time; it would take so long.
    Rejected(Duration),
}

/// What a client may be told of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketStatus {
    pub(super) tokens: u32,
    pub(super) until_full: Duration,
    pub(super) waiting: usize,
}

impl SharedBucket {
    pub(super) fn new(settings: BucketSettings, now: Instant) -> Self {
        let bucket = TokenBucket::new(settings);
        Self {
            origin: now,
            locked: CachePadded::new(Mutex::new(WaitedBucket { bucket, waiting: 0 })),
            line: Arc::new(Room::new(1)),
        }
    }

    /// Takes a token, or goes to the end of the line if fewer than `max_waiting` wait, and its turn
    /// comes within `longest`.
    pub(super) fn enter(
        self: &Arc<Self>,
        longest: Duration,
        max_waiting: usize,
        now: Instant,
    ) -> TokenTurn {
        let WaitedBucket { bucket, waiting } = &mut *self.lock();
        let now = self.time(now);
        if *waiting == 0 && bucket.take(now).is_ok() {
            return TokenTurn::Taken;
        }
        let wait = bucket.wait(now, *waiting);
        if wait > longest || *waiting >= max_waiting {
            return TokenTurn::Rejected(wait);
        }
        let ahead = *waiting;
        *waiting += 1;
        // Under the lock: who comes later is further behind.
        let entry = self.line.enter(usize::MAX);
        TokenTurn::Line(TokenWait {
            bucket: self.clone(),
            entry: Some(entry),
            ahead,
            has_token: false,
        })
    }

    pub(super) fn status(&self, now: Instant) -> BucketStatus {
        let WaitedBucket { bucket, waiting } = &*self.lock();
        let now = self.time(now);
        BucketStatus {
            tokens: bucket.tokens(now),
            until_full: bucket.until_full(now),
            waiting: *waiting,
        }
    }

    fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    fn lock(&self) -> MutexGuard<'_, WaitedBucket> {
        // A bucket is never left half-changed.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in the line. Dropped, it leaves, and those behind move up.
#[derive(Debug)]
pub(super) struct TokenWait {
    bucket: Arc<SharedBucket>,
    /// `None`: it has left the line's end.
    entry: Option<Entry>,
    ahead: usize,
    has_token: bool,
}

impl TokenWait {
    /// How many waited before it when it came.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Waits for a token.
    pub(super) async fn token(mut self) {
        let first = match self.entry.take() {
            Some(Entry::Line(line)) => line.await,
            Some(Entry::Place(place)) => Some(place),
            Some(Entry::Full) | None => return,
        };
        while let Err(wait) = self.try_take() {
            sleep(wait).await;
        }
        drop(first);
    }

    fn try_take(&mut self) -> Result<(), Duration> {
        let WaitedBucket { bucket, waiting } = &mut *self.bucket.lock();
        bucket.take(self.bucket.time(clock::now()))?;
        *waiting -= 1;
        self.has_token = true;
        Ok(())
    }
}

impl Drop for TokenWait {
    fn drop(&mut self) {
        if !self.has_token {
            self.bucket.lock().waiting -= 1;
        }
    }
}
