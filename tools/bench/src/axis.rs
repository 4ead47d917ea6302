//! The axes: the one thing that grows, and how a contestant is set up and loaded at each point.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::{Resource, getrlimit};

use crate::contestant::{Contestant, Options};
use crate::scenario::{Generator, Scenario, ScenarioRequest};

/// The one thing that grows while the rest stays the same.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Axis {
    /// Open connections of clients, at a fixed rate of requests
    Connections,
    /// Routes, asked in turn
    Routes,
    /// Components, each with a route of its own, asked in turn
    Components,
    /// Headers of 32 bytes, in request and response
    Headers,
    /// The size of each of 5 headers in request and response
    HeaderSize,
    /// Workers
    Workers,
    /// Clients that are told apart, each with a breaker and a rate limiter of its own
    Keys,
}

impl Axis {
    /// Its name in raw data.
    pub(crate) const fn scenario(self) -> &'static str {
        match self {
            Self::Connections => "scale-connections",
            Self::Routes => "scale-routes",
            Self::Components => "scale-components",
            Self::Headers => "scale-headers",
            Self::HeaderSize => "scale-header-size",
            Self::Workers => "scale-workers",
            Self::Keys => "scale-keys",
        }
    }

    /// Its title in tables and plots.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Connections => "connections, at 2,000 requests/s",
            Self::Routes => "routes",
            Self::Components => "components",
            Self::Headers => "headers each way",
            Self::HeaderSize => "bytes per header, 5 each way",
            Self::Workers => "workers",
            Self::Keys => "clients in turn, a breaker and a rate limiter for each of 10,000",
        }
    }

    pub(crate) fn points(self) -> Result<Vec<u64>> {
        Ok(match self {
            Self::Connections => vec![1, 10, 100, 1000, most_connections()?.min(10_000)],
            Self::Routes => vec![1, 10, 100, 1000, 10_000],
            Self::Components => vec![1, 10, 100],
            Self::Headers => vec![5, 20, 50, 100],
            Self::HeaderSize => vec![16, 256, 2048, 8192],
            Self::Workers => vec![1, 2],
            Self::Keys => vec![1, 1000, 10_000, 1_000_000],
        })
    }

    pub(crate) fn contestants(self, [nginx, native, wasm]: [Contestant; 3]) -> Vec<Contestant> {
        match self {
            Self::Components => vec![wasm],
            Self::Keys => vec![native],
            _ => vec![nginx, native],
        }
    }

    pub(crate) fn options(self, point: u64) -> Options {
        let usual = Options::default();
        match self {
            Self::Connections => Options { connections: 12_000, ..usual },
            Self::Routes => Options { routes: point, ..usual },
            Self::Components => Options { routes: point, components: point, ..usual },
            Self::Headers | Self::HeaderSize => Options { max_header: Some(64 * 1024), ..usual },
            Self::Workers => Options { workers: point as usize, ..usual },
            Self::Keys => Options { has_keys: true, ..usual },
        }
    }

    pub(crate) fn load(self, point: u64) -> Scenario {
        let (request, connections, generator) = match self {
            Self::Connections => (ScenarioRequest::Get("/"), point as usize, Generator::OpenLoop),
            Self::Routes | Self::Components => {
                (ScenarioRequest::Spread { routes: point }, 64, Generator::Wrk)
            }
            Self::Headers => {
                (ScenarioRequest::Headers { count: point, size: 32 }, 64, Generator::Wrk)
            }
            Self::HeaderSize => {
                (ScenarioRequest::Headers { count: 5, size: point }, 64, Generator::Wrk)
            }
            Self::Workers => (ScenarioRequest::Get("/"), 64, Generator::Wrk),
            Self::Keys => (ScenarioRequest::Clients { count: point }, 64, Generator::Wrk),
        };
        Scenario::on_axis(self.scenario(), request, connections, generator)
    }
}

/// The most client connections that a proxy's limit of open files allows: it needs far fewer to the
/// service at a modest rate, and a few files for itself.
fn most_connections() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / 4 * 3).checked_sub(100).context("too few files may be open")
}
