//! What the streams of a connection share.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use fusebox_http1::RequestFault;
use fusebox_resilience::{ConnectionLimit, Http2Fault, clock};
use http::Version;
use tokio::time::Instant;

use super::link::LinkWatch;
use crate::headers::Hop;
use crate::reply::Unread;
use crate::server::pace::Pace;
use crate::server::shared::Shared;

/// How much a client may send on a stream before somebody reads it,
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;

/// and on all streams of a connection.
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// So many times streams are polled in a turn: a connection with many of them must not delay its
/// neighbours.
const POLLS: u32 = 8;

/// The bodies that can take up all room that a connection has for what nobody has read.
const FULL: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;

/// What the streams of a connection share.
pub(super) struct Session {
    shared: Rc<Shared>,
    hop: Hop,
    link: Rc<LinkWatch>,
    polls: Cell<u32>,
    /// The bodies of which something may have come that nobody has read.
    ahead: Cell<usize>,
    /// When they last did so.
    was_full: Cell<Option<Instant>>,
    has_left: Cell<bool>,
}

impl Session {
    pub(super) fn new(shared: Rc<Shared>, mut hop: Hop) -> Self {
        hop.set_version(Version::HTTP_2);
        Self {
            shared,
            hop,
            link: Rc::new(LinkWatch::new()),
            polls: Cell::new(0),
            ahead: Cell::new(0),
            was_full: Cell::new(None),
            has_left: Cell::new(false),
        }
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The client has closed the connection, and so left whatever is on it.
    pub(super) fn set_left(&self) {
        self.has_left.set(true);
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.get()
    }

    pub(super) fn hop(&self) -> &Hop {
        &self.hop
    }

    pub(super) fn link(&self) -> &Rc<LinkWatch> {
        &self.link
    }

    /// A client's pace within a message.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.shared.limits.body_timeout.0, self.shared.limits.min_rate.0)
    }

    pub(super) fn begin_turn(&self) {
        self.polls.set(POLLS);
        self.link.begin_turn();
    }

    /// Whether streams may be polled in this turn.
    pub(super) fn has_polls(&self) -> bool {
        self.polls.get() > 0
    }

    /// Whether a stream may be polled in this turn. If not, it will be in the next.
    pub(super) fn take_poll(&self, cx: &Context<'_>) -> bool {
        match self.polls.get().checked_sub(1) {
            Some(left) => {
                self.polls.set(left);
                true
            }
            None => {
                cx.waker().wake_by_ref();
                false
            }
        }
    }

    /// Of a body something may have come that nobody has read, or no longer.
    pub(super) fn set_ahead(&self, was: bool, is: bool) {
        let before = self.ahead.get();
        let now = before + usize::from(is) - usize::from(was);
        self.ahead.set(now);
        if before >= FULL && now < FULL {
            self.was_full.set(Some(clock::now()));
        }
    }

    /// Until when a client that sent nothing may have waited for room.
    pub(super) fn full_until(&self) -> Option<Instant> {
        if self.ahead.get() >= FULL { Some(clock::now()) } else { self.was_full.get() }
    }

    /// How long a head may take.
    pub(super) fn head_limit(&self) -> Duration {
        let limits = &self.shared.limits;
        let of_head = limits.header_timeout;
        limits.request_timeout.map_or(of_head, |limit| limit.min(of_head)).0
    }

    // ----- what is told -----

    /// A limit ends the connection.
    pub(super) fn end_connection(&self, limit: ConnectionLimit) {
        self.shared.handler.end_connection(limit, &self.hop);
    }

    /// A limit ends a stream.
    pub(super) fn end_stream(&self, limit: ConnectionLimit) {
        self.shared.handler.end_stream(limit, &self.hop);
    }

    /// A request was answered that its head is too long before anybody saw it.
    pub(super) fn refuse_head(&self) {
        self.shared.handler.refused(Unread::Malformed(RequestFault::TooLarge), &self.hop);
    }

    /// The stream of a request was reset before anybody saw it.
    pub(super) fn refuse_stream(&self) {
        self.shared.handler.refuse_stream(&self.hop);
    }

    /// The client has done something for which the connection ends.
    pub(super) fn fail(&self, fault: Http2Fault) {
        self.shared.handler.fail_http2(fault, &self.hop);
    }
}
