//! The scenarios: how contestants are loaded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A way of loading a contestant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) request: ScenarioRequest,
    pub(crate) connections: usize,
    pub(crate) generator: Generator,
    /// How many requests a connection has at once.
    pub(crate) streams: usize,
    pub(crate) protocol: Protocol,
    pub(crate) wires: Wires,
    /// The share of the given time: a scenario of interest only for its ratio of processor time
    /// needs less.
    pub(crate) share: f64,
    /// Whether only the main contestants take part.
    pub(crate) main_contestants: bool,
}

/// The requests of a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScenarioRequest {
    /// `GET` of one target.
    Get(&'static str),
    /// `GET`, of which every tenth fails at first.
    RetryTenth,
    /// `POST` of a large body with a response of the same size.
    Bodies,
    /// `GET`, each over a connection of its own.
    Closing,
    /// A unary call of gRPC.
    Grpc,
    /// `GET` of so many routes in turn.
    Spread { routes: u64 },
    /// `GET`, of so many clients in turn.
    Clients { count: u64 },
    /// `GET` with so many headers of so many bytes each, in the response too.
    Headers { count: u64, size: u64 },
}

/// What sends the requests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Generator {
    /// Closed loop: a connection sends its next request when the last is answered.
    Wrk,
    /// Closed loop; for protocols that wrk does not support.
    H2load,
    /// Requests are sent when they are due, whether earlier ones are answered or not.
    OpenLoop,
}

/// What is spoken on both sides of a contestant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wires {
    /// HTTP/1.1 in the clear.
    Plain,
    /// TLS at the client, with either version of HTTP; HTTP/1.1 in the clear at the service.
    Tls,
    /// The same; each handshake is a whole one, since clients get no ticket to resume by.
    TlsWithoutTickets,
    /// HTTP/2 in the clear.
    Http2,
}

impl Wires {
    /// Whether clients speak TLS.
    pub(crate) const fn are_secured(self) -> bool {
        matches!(self, Self::Tls | Self::TlsWithoutTickets)
    }
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
        streams: 1,
        protocol: Protocol::Http1,
        wires: Wires::Plain,
        share: 1.0,
        main_contestants: false,
    };

    /// All scenarios in the order in which they run. The fixed rate derives from the first.
    pub(crate) const ALL: [Self; 13] = [
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
        Self {
            name: "tls",
            title: "small answers over TLS, 64 connections, saturated",
            wires: Wires::Tls,
            ..Self::MAIN
        },
        Self {
            name: "tls-http2",
            title: "small answers over TLS and HTTP/2, 16 connections with 8 streams, saturated",
            wires: Wires::Tls,
            ..Self::STREAMS
        },
        Self {
            name: "handshakes",
            title: "small answers over TLS, each by a whole handshake, 64 at once, saturated",
            request: ScenarioRequest::Closing,
            wires: Wires::TlsWithoutTickets,
            ..Self::MAIN
        },
        Self {
            name: "handshakes-resumed",
            title: "small answers over TLS, a connection for each that resumes its session",
            request: ScenarioRequest::Closing,
            wires: Wires::Tls,
            ..Self::MAIN
        },
        Self {
            name: "http2",
            title: "small answers, HTTP/2 on both sides, 16 connections with 8 streams, saturated",
            ..Self::STREAMS
        },
        Self {
            name: "grpc",
            title: "unary calls of gRPC, 16 connections with 8 streams, saturated",
            request: ScenarioRequest::Grpc,
            ..Self::STREAMS
        },
    ];

    const STREAMS: Self = Self {
        connections: 16,
        streams: 8,
        generator: Generator::H2load,
        protocol: Protocol::Http2,
        wires: Wires::Http2,
        ..Self::MAIN
    };

    const MAIN: Self = Self { share: 0.5, main_contestants: true, ..Self::GET };

    /// A scenario on an axis: the same at each point except for what grows.
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
