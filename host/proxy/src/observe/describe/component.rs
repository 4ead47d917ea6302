//! What happens to a component.

use fusebox_resilience::{AttemptOutcome, ComponentEvent};

use super::say::Say;
use super::words::{Ended, failure, milliseconds};
use crate::observe::level::Level;

pub(super) fn component(of: &ComponentEvent, say: &impl Say) {
    match of {
        ComponentEvent::Faulted { component, fault, detail } => {
            let fault = fault.name();
            say.say(Level::Error, format_args!("Component faulted: {fault}"), |line| {
                line.component(component).field("fault", fault).text("detail", detail.as_bytes());
            });
        }
        ComponentEvent::Printed { component, line: printed } => {
            say.say(Level::Info, "Component printed", |line| {
                line.component(component).text("line", printed.as_bytes());
            });
        }
        ComponentEvent::Asked { component, host, outcome, elapsed } => {
            let level = match outcome {
                AttemptOutcome::Failure(_) => Level::Info,
                AttemptOutcome::Response(_) | AttemptOutcome::Cancelled => Level::Debug,
            };
            say.say(level, format_args!("Component asked {host}: {}", Ended(*outcome)), |line| {
                line.component(component)
                    .text("host", host.as_bytes())
                    .field("elapsed_ms", milliseconds(*elapsed));
                match *outcome {
                    AttemptOutcome::Response(status) => line.field("status", status),
                    AttemptOutcome::Failure(kind) => failure(line, kind),
                    AttemptOutcome::Cancelled => line,
                };
            });
        }
        ComponentEvent::Captured { component, case } => {
            say.say(Level::Info, "Exchange captured", |line| {
                line.component(component).json("case", case);
            });
        }
        ComponentEvent::Loaded { component, replaced } => {
            let message =
                if replaced.is_some() { "Component replaced" } else { "Component loaded" };
            say.say(Level::Info, message, |line| {
                line.component(component)
                    .maybe("replaced_digest", replaced.as_ref().map(|replaced| &*replaced.digest))
                    .maybe(
                        "replaced_generation",
                        replaced.as_ref().map(|replaced| replaced.generation),
                    );
            });
        }
        ComponentEvent::Rejected { name, digest, reason } => {
            say.say(Level::Error, "Component rejected", |line| {
                line.field("component", &**name)
                    .maybe("rejected_digest", digest.as_deref())
                    .text("reason", reason.as_bytes());
            });
        }
        ComponentEvent::Overtaken { name, digest } => {
            say.say(Level::Info, "Component overtaken", |line| {
                line.field("component", &**name).field("overtaken_digest", &**digest);
            });
        }
        ComponentEvent::Unconfined { name, reason } => {
            say.say(Level::Warn, "Component compiled without seccomp", |line| {
                line.field("component", &**name).text("reason", reason.as_bytes());
            });
        }
        ComponentEvent::Excused { component, before } => {
            say.say(Level::Info, "Component excused: the version before faults too", |line| {
                line.component(component)
                    .field("before_digest", &*before.digest)
                    .field("before_generation", before.generation);
            });
        }
        ComponentEvent::RolledBack { component, from, faults } => {
            say.say(Level::Warn, "Component rolled back", |line| {
                line.component(component)
                    .field("from_digest", &*from.digest)
                    .field("from_generation", from.generation)
                    .maybe("faults", *faults);
            });
        }
        ComponentEvent::Quarantined { component, faults, interval } => {
            say.say(Level::Error, "Component quarantined", |line| {
                line.component(component)
                    .field("faults", *faults)
                    .field("interval_ms", milliseconds(*interval));
            });
        }
        ComponentEvent::Released { component } => {
            say.say(Level::Info, "Component released", |line| {
                line.component(component);
            });
        }
    }
}
