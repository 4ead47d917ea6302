//! How long a connection's client may take, for what concerns all of its streams.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use fusebox_resilience::{ConnectionLimit, clock};
use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::session::Session;
use crate::server::limit_timer::LimitTimer;
use crate::server::pace::Pace;

/// After how long a silent client with requests is asked whether it is still there,
const PING_AFTER: Duration = Duration::from_secs(20);

/// and how long it may take to answer.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// The limits of a connection, and where it is within them.
pub(super) struct ClientLimits {
    session: Rc<Session>,
    timer: LimitTimer,
    /// The nearest end of what is looked at in this turn.
    next: Option<Instant>,
    /// Since when a head is under way, and how many there were before.
    head: Option<(u64, Instant)>,
    sending: Pace,
    written: u64,
    pings: Option<PingPong>,
    /// When something came last, and how much in all.
    heard: (Instant, u64),
    /// When a ping was sent that is not answered.
    pinged: Option<Instant>,
}

impl ClientLimits {
    pub(super) fn new(session: Rc<Session>, pings: Option<PingPong>) -> Self {
        Self {
            timer: LimitTimer::default(),
            next: None,
            head: None,
            sending: session.pace(),
            written: 0,
            pings,
            heard: (clock::now(), 0),
            pinged: None,
            session,
        }
    }

    /// Begins to look for the nearest end.
    pub(super) fn begin(&mut self) {
        self.next = None;
    }

    /// Whether this end is reached; otherwise it is among those waited for.
    pub(super) fn is_over(&mut self, end: Instant) -> bool {
        if clock::now() >= end {
            return true;
        }
        self.next = Some(self.next.map_or(end, |next| next.min(end)));
        false
    }

    /// Waits for the nearest end.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>) {
        if let Some(next) = self.next
            && self.timer.poll(next, cx).is_ready()
        {
            // The next turn has a later time.
            cx.waker().wake_by_ref();
        }
    }

    /// Whether the client takes too little of what is written.
    pub(super) fn poll_writing(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionLimit> {
        let link = self.session.link();
        let more = link.written() - self.written;
        self.written += more;
        if more > 0 || !link.is_blocked() {
            self.sending.moved(more);
        }
        if link.is_blocked() { self.sending.poll_wait(cx) } else { Poll::Pending }
    }

    /// Whether a head is under way, and for too long.
    pub(super) fn is_slow_with_head(&mut self) -> bool {
        let Some(before) = self.session.link().within_head() else {
            self.head = None;
            return false;
        };
        let since = match self.head {
            Some((known, since)) if known == before => since,
            _ => clock::now(),
        };
        self.head = Some((before, since));
        self.is_over(since + self.session.head_limit())
    }

    /// Whether a head is under way.
    pub(super) fn is_in_head(&self) -> bool {
        self.head.is_some()
    }

    /// Whether a client that has requests may be gone: it is silent, and does not answer a ping.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let heard = self.session.link().received();
        if heard != self.heard.1 {
            self.heard = (clock::now(), heard);
            self.pinged = None;
        }
        // One that takes nothing does not see a ping. There is another limit for that.
        if self.session.link().is_blocked() {
            return false;
        }
        if let Some(pinged) = self.pinged {
            return self.is_over(pinged + PONG_WITHIN);
        }
        if !self.is_over(self.heard.0 + PING_AFTER) {
            return false;
        }
        if let Some(pings) = &mut self.pings {
            // The answer to an earlier one makes room for this one.
            drop(pings.poll_pong(cx));
            pings.send_ping(Ping::opaque()).ok();
        }
        let now = clock::now();
        self.pinged = Some(now);
        self.is_over(now + PONG_WITHIN)
    }
}
