//! A load: some connections that each send the next request as soon as the last one is answered,
//! until they are told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::client::{TourConnection, request};

/// A running load. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct TourLoad {
    since: Instant,
    stop: watch::Sender<bool>,
    answered: watch::Receiver<usize>,
    connections: JoinSet<(Outcomes, Vec<Duration>)>,
}

/// How often each outcome came: status and body, or an error.
type Outcomes = BTreeMap<String, usize>;

/// The result of a load.
#[derive(Debug)]
pub(super) struct LoadTally {
    pub(super) outcomes: Outcomes,
    pub(super) seconds: f64,
    /// How long each request took, the shortest first.
    times: Vec<Duration>,
}

impl LoadTally {
    pub(super) fn total(&self) -> usize {
        self.outcomes.values().sum()
    }

    /// How many were answered with anything else than a 200, or not at all.
    pub(super) fn failed(&self) -> usize {
        let failed = self.outcomes.iter().filter(|(of, _)| !of.starts_with("200 "));
        failed.map(|(_, count)| count).sum()
    }

    /// The time within which so many of a hundred were answered.
    pub(super) fn percentile(&self, of_100: f64) -> Duration {
        let rank = (self.times.len() as f64 * of_100 / 100.0).ceil() as usize;
        self.times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl TourLoad {
    /// Starts so many connections that get `/`.
    pub(super) fn start(address: SocketAddr, connections: usize) -> Self {
        Self::start_on(address, connections, "/")
    }

    /// Starts so many connections that get this path.
    pub(super) fn start_on(address: SocketAddr, connections: usize, path: &'static str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (answering, answered) = watch::channel(0);
        let mut running = JoinSet::new();
        for _ in 0..connections {
            running.spawn(ask_until(stopped.clone(), address, path, answering.clone()));
        }
        Self { since: Instant::now(), stop, answered, connections: running }
    }

    /// Waits for so many more answers from now on.
    pub(super) async fn more(&self, count: usize) {
        let mut answered = self.answered.clone();
        let enough = *answered.borrow() + count;
        // The senders live as long as the connections do.
        let _ = answered.wait_for(|answered| *answered >= enough).await;
    }

    /// Lets each connection finish its request.
    pub(super) async fn end(mut self) -> LoadTally {
        self.stop.send_replace(true);
        let (mut outcomes, mut times) = (Outcomes::new(), Vec::new());
        while let Some(part) = self.connections.join_next().await {
            let failed = |error: JoinError| (BTreeMap::from([(error.to_string(), 1)]), Vec::new());
            let (part, took) = part.unwrap_or_else(failed);
            times.extend(took);
            part.into_iter()
                .for_each(|(outcome, count)| *outcomes.entry(outcome).or_default() += count);
        }
        times.sort_unstable();
        LoadTally { outcomes, seconds: self.since.elapsed().as_secs_f64(), times }
    }
}

async fn ask_until(
    stop: watch::Receiver<bool>,
    address: SocketAddr,
    path: &'static str,
    answered: watch::Sender<usize>,
) -> (Outcomes, Vec<Duration>) {
    let (mut outcomes, mut times) = (Outcomes::new(), Vec::new());
    let mut connection = None;
    while !*stop.borrow() {
        let since = Instant::now();
        let outcome = match ask(&mut connection, address, path).await {
            Ok(outcome) => outcome,
            Err(error) => {
                connection = None;
                format!("{error:#}")
            }
        };
        times.push(since.elapsed());
        *outcomes.entry(outcome).or_default() += 1;
        answered.send_modify(|answered| *answered += 1);
    }
    (outcomes, times)
}

async fn ask(
    connection: &mut Option<TourConnection>,
    address: SocketAddr,
    path: &'static str,
) -> anyhow::Result<String> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(TourConnection::open(address).await?),
    };
    let answer = connection.send(request(Method::GET, path, "")?).await?;
    Ok(format!("{} {}", answer.status.as_u16(), answer.body))
}
