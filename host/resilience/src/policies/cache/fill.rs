//! A fill: one request whose answer is for all who ask for the same meanwhile, on any worker, and
//! for those who ask later.
//!
//! It is a value behind a lock, with the wakers of those who look at it. Who fills it never waits
//! for them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::kept::{KeptHead, KeptResponse};
use super::key::CacheKey;
use crate::error::{Behind, Error, ErrorKind};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A piece of a body that is copied for one reader at a time.
const PIECE: usize = 64 * 1024;

/// A fill, as all who know of it share it.
#[derive(Debug, Default)]
pub(super) struct Fill {
    state: Mutex<FillState>,
    /// What it is of has been changed or purged since it began: it is not kept.
    is_outdated: AtomicBool,
}

#[derive(Debug, Default)]
struct FillState {
    phase: FillPhase,
    waiting: BTreeMap<u64, Waker>,
    looked: u64,
}

/// How far it is.
#[derive(Debug, Default)]
enum FillPhase {
    /// There is no head yet.
    #[default]
    Asking,
    /// There is a head, and some of the body.
    Arriving { head: Arc<KeptHead>, bytes: Vec<u8>, length: Option<usize> },
    /// All of it is there. `is_validated`: it was kept, and is still valid.
    Whole { response: Arc<KeptResponse>, is_validated: bool },
    /// It failed, and a kept response stands for it.
    Stale(Arc<KeptResponse>),
    /// It failed.
    Failed(SharedFailure),
    /// Its answer is not for others.
    Unshared,
    /// It has ended without an answer: somebody else may fill it.
    Abandoned,
    /// The body is longer than what is kept. Its first reader gets the rest from elsewhere.
    Outgrown(Bytes),
    /// The body broke off.
    Broken { bytes: Bytes, kind: ErrorKind },
}

/// A failure as others get it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedFailure {
    kind: ErrorKind,
    retry_after: Option<Duration>,
    behind: Option<Behind>,
}

impl SharedFailure {
    pub(super) fn of(error: &Error) -> Self {
        Self { kind: error.kind(), retry_after: error.retry_after(), behind: error.behind() }
    }

    /// The same failure for somebody who has made no attempt.
    pub(super) fn error(self) -> Error {
        Error::new(self.kind)
            .with_retry_after(self.retry_after)
            .with_behind(self.behind)
            .with_source("the same request of another client failed so")
    }
}

/// What others get of a fill.
#[derive(Debug)]
pub(super) enum SharedAnswer {
    /// Its head, and its body as it comes.
    Arriving(Arc<KeptHead>, usize),
    /// The whole response. `is_validated`: it was kept, and is still valid.
    Whole { response: Arc<KeptResponse>, is_validated: bool },
    /// A kept response that stands for its failure.
    Stale(Arc<KeptResponse>),
    /// Its failure.
    Failed(SharedFailure),
    /// Nothing: each asks by itself.
    Unshared,
    /// Nothing yet: who comes first fills it.
    Abandoned,
}

/// What a reader gets of a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Some of it.
    Bytes(Bytes),
    /// All of it is here.
    Whole(Arc<KeptResponse>),
    /// The rest is elsewhere.
    Elsewhere,
    /// It broke off.
    Broken(ErrorKind),
}

/// The place of one who looks at a fill: its waker is kept once.
#[derive(Debug)]
pub(super) struct Looker {
    fill: Arc<Fill>,
    number: u64,
}

