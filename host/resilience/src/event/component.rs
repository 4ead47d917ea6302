//! What happens to components.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::AttemptOutcome;

/// One version of a component: the place it fills and what fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentId {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The SHA-256 of its file, in hex.
    pub digest: Arc<str>,
    /// Counts the versions since the start, from 1.
    pub generation: u64,
}

/// Something happened to a component.
#[derive(Clone, Debug, PartialEq)]
pub enum ComponentEvent {
    /// A call into it failed and cost only itself.
    Faulted {
        /// Which, and in which version.
        component: ComponentId,
        /// How.
        fault: Fault,
        /// What the runtime or the guest said of it.
        detail: Arc<str>,
    },
    /// It wrote a line to its stdout or stderr.
    Printed {
        /// Which.
        component: ComponentId,
        /// The line, cut at a bound.
        line: Arc<str>,
    },
    /// It asked a host that it was granted.
    Asked {
        /// Which.
        component: ComponentId,
        /// The host, as it is granted.
        host: Arc<str>,
        /// What came of it. The body of a response is still to come.
        outcome: AttemptOutcome,
        /// How long that took.
        elapsed: Duration,
    },
    /// What it was asked and said was captured as a case.
    Captured {
        /// Which.
        component: ComponentId,
        /// The case, as JSON.
        case: Arc<str>,
    },
    /// It was loaded in place of nothing or of an older version.
    Loaded {
        /// Which.
        component: ComponentId,
        /// The version that it replaced.
        replaced: Option<ComponentId>,
    },
    /// A new version was not taken; what was loaded before stays.
    Rejected {
        /// The component's name in the configuration.
        name: Arc<str>,
        /// The SHA-256 of what was not taken, in hex; `None` if it could not be read.
        digest: Option<Arc<str>>,
        /// Why.
        reason: Arc<str>,
    },
    /// A new version was dropped before it was taken or rejected, since a newer one came.
    Overtaken {
        /// The component's name in the configuration.
        name: Arc<str>,
        /// The SHA-256 of what was dropped, in hex.
        digest: Arc<str>,
    },
    /// It was compiled by a process without seccomp, which this system does not have.
    Unconfined {
        /// The component's name in the configuration.
        name: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// A fault on probation does not count: the version before faults on the same exchange.
    Excused {
        /// The version that faulted.
        component: ComponentId,
        /// The version before.
        before: ComponentId,
    },
    /// An earlier version was put back in place of one that faulted on probation, or that an
    /// operator took out.
    RolledBack {
        /// The version that answers now.
        component: ComponentId,
        /// The version that did.
        from: ComponentId,
        /// The faults that led to it; `None` if it was done by hand.
        faults: Option<u32>,
    },
    /// It kept faulting and was set aside: it is not called but for a trial now and then.
    Quarantined {
        /// Which.
        component: ComponentId,
        /// How many calls in a row had failed.
        faults: u32,
        /// How often it gets a trial call.
        interval: Duration,
    },
    /// A trial call succeeded: it is called again.
    Released {
        /// Which.
        component: ComponentId,
    },
}

/// How a call into a component failed.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It trapped: a panic, an exception, an illegal operation.
    Trap,
    /// It ran longer than its `timeout`.
    Timeout,
    /// It asked for more memory than it may have.
    Memory,
    /// All components together would hold more memory than they may: it is not its own fault.
    TotalMemory,
    /// It asked for more table elements, or handles of the host's resources, than it may have.
    Table,
    /// It went deeper than its stack.
    Stack,
    /// It handed more bytes to the host at once, or asked for more, than it may.
    HostBytes,
    /// It asked the host more often in one call than it may.
    HostCalls,
    /// It called what it may not call there, or waited.
    Misuse,
    /// It answered with something that is no answer: an invalid status or header.
    BadAnswer,
    /// It could not be instantiated.
    Instantiation,
}

impl Fault {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::TotalMemory,
        Self::Table,
        Self::Stack,
        Self::HostBytes,
        Self::HostCalls,
        Self::Misuse,
        Self::BadAnswer,
        Self::Instantiation,
    ];

    /// Whether the component is to blame, and not the others.
    pub fn is_own(self) -> bool {
        self != Self::TotalMemory
    }

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::TotalMemory => "total-memory",
            Self::Table => "table",
            Self::Stack => "stack",
            Self::HostBytes => "host-bytes",
            Self::HostCalls => "host-calls",
            Self::Misuse => "misuse",
            Self::BadAnswer => "bad-answer",
            Self::Instantiation => "instantiation",
        }
    }
}
