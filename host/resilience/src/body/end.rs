//! How a response body ends, and who wants to know.

use crate::error::ErrorKind;

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it came.
    Whole,
    /// It broke off or stalled.
    Broken(ErrorKind),
    /// Nobody wanted the rest of it.
    Discarded,
}

impl BodyEnd {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken(_) => "broken",
            Self::Discarded => "discarded",
        }
    }
}

/// Waits for the end of a response body. Dropped without having heard of it: the call was dropped,
/// with the response on its way to the client.
pub(crate) trait OnEnd {
    /// The body has come to its end, or the client has left (`Discarded`).
    fn on_end(self: Box<Self>, end: BodyEnd);
}

/// Several, one after the other.
impl OnEnd for (Box<dyn OnEnd>, Box<dyn OnEnd>) {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        let (first, second) = *self;
        first.on_end(end);
        second.on_end(end);
    }
}
