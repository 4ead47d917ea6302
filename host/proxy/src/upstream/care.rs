//! Looks after the endpoints of upstreams, off the workers: checks them, and lets those come back
//! that were ejected.

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{EndpointEvent, Observers, Outcome, Random};
use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::HttpUpstream;
use super::shared::SharedUpstream;
use crate::config::HealthConfig;

/// Looks after these until it is dropped.
pub(crate) async fn look_after(upstreams: Vec<Arc<SharedUpstream>>, observers: Observers) {
    let mut tasks = JoinSet::new();
    for shared in upstreams.into_iter().filter(|upstream| upstream.has_several()) {
        if let Some(path) = &shared.config.fleet.health.path {
            let upstream = Rc::new(HttpUpstream::new(shared.clone(), &Rc::default()));
            for place in 0..shared.config.endpoints.len() {
                let check = EndpointCheck {
                    upstream: upstream.clone(),
                    shared: shared.clone(),
                    place,
                    path: path.clone(),
                };
                tasks.spawn_local(check.repeat(observers.clone()));
            }
        }
        tasks.spawn_local(let_return(shared, observers.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn let_return(upstream: Arc<SharedUpstream>, observers: Observers) {
    loop {
        let (events, next) = upstream.let_return(Instant::now());
        tell(&observers, events);
        match next {
            Some(next) => tokio::select! {
                () = sleep_until(next) => {}
                () = upstream.ejected() => {}
            },
            None => upstream.ejected().await,
        }
    }
}

fn tell(observers: &Observers, events: Vec<EndpointEvent>) {
    for event in events {
        observers.emit_for_policy(None, &event.into());
    }
}

/// The checks of an endpoint. They go the way of requests, on connections of their own.
struct EndpointCheck {
    upstream: Rc<HttpUpstream>,
    shared: Arc<SharedUpstream>,
    place: usize,
    path: PathAndQuery,
}

impl EndpointCheck {
    async fn repeat(self, observers: Observers) {
        let config = self.shared.config.fleet.health.clone();
        // Not all at once.
        sleep(config.interval.0.mul_f64(Random::with_seed(fastrand::u64(..)).fraction())).await;
        loop {
            let checked = timeout(config.timeout.0, self.upstream.check(self.place, &self.path));
            let passed = match checked.await {
                Ok(outcome) => passed(&outcome, &config),
                Err(_) => Err("no answer in time".to_owned()),
            };
            let passed = passed.as_ref().map(drop).map_err(|reason| &**reason);
            tell(&observers, self.shared.checked(self.place, passed, Instant::now()));
            sleep(config.interval.0).await;
        }
    }
}

/// # Errors
/// It has not passed, for this reason.
fn passed(outcome: &Outcome, config: &HealthConfig) -> Result<(), String> {
    match outcome {
        Ok(response) => {
            let status = response.status.as_u16();
            let is_expected = config.expect.iter().any(|expected| expected.has(status));
            if is_expected { Ok(()) } else { Err(format!("answered {status}")) }
        }
        Err(error) => Err(match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}