impl Fill {
    fn state(&self) -> MutexGuard<'_, FillState> {
        // What is under the lock is whole whenever it is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on, and wakes all who look.
    fn enter(&self, change: impl FnOnce(&mut FillPhase)) {
        let waiting = {
            let mut state = self.state();
            change(&mut state.phase);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// The head is there, and it is for others.
    pub(super) fn begin(&self, head: Arc<KeptHead>, length: Option<usize>) {
        let bytes = Vec::with_capacity(length.unwrap_or_default());
        self.enter(|phase| *phase = FillPhase::Arriving { head, bytes, length });
    }

    /// More of the body is there, of at most `most` bytes. `room` is asked for more memory before
    /// any is taken; without it nothing changes.
    pub(super) fn push(&self, data: &[u8], most: usize, room: impl FnOnce(usize) -> bool) -> bool {
        let mut is_taken = false;
        self.enter(|phase| {
            let FillPhase::Arriving { bytes, .. } = phase else { return };
            let needed = bytes.len() + data.len();
            if needed > bytes.capacity() {
                let capacity = needed.max(most.min(2 * bytes.capacity()));
                if !room(capacity - bytes.capacity()) {
                    return;
                }
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(data);
            is_taken = true;
        });
        is_taken
    }

    /// How much of the body is there.
    pub(super) fn length(&self) -> usize {
        match &self.state().phase {
            FillPhase::Arriving { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// What there is of the body, if it is still coming. Takes it away: a further step follows.
    pub(super) fn take_bytes(&self) -> Vec<u8> {
        match &mut self.state().phase {
            FillPhase::Arriving { bytes, .. } => std::mem::take(bytes),
            _ => Vec::new(),
        }
    }

    /// All of it is there.
    pub(super) fn complete(&self, response: Arc<KeptResponse>, is_validated: bool) {
        self.enter(|phase| *phase = FillPhase::Whole { response, is_validated });
    }

    /// It failed; this stands for it.
    pub(super) fn stand_in(&self, response: Arc<KeptResponse>) {
        self.enter(|phase| *phase = FillPhase::Stale(response));
    }

    /// It failed.
    pub(super) fn fail(&self, failure: SharedFailure) {
        self.enter(|phase| *phase = FillPhase::Failed(failure));
    }

    /// Its answer is not for others.
    pub(super) fn keep_apart(&self) {
        self.enter(|phase| *phase = FillPhase::Unshared);
    }

    /// It ends without an answer.
    pub(super) fn abandon(&self) {
        self.enter(|phase| *phase = FillPhase::Abandoned);
    }

    /// The body is longer than what is kept.
    pub(super) fn outgrow(&self) {
        self.enter(|phase| {
            if let FillPhase::Arriving { bytes, .. } = phase {
                *phase = FillPhase::Outgrown(std::mem::take(bytes).into());
            }
        });
    }

    /// The body broke off.
    pub(super) fn break_off(&self, kind: ErrorKind) {
        self.enter(|phase| {
            if let FillPhase::Arriving { bytes, .. } = phase {
                *phase = FillPhase::Broken { bytes: std::mem::take(bytes).into(), kind };
            }
        });
    }

    /// It is not to be kept.
    pub(super) fn outdate(&self) {
        self.is_outdated.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::SeqCst)
    }
}

impl Looker {
    pub(super) fn new(fill: &Arc<Fill>) -> Self {
        let number = {
            let mut state = fill.state();
            state.looked += 1;
            state.looked
        };
        Self { fill: fill.clone(), number }
    }

    /// What others get of it. `own_key` is the key of one's own request for what it depends on: an
    /// answer that is under another one is for other requests.
    pub(super) fn poll_shared(
        &self,
        own_key: impl Fn(&KeptHead) -> CacheKey,
        cx: &Context<'_>,
    ) -> Poll<SharedAnswer> {
        let mut state = self.fill.state();
        let for_me = |head: &Arc<KeptHead>| head.vary.is_none() || own_key(head) == head.key;
        let shared = match &state.phase {
            FillPhase::Arriving { head, .. } if !for_me(head) => SharedAnswer::Abandoned,
            FillPhase::Whole { response, .. } | FillPhase::Stale(response)
                if !for_me(&response.head) =>
            {
                SharedAnswer::Abandoned
            }
            FillPhase::Arriving { head, length: Some(length), .. } => {
                SharedAnswer::Arriving(head.clone(), *length)
            }
            FillPhase::Asking | FillPhase::Arriving { length: None, .. } => {
                state.waiting.insert(self.number, cx.waker().clone());
                return Poll::Pending;
            }
            FillPhase::Whole { response, is_validated } => {
                SharedAnswer::Whole { response: response.clone(), is_validated: *is_validated }
            }
            FillPhase::Stale(response) => SharedAnswer::Stale(response.clone()),
            &FillPhase::Failed(failure) => SharedAnswer::Failed(failure),
            &FillPhase::Broken { kind, .. } => {
                SharedAnswer::Failed(SharedFailure { kind, retry_after: None, behind: None })
            }
            FillPhase::Outgrown(_) | FillPhase::Unshared => SharedAnswer::Unshared,
            FillPhase::Abandoned => SharedAnswer::Abandoned,
        };
        Poll::Ready(shared)
    }

    /// What follows the first `from` bytes of the body.
    pub(super) fn poll_body(&self, from: usize, cx: &Context<'_>) -> Poll<Piece> {
        let mut state = self.fill.state();
        let rest = |bytes: &Bytes| (bytes.len() > from).then(|| Piece::Bytes(bytes.slice(from..)));
        let piece = match &state.phase {
            FillPhase::Arriving { bytes, .. } => match bytes.get(from..) {
                Some(rest) if !rest.is_empty() => {
                    Piece::Bytes(Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]))
                }
                _ => {
                    state.waiting.insert(self.number, cx.waker().clone());
                    return Poll::Pending;
                }
            },
            FillPhase::Whole { response, .. } => Piece::Whole(response.clone()),
            FillPhase::Outgrown(bytes) => rest(bytes).unwrap_or(Piece::Elsewhere),
            FillPhase::Broken { bytes, kind } => rest(bytes).unwrap_or(Piece::Broken(*kind)),
            // Nobody reads where there is no body.
            _ => Piece::Broken(ErrorKind::ConnectionTerminated),
        };
        Poll::Ready(piece)
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.fill.state().waiting.remove(&self.number);
    }
}
