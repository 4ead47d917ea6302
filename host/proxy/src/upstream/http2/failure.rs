//! What ends an exchange in place of a response, and whether it may be sent again.

use fusebox_resilience::{Call, Error, ErrorKind, SentAgainCause};
use h2::Reason;

use super::connection::SharedConnection;
use super::end::StreamEnd;

/// Why there is no response.
#[derive(Debug)]
pub(in crate::upstream) enum Lost {
    /// The upstream says that it has done nothing: whatever it was, it may be sent again.
    NotProcessed(Error),
    /// The connection has ended: what is safe to repeat may be sent again.
    Died(Error),
    /// Neither.
    Failed(Error),
}

impl Lost {
    /// What this error before the response's head means. `has_begun`: some of an answer had come.
    pub(super) fn new(error: h2::Error, connection: &SharedConnection, has_begun: bool) -> Self {
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        if error.is_remote() && (error.is_go_away() || is_refused) {
            let error = Error::new(ErrorKind::ConnectionRefused).with_source(StreamEnd::of(&error));
            return Self::NotProcessed(error);
        }
        let has_died = error.is_io() && !has_begun;
        let error = broken(error, connection);
        if has_died { Self::Died(error) } else { Self::Failed(error) }
    }

    /// Why it may be sent again, if it may. `is_kept`: its connection had answered others before.
    pub(in crate::upstream) fn goes_again(
        &self,
        is_kept: bool,
        call: &Call,
    ) -> Option<SentAgainCause> {
        let cause = match self {
            Self::NotProcessed(_) => SentAgainCause::NotProcessed,
            Self::Died(_) if is_kept && call.request().is_idempotent() => SentAgainCause::Died,
            Self::Died(_) | Self::Failed(_) => return None,
        };
        call.body().can_repeat().then_some(cause)
    }
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotProcessed(error) | Lost::Died(error) | Lost::Failed(error) => error,
        }
    }
}

/// What breaks a response off, or takes its place.
pub(super) fn broken(error: h2::Error, connection: &SharedConnection) -> Error {
    let kind = match error.reason() {
        None => ErrorKind::ConnectionTerminated,
        Some(_) if error.is_library() => ErrorKind::ProtocolError,
        Some(reason) => kind(reason),
    };
    // A stream that its connection has taken along does not know why.
    let ended = connection.end().filter(|_| error.is_io()).unwrap_or_else(|| StreamEnd::of(&error));
    Error::new(kind).with_source(ended)
}

/// What a stream that the upstream ended for this reason counts as.
fn kind(reason: Reason) -> ErrorKind {
    match reason {
        // It ended it, for reasons of its own.
        Reason::NO_ERROR
        | Reason::INTERNAL_ERROR
        | Reason::REFUSED_STREAM
        | Reason::CANCEL
        | Reason::CONNECT_ERROR
        | Reason::ENHANCE_YOUR_CALM => ErrorKind::ConnectionTerminated,
        // One of both does not understand the other.
        _ => ErrorKind::ProtocolError,
    }
}
