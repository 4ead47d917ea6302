//! Interim responses (1xx, such as 103 Early Hints) on their way from an upstream to a client.
//!
//! An attempt finds them in the middle of a call, and has no other way to its client than the
//! outcome that it returns at its end. They take a side door: what comes while a connection polls
//! its call, on the same thread, is the connection's. So nothing is passed through policies, and
//! attempts that nobody waits for have nobody to tell.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;

use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};

use crate::headers;

/// How many come in a poll; further ones are dropped.
const MOST: usize = 16;

thread_local! {
    /// Each poll of a call looks at this, and at nothing else if nothing has come.
    static COLLECTING: Cell<Collecting> = const { Cell::new(Collecting::Nobody) };
    static CAME: RefCell<Vec<InterimHead>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Collecting {
    /// No call is polled.
    Nobody,
    /// Nothing has come yet.
    Nothing,
    Something,
}

/// The head of an interim response.
#[derive(Debug)]
pub(crate) struct InterimHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// What comes from here on is collected, until [`collected`].
///
/// A function that does the work in between would move what comes of it once more.
#[inline]
pub(crate) fn collect() {
    COLLECTING.set(Collecting::Nothing);
}

/// What has come since [`collect`].
#[inline]
pub(crate) fn collected() -> Vec<InterimHead> {
    match COLLECTING.replace(Collecting::Nobody) {
        Collecting::Something => CAME.take(),
        Collecting::Nothing | Collecting::Nobody => Vec::new(),
    }
}

/// What comes of `future` goes to nobody: it is not what the call that is polled asks for its
/// client.
pub(crate) async fn to_nobody<F: Future + Unpin>(mut future: F) -> F::Output {
    poll_fn(|cx| {
        let collecting = COLLECTING.replace(Collecting::Nobody);
        let polled = future.poll_unpin(cx);
        COLLECTING.set(collecting);
        polled
    })
    .await
}

/// One has come from an upstream. A 100 ends here: a client that wants to know has been told so by
/// ourselves.
pub(crate) fn came(status: StatusCode, mut headers: HeaderMap) {
    if status == StatusCode::CONTINUE || COLLECTING.get() == Collecting::Nobody {
        return;
    }
    headers::strip_hop_by_hop(&mut headers);
    CAME.with_borrow_mut(|came| {
        // What a poll that has panicked has left is nobody's.
        if COLLECTING.replace(Collecting::Something) == Collecting::Nothing {
            came.clear();
        }
        if came.len() < MOST {
            came.push(InterimHead { status, headers });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_nobody_collects_goes_to_nobody() {
        let hint = || came(StatusCode::EARLY_HINTS, HeaderMap::new());
        hint();
        collect();
        came(StatusCode::CONTINUE, HeaderMap::new());
        (0..2).for_each(|_| hint());
        // It was never asked for.
        collect();
        (0..2).for_each(|_| hint());
        assert_eq!(collected().len(), 2);
        hint();
        assert!(collected().is_empty());
        collect();
        assert!(collected().is_empty());
        collect();
        (0..100).for_each(|_| hint());
        assert_eq!(collected().len(), MOST);
    }
}
