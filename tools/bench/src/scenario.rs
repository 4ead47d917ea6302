//! What is asked of every contestant, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One way of loading a contestant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) request: ScenarioRequest,
    pub(crate) connections: usize,
    pub(crate) generator: Generator,
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    /// Of the seconds asked for: what is only looked at for its ratio of processor time needs
    /// fewer.
    pub(crate) share: f64,
    /// Only of those that people would choose between; all of them otherwise.
    pub(crate) main_contestants: bool,
}

/// What each request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScenarioRequest {
    /// `GET` of always the same target.
    Get(&'static str),
    /// `GET`, of which every tenth fails at first.
    RetryTenth,
    /// `POST` of a large body, to which the answer is as large.
    Bodies,
    /// `GET` of so many routes in turn.
    Spread { routes: u64 },
    /// `GET` with so many headers of so many bytes each, and the same in the answer.
    Headers { count: u64, size: u64 },
}

/// What sends the requests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Generator {
    /// Closed loop: a connection sends its next request when the last is answered.
    Wrk,
    /// Closed loop; for what wrk does not speak.
    H2load,
    /// Requests are sent when they are due, whatever became of those before.
    OpenLoop,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Protocol {
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
}

impl Scenario {
    const GET: Self = Self {
        name: "get",
        title: "small answers, 64 connections, saturated",
        request: ScenarioRequest::Get("/"),
        connections: 64,
        generator: Generator::Wrk,
        protocol: Protocol::Http1,
        tls: false,
        share: 1.0,
        main_contestants: false,
    };

    /// All, in the order in which they run: the fixed rate follows from the first.
    pub(crate) const ALL: [Self; 7] = [
        Self::GET,
        Self {
            name: "fixed-rate",
            title: "small answers at half of nginx's highest rate, 64 connections, open loop",
            generator: Generator::OpenLoop,
            ..Self::GET
        },
        Self {
            name: "get-h2load",
            title: "small answers, 64 connections, saturated by h2load",
            generator: Generator::H2load,
            ..Self::MAIN
        },
        Self {
            name: "one-connection",
            title: "small answers, 1 connection",
            connections: 1,
            ..Self::MAIN
        },
        Self {
            name: "thousand-connections",
            title: "small answers, 1,000 connections, saturated",
            connections: 1000,
            ..Self::MAIN
        },
        Self {
            name: "retry-503",
            title: "every tenth answer is a 503 that is retried, 64 connections, saturated",
            request: ScenarioRequest::RetryTenth,
            ..Self::MAIN
        },
        Self {
            name: "bodies",
            title: "64 KiB bodies both ways, 64 connections, saturated",
            request: ScenarioRequest::Bodies,
            ..Self::MAIN
        },
    ];

    const MAIN: Self = Self { share: 0.5, main_contestants: true, ..Self::GET };

    /// One on an axis: the same at every point but for what grows.
    pub(crate) const fn on_axis(
        name: &'static str,
        request: ScenarioRequest,
        connections: usize,
        generator: Generator,
    ) -> Self {
        Self { name, request, connections, generator, ..Self::GET }
    }

    pub(crate) fn duration(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.share)
    }
}
