//! Interim responses (1xx, such as 103 Early Hints) on their way from an upstream to a client.
//!
//! An attempt finds them in the middle of a call, and has no other way to its client than the
//! outcome that it returns at its end. They take a side door: what comes while a connection polls
//! its call, on the same thread, is the connection's. So nothing is passed through policies, and
//! attempts that nobody waits for have nobody to tell.

use std::cell::RefCell;

use http::{HeaderMap, StatusCode};

use crate::headers;

/// How many come in a poll; further ones are dropped.
const MOST: usize = 16;

thread_local! {
    /// What has come while a call is polled. `None`: none is.
    static CAME: RefCell<Option<Vec<InterimHead>>> = const { RefCell::new(None) };
}

/// The head of an interim response.
#[derive(Debug)]
pub(crate) struct InterimHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// Does `work`. Returns what has come meanwhile, too.
pub(crate) fn collect<R>(work: impl FnOnce() -> R) -> (R, Vec<InterimHead>) {
    CAME.set(Some(Vec::new()));
    let done = work();
    (done, CAME.take().unwrap_or_default())
}

/// One has come from an upstream. A 100 ends here: a client that wants to know has been told so by
/// ourselves.
pub(crate) fn came(status: StatusCode, mut headers: HeaderMap) {
    if status == StatusCode::CONTINUE {
        return;
    }
    headers::strip_hop_by_hop(&mut headers);
    CAME.with_borrow_mut(|came| {
        if let Some(came) = came.as_mut().filter(|came| came.len() < MOST) {
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
        let ((), heads) = collect(|| {
            came(StatusCode::CONTINUE, HeaderMap::new());
            (0..2).for_each(|_| hint());
        });
        assert_eq!(heads.len(), 2);
        hint();
        assert!(collect(|| ()).1.is_empty());
        assert_eq!(collect(|| (0..100).for_each(|_| hint())).1.len(), MOST);
    }
}
