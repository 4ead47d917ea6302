//! What happens to the calls of a route, but seldom: what happens to all of them is in
//! `requests.rs`.

use std::sync::Arc;

use fusebox_resilience::{AttemptEvent, CallEvent, ConnectionEvent, RequestFlaw};
use prometheus_client::metrics::counter::Counter;

use super::family::{Counters, Families, Label, Labels, of};
use crate::observe::no_route::NO_ROUTE;
use crate::reply::Unread;

/// Why a call is refused for which there is no place.
const IN_FLIGHT: &str = "in-flight";

#[derive(Debug)]
pub(super) struct RouteCounters {
    incomplete: Counters<2>,
    sent_again: Counters<1>,
    bodies_not_kept: Counters<1>,
    deadlines_exceeded: Counters<1>,
    deadlines_ignored: Counters<1>,
    refused: Counters<2>,
    forwarded_replaced: Counters<1>,
}

impl RouteCounters {
    /// The series of requests that reach no route are there from the start.
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        let counters = Self {
            incomplete: new.counters(
                "responses_incomplete",
                "Responses that broke off after their head was sent",
            ),
            sent_again: new.counters(
                "attempts_sent_again",
                "Attempts that went once more because their kept connection had died",
            ),
            bodies_not_kept: new.counters(
                "request_bodies_not_kept",
                "Requests that had one attempt because the memory for bodies was full",
            ),
            deadlines_exceeded: new
                .counters("deadlines_exceeded", "Calls whose deadline passed before an answer"),
            deadlines_ignored: new.counters(
                "deadlines_ignored",
                "Requests that said of their deadline what is not valid",
            ),
            refused: new.counters("requests_refused", "Requests whose head was refused"),
            forwarded_replaced: new.counters(
                "forwarded_headers_replaced",
                "Connections of clients that said where they come from and are not trusted",
            ),
        };
        counters.unread(ConnectionEvent::STREAM_REFUSED);
        for unread in Unread::all() {
            counters.unread(unread.name());
        }
        counters
    }

    /// Makes the series of a route appear, at 0.
    pub(super) fn announce(&self, route: &Arc<str>) {
        for flaw in RequestFlaw::ALL {
            self.refused(route.into(), flaw.name());
        }
        self.refused(route.into(), IN_FLIGHT);
        let by_route = [
            &self.bodies_not_kept,
            &self.deadlines_exceeded,
            &self.deadlines_ignored,
            &self.sent_again,
            &self.forwarded_replaced,
        ];
        for counters in by_route {
            of(counters, labels(route.into()));
        }
    }

    /// The counter of an event, which exists from then on; `None` if it is counted otherwise.
    pub(super) fn call(&self, event: &CallEvent, route: Label) -> Option<Counter> {
        Some(match event {
            CallEvent::ResponseIncomplete { kind } => {
                of(&self.incomplete, [("route", route), ("failure", kind.failure().name().into())])
            }
            CallEvent::Refused { flaw } => self.refused(route, flaw.name()),
            CallEvent::TurnedAway { .. } => self.refused(route, IN_FLIGHT),
            CallEvent::BodyNotKept => of(&self.bodies_not_kept, labels(route)),
            CallEvent::DeadlineExceeded { .. } => of(&self.deadlines_exceeded, labels(route)),
            CallEvent::DeadlineIgnored { .. } => of(&self.deadlines_ignored, labels(route)),
            CallEvent::ForwardedReplaced { .. } => of(&self.forwarded_replaced, labels(route)),
            // By policy, a detail, and what happens to every request.
            CallEvent::Rejected { .. } | CallEvent::Started | CallEvent::Finished { .. } => {
                return None;
            }
        })
    }

    /// The same for an attempt.
    pub(super) fn attempt(&self, event: &AttemptEvent, route: Label) -> Option<Counter> {
        match event {
            AttemptEvent::SentAgain { .. } => Some(of(&self.sent_again, labels(route))),
            // Details, and what happens to every request.
            _ => None,
        }
    }

    /// Requests whose head can't be used, and which so have no route.
    pub(super) fn unread(&self, reason: &'static str) -> Counter {
        self.refused(NO_ROUTE.into(), reason)
    }

    fn refused(&self, route: Label, reason: &'static str) -> Counter {
        of(&self.refused, [("route", route), ("reason", reason.into())])
    }
}

fn labels(route: Label) -> Labels<1> {
    [("route", route)]
}
