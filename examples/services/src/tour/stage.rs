//! The processes of a story on free ports: service B, fusebox and, where needed, service A.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::client::{self, WholeAnswer};
use super::log::{ProgramLog, is_about, is_access, is_stray, is_warning, message};
use super::program::{ANY, DemoProgram, Output, Program};
use crate::log::REQUEST_ID;

/// The processes of a story. Dropping it kills them.
#[derive(Debug)]
pub(super) struct Stage {
    a: Option<Actor>,
    pub(super) fusebox: Actor,
    b: Actor,
    /// Of B.
    copies: Vec<Actor>,
    admin: SocketAddr,
}

/// A program and its log.
#[derive(Debug)]
pub(super) struct Actor {
    role: DemoProgram,
    /// `None`: it has ended.
    program: Option<Program>,
    pub(super) address: SocketAddr,
    pub(super) log: ProgramLog,
}

/// A request of the tour.
#[derive(Clone, Debug)]
pub(super) struct Question {
    whom: DemoProgram,
    method: Method,
    path: &'static str,
    body: &'static str,
    token: Option<&'static str>,
}

/// A question with its answer.
#[derive(Debug)]
pub(super) struct TourExchange {
    pub(super) at: Timestamp,
    pub(super) took: Duration,
    pub(super) answer: WholeAnswer,
    /// fusebox's lines about it.
    pub(super) log: Vec<Value>,
    /// B's lines about it.
    pub(super) arrivals: Vec<Value>,
}

impl Question {
    /// Asks service A.
    pub(super) fn to_a() -> Self {
        Self { whom: DemoProgram::A, method: Method::GET, path: "/", body: "", token: None }
    }

    /// Asks fusebox itself.
    pub(super) fn to_fusebox(path: &'static str) -> Self {
        Self { whom: DemoProgram::Fusebox, path, ..Self::to_a() }
    }

    /// The same with this in `Authorization`.
    pub(super) fn with_token(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(super) fn posting(self, body: &'static str) -> Self {
        Self { method: Method::POST, body, ..self }
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} to {}", self.method, self.path, self.whom.name())
    }
}

impl Stage {
    /// Starts B with these options, and fusebox with this configuration.
    pub(super) async fn open(config: &Path, service_b: &[&str]) -> anyhow::Result<Self> {
        Self::open_copies(config, &[service_b]).await
    }

    /// The same with B in several copies, each with options of its own.
    pub(super) async fn open_copies(config: &Path, service_b: &[&[&str]]) -> anyhow::Result<Self> {
        Self::open_where(config, service_b, |copies| {
            let variables = ["SERVICE_B", "SERVICE_B2", "SERVICE_B3"];
            let urls = copies.iter().map(|address| format!("http://{address}"));
            variables.into_iter().zip(urls).collect()
        })
        .await
    }

    /// The same, with variables that tell fusebox where the copies are.
    pub(super) async fn open_where(
        config: &Path,
        service_b: &[&[&str]],
        variables: impl FnOnce(&[SocketAddr]) -> Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let mut copies = Vec::new();
        for options in service_b {
            copies.push(Actor::enter(Program::service_b(ANY, options).await?, "address")?);
        }
        let addresses: Vec<_> = copies.iter().map(|copy| copy.address).collect();
        let started = Program::fusebox(config, ANY, ANY, &variables(&addresses)).await?;
        let admin = started.0.address("admin")?;
        let b = copies.remove(0);
        Ok(Self { a: None, fusebox: Actor::enter(started, "listen")?, b, copies, admin })
    }

    /// The same, with A in front.
    pub(super) async fn with_a(self) -> anyhow::Result<Self> {
        self.with_a_and(&[]).await
    }

    /// The same with these options of A.
    pub(super) async fn with_a_and(self, options: &[&str]) -> anyhow::Result<Self> {
        let started = Program::service_a(ANY, self.fusebox.address, options).await?;
        Ok(Self { a: Some(Actor::enter(started, "address")?), ..self })
    }

