//! A load: some connections that each send the next request as soon as the last one is answered,
//! until they are told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{TourConnection, request};

/// A running load. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct TourLoad {
    since: Instant,
    stop: watch::Sender<bool>,
    answered: watch::Receiver<usize>,
    connections: JoinSet<Outcomes>,
}

/// How often each outcome came: status and body, or an error.
type Outcomes = BTreeMap<String, usize>;

/// The result of a load.
#[derive(Debug)]
pub(super) struct LoadTally {
    pub(super) outcomes: Outcomes,
    pub(super) seconds: f64,
}

impl LoadTally {
    pub(super) fn total(&self) -> usize {
        self.outcomes.values().sum()
    }
}

impl TourLoad {
    /// Starts so many connections that get `/`.
    pub(super) fn start(address: SocketAddr, connections: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (answering, answered) = watch::channel(0);
        let mut running = JoinSet::new();
        for _ in 0..connections {
            running.spawn(ask_until(stopped.clone(), address, answering.clone()));
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
        let mut outcomes = Outcomes::new();
        while let Some(part) = self.connections.join_next().await {
            let part = part.unwrap_or_else(|error| BTreeMap::from([(error.to_string(), 1)]));
            part.into_iter()
                .for_each(|(outcome, count)| *outcomes.entry(outcome).or_default() += count);
        }
        LoadTally { outcomes, seconds: self.since.elapsed().as_secs_f64() }
    }
}

async fn ask_until(
    stop: watch::Receiver<bool>,
    address: SocketAddr,
    answered: watch::Sender<usize>,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut connection = None;
    while !*stop.borrow() {
        let outcome = match ask(&mut connection, address).await {
            Ok(outcome) => outcome,
            Err(error) => {
                connection = None;
                format!("{error:#}")
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
        answered.send_modify(|answered| *answered += 1);
    }
    outcomes
}

async fn ask(
    connection: &mut Option<TourConnection>,
    address: SocketAddr,
) -> anyhow::Result<String> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(TourConnection::open(address).await?),
    };
    let answer = connection.send(request(Method::GET, "/", "")?).await?;
    Ok(format!("{} {}", answer.status.as_u16(), answer.body))
}
