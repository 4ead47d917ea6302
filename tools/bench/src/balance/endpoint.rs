//! The endpoints, of which one is odd.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use fusebox_dev::{Origin, answer, ok};

/// How long a well endpoint takes, and a slow one.
const TIMES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(100)];

/// What one of the three is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// It takes fifty times as long.
    Slow,
    /// It answers 503 at once.
    Ill,
    /// It takes no connections.
    Gone,
    /// It takes none in the first half.
    New,
}

impl Oddity {
    pub(super) const ALL: [Self; 4] = [Self::Slow, Self::Ill, Self::Gone, Self::New];

    /// Its row in the table.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Slow => "slow: 100 ms, not 2",
            Self::Ill => "ill: 503 at once",
            Self::Gone => "gone: refuses connections",
            Self::New => "new: there from half-time on",
        }
    }

    pub(super) fn is_there_at_first(self) -> bool {
        matches!(self, Self::Slow | Self::Ill)
    }

    pub(super) fn comes(self) -> bool {
        self == Self::New
    }
}

/// An endpoint, which may not be there yet.
#[derive(Debug)]
pub(super) struct BalancedEndpoint {
    pub(super) address: SocketAddr,
    takes: Duration,
    is_ill: bool,
    origin: Option<Origin>,
}

impl BalancedEndpoint {
    pub(super) fn new(address: SocketAddr, oddity: Oddity) -> Self {
        let takes = TIMES[usize::from(oddity == Oddity::Slow)];
        Self { address, takes, is_ill: oddity == Oddity::Ill, origin: None }
    }

    /// One that is not odd.
    pub(super) fn well(address: SocketAddr) -> Self {
        Self { address, takes: TIMES[0], is_ill: false, origin: None }
    }

    /// It takes connections from now on.
    pub(super) fn open(&mut self) -> Result<()> {
        let (takes, is_ill) = (self.takes, self.is_ill);
        let origin = Origin::on(TcpListener::bind(self.address)?, move |connection| {
            while connection.request().is_some() {
                let answer = if is_ill {
                    answer(503, "", "")
                } else {
                    thread::park_timeout(takes);
                    ok("hello")
                };
                if connection.wire.try_send(answer).is_err() {
                    return;
                }
            }
        });
        self.origin = Some(origin);
        Ok(())
    }

    /// How many requests have come.
    pub(super) fn asked(&self) -> usize {
        self.origin.as_ref().map_or(0, |origin| origin.seen().len())
    }
}