    /// Sends the request and waits for the answer, for fusebox's access line and for so many of
    /// B's. If there are fewer, the caller notices.
    pub(super) async fn ask(
        &self,
        question: &Question,
        request_id: &str,
        arrivals: usize,
    ) -> anyhow::Result<TourExchange> {
        let address = match (question.whom, &self.a) {
            (DemoProgram::A, Some(a)) => a.address,
            (DemoProgram::Fusebox, _) => self.fusebox.address,
            _ => bail!("{} is not there to be asked", question.whom.name()),
        };
        let mut request: Request<Full<Bytes>> =
            client::request(question.method.clone(), question.path, question.body)?;
        request.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(request_id)?);
        if let Some(token) = question.token {
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(token));
        }

        let (at, since) = (Timestamp::now(), Instant::now());
        let answer = client::send(address, request).await.with_context(|| question.to_string())?;
        let took = since.elapsed();
        self.fusebox.log.first(0, |line| is_about(line, request_id) && is_access(line)).await;
        let log = self.fusebox.log.all(0, |line| is_about(line, request_id));
        let arrivals =
            self.b.log.some(arrivals, |line| is_about(line, request_id) && is_access(line)).await;
        Ok(TourExchange { at, took, answer, log, arrivals })
    }

    /// The admin listener's `/state`.
    pub(super) async fn state(&self) -> anyhow::Result<Value> {
        let answer = client::get(self.admin, "/state").await?;
        serde_json::from_str(&answer.body).context("`/state` is no JSON")
    }

    /// The admin listener's `/metrics`.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        Ok(client::get(self.admin, "/metrics").await?.body)
    }

    /// What fusebox warned of at its start, from the key on.
    pub(super) async fn warnings(&self, count: usize) -> Vec<String> {
        let lines = self.fusebox.log.some(count, is_warning).await;
        let from_key = |line: &Value| {
            let warning = message(line);
            let key = warning.find("policies.").unwrap_or_default();
            warning[key..].to_owned()
        };
        lines.iter().map(from_key).collect()
    }

    /// Ends B: from now on nobody listens there.
    pub(super) async fn end_b(&mut self) -> anyhow::Result<()> {
        self.b.exit().await?;
        Ok(())
    }

    /// Ends all programs, each before its upstream, and returns how they ended, how many requests B
    /// received, and unexpected output.
    pub(super) async fn close(self) -> anyhow::Result<Closing> {
        let Self { a, mut fusebox, mut b, mut copies, .. } = self;
        let mut statuses = Vec::new();
        let mut strays = Vec::new();
        for actor in [a].iter_mut().flatten().chain([&mut fusebox, &mut b]).chain(&mut copies) {
            if let Some(status) = actor.exit().await? {
                statuses.push((actor.role, status));
            }
            strays.extend(actor.log.all(0, is_stray).iter().map(|line| message(line).to_owned()));
        }
        Ok(Closing { statuses, arrivals: b.log.all(0, is_access).len(), strays })
    }
}

/// How a story's processes ended.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) statuses: Vec<(DemoProgram, ExitStatus)>,
    /// The number of requests that B received.
    pub(super) arrivals: usize,
    /// Output on stderr, and output that is no log line.
    pub(super) strays: Vec<String>,
}

impl Actor {
    fn enter((program, output): (Program, Output), field: &str) -> anyhow::Result<Self> {
        let address = program.address(field)?;
        Ok(Self {
            role: program.role(),
            program: Some(program),
            address,
            log: ProgramLog::of(output),
        })
    }

    /// Ends it and reads the rest of its log. `None`: it has ended before.
    async fn exit(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(program) = self.program.take() else { return Ok(None) };
        let status = program.stop().await?;
        self.log.ended().await;
        Ok(Some(status))
    }
}
