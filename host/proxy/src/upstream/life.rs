//! For how long a connection to an endpoint is used, and for how many requests.

use std::cell::Cell;

use fusebox_resilience::clock;
use tokio::time::Instant;

use crate::config::UpstreamSettings;

/// The part of `max_age` by which a connection ends earlier at most, so that those that began
/// together do not end together.
const AGE_JITTER: f64 = 0.1;

/// What is left of a connection's life. Once it is over, the connection gets no more requests.
#[derive(Debug)]
pub(super) struct ConnectionLife {
    old_at: Option<Instant>,
    most: Option<u64>,
    /// Requests that it has got. However old it is, it gets the one that it was made for.
    spent: Cell<u64>,
}

impl ConnectionLife {
    /// One that begins now. `None`: it has no end. `chance` is from 0 to 1.
    pub(super) fn begin(settings: &UpstreamSettings, chance: f64) -> Option<Self> {
        let UpstreamSettings { max_age, max_requests, .. } = settings;
        if max_age.is_none() && max_requests.is_none() {
            return None;
        }
        let old_at = max_age.map(|age| clock::now() + age.0.mul_f64(1.0 - AGE_JITTER * chance));
        Some(Self { old_at, most: *max_requests, spent: Cell::new(0) })
    }

    /// The connection gets a request.
    pub(super) fn spend(&self) {
        self.spent.set(self.spent.get() + 1);
    }

    /// Whether the connection gets no more.
    pub(super) fn is_over(&self) -> bool {
        let spent = self.spent.get();
        self.most.is_some_and(|most| spent >= most)
            || spent > 0 && self.old_at.is_some_and(|end| clock::now() >= end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fusebox_resilience::config::ConfigDuration;
    use tokio::time::advance;

    use super::*;
    use crate::config::{EndpointUrl, UpstreamConfig};

    fn settings() -> UpstreamSettings {
        UpstreamConfig::new(EndpointUrl::parse("http://b").unwrap()).settings
    }

    #[test]
    fn it_ends_with_the_last_request() {
        assert!(ConnectionLife::begin(&settings(), 0.5).is_none());
        let settings = UpstreamSettings { max_requests: Some(2), ..settings() };
        let life = ConnectionLife::begin(&settings, 0.5).unwrap();
        assert!(!life.is_over());
        for is_over in [false, true, true] {
            life.spend();
            assert_eq!(life.is_over(), is_over);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_begin_together_do_not_end_together() {
        let max_age = Some(ConfigDuration::from_secs(100));
        let settings = UpstreamSettings { max_age, ..settings() };
        let begun = Instant::now();
        let lives = [0.0, 0.5, 0.999]
            .map(|chance| ConnectionLife::begin(&settings, chance).expect("it has an end"));
        advance(Duration::from_secs(80)).await;
        lives.iter().for_each(ConnectionLife::spend);
        let over = || lives.iter().filter(|life| life.is_over()).count();
        for (seconds, expected) in [(90, 0), (91, 1), (96, 2), (100, 3)] {
            advance(begun + Duration::from_secs(seconds) - Instant::now()).await;
            assert_eq!(over(), expected, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_old_before_its_first_request_gets_it() {
        let max_age = Some(ConfigDuration::from_millis(1));
        let settings = UpstreamSettings { max_age, ..settings() };
        let life = ConnectionLife::begin(&settings, 0.5).unwrap();
        advance(Duration::from_secs(1)).await;
        assert!(!life.is_over());
        life.spend();
        assert!(life.is_over());
    }
}
