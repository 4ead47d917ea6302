//! What happens to a call, to its attempts and to what is asked about them.

use fusebox_resilience::{
    AttemptEvent, AttemptOutcome, CallEvent, ConditionEvent, Event, PriorityLevel, Request, Role,
    SentAgainCause, TunnelEnd, TunnelEvent,
};

use super::say::Say;
use super::words::{Ended, failure, milliseconds};
use crate::observe::level::Level;
use crate::observe::line::Line;

pub(super) fn call(event: &Event<'_>, of: &CallEvent, say: &impl Say) {
    match of {
        CallEvent::Started => say.say(Level::Debug, "Call started", |line| {
            if let Some(request) = event.request {
                let head = request.head();
                line.text("method", head.method.as_str().as_bytes())
                    .text("path", head.uri.path().as_bytes());
            }
        }),
        CallEvent::Refused { flaw } => {
            say.say(Level::Info, format_args!("Request refused: {flaw}"), |line| {
                line.field("reason", flaw.name());
            });
        }
        // A moment after the last one: counted, and told with the next.
        CallEvent::ForwardedReplaced { connections: None }
        | CallEvent::TurnedAway { count: None } => {}
        CallEvent::ForwardedReplaced { connections: Some(connections) } => {
            let message = "Forwarded headers replaced: the client is not trusted";
            say.say(Level::Info, message, |line| {
                let client = event.request.map(Request::client_address);
                line.maybe("ip", client).field("connections", connections);
            });
        }
        CallEvent::TurnedAway { count: Some(count) } => {
            say.say(Level::Warn, "Request turned away: too many in flight", |line| {
                line.field("count", count);
            });
        }
        &CallEvent::DeadlineExceeded { limit } => {
            say.say(Level::Info, "Deadline exceeded", |line| {
                line.field("limit_ms", milliseconds(limit));
            });
        }
        &CallEvent::DeadlineIgnored { header } => {
            say.say(Level::Info, "Deadline ignored: it is not valid", |line| {
                line.field("header", header);
            });
        }
        CallEvent::BodyNotKept => {
            say.say(Level::Info, "Request body not kept: the memory for it is full", |_| {});
        }
        &CallEvent::Rejected { kind, retry_after } => {
            say.say(Level::Info, format_args!("Call rejected: {kind}"), |line| {
                line.field("reason", kind.failure().name())
                    .maybe("retry_after_ms", retry_after.map(milliseconds))
                    .maybe(
                        "priority_level",
                        event.request.and_then(Request::level).map(PriorityLevel::number),
                    );
            });
        }
        &CallEvent::ResponseIncomplete { kind } => {
            say.say(Level::Warn, format_args!("Response incomplete: {kind}"), |line| {
                failure(line, kind);
            });
        }
        // The access line (`log/access.rs`).
        CallEvent::Finished { .. } => {}
    }
}

pub(super) fn attempt(event: &Event<'_>, of: &AttemptEvent, say: &impl Say) {
    let run = |line: &mut Line<'_>| {
        if let Some(provenance) = event.provenance {
            line.field("run", provenance.run.number()).field("role", provenance.role.name());
            match provenance.role {
                Role::First => {}
                Role::Retry(retry) => {
                    line.field("retry", retry);
                }
                Role::Hedge(hedge) => {
                    line.field("hedge", hedge);
                }
            }
        }
    };
    match of {
        AttemptEvent::Started { attempt, endpoint, remaining } => {
            say.say(Level::Debug, format_args!("Attempt {attempt} started"), |line| {
                run(line);
                if event.endpoint.is_none() {
                    line.text("endpoint", endpoint.as_bytes());
                }
                line.maybe("remaining_ms", remaining.map(milliseconds));
            });
        }
        AttemptEvent::SentAgain { attempt, cause } => {
            let cause = match cause {
                SentAgainCause::Died => "its connection had died",
                SentAgainCause::NotProcessed => "it was not processed",
                SentAgainCause::Refused => "its endpoint refused the connection",
            };
            say.say(Level::Debug, format_args!("Attempt {attempt} sent again: {cause}"), |line| {
                line.field("attempt", *attempt);
            });
        }
        &AttemptEvent::Finished { attempt, outcome, elapsed } => {
            let message = format_args!("Attempt {attempt}: {}", Ended(outcome));
            say.say(Level::Debug, message, |line| {
                run(line);
                line.field("elapsed_ms", milliseconds(elapsed));
                match outcome {
                    AttemptOutcome::Response(status) => line.field("status", status),
                    AttemptOutcome::Failure(kind) => failure(line, kind),
                    AttemptOutcome::Cancelled => line,
                };
            });
        }
    }
}

pub(super) fn tunnel(of: &TunnelEvent, say: &impl Say) {
    match of {
        TunnelEvent::Opened { protocol } => say.say(Level::Debug, "Tunnel opened", |line| {
            line.text("protocol", protocol.as_bytes());
        }),
        // For the metrics.
        TunnelEvent::Moved { .. } => {}
        &TunnelEvent::Ended { end, received, sent } => {
            let (level, words) = match end {
                TunnelEnd::Closed => (Level::Debug, "both sides have closed"),
                TunnelEnd::ClientLost => (Level::Debug, "the client broke off"),
                TunnelEnd::UpstreamLost => (Level::Info, "the upstream broke off"),
                TunnelEnd::Idle => (Level::Info, "nothing moved for too long"),
                TunnelEnd::Cut => (Level::Info, "cut"),
            };
            say.say(level, format_args!("Tunnel ended: {words}"), |line| {
                line.field("end", end.name()).field("received", received).field("sent", sent);
            });
        }
    }
}

pub(super) fn condition(of: &ConditionEvent, say: &impl Say) {
    match of {
        ConditionEvent::Asked { slot, component, on_error, handled } => {
            let answer = if *handled { "yes" } else { "no" };
            say.say(Level::Debug, format_args!("Condition {}: {answer}", slot.name()), |line| {
                line.field("slot", slot.name())
                    .maybe("component", component.as_deref())
                    .maybe("on_error", on_error.then_some(true))
                    .field("handled", *handled);
            });
        }
    }
}
