//! Rate limiter: lets only so many calls begin in a time.
//!
//! **What it protects from.** Asking an upstream more often than it allows, or than you want to pay
//! for; one client taking everything, with a `key`. A call that finds no token waits for one in a
//! line, or is turned away with the time after which there is one.
//!
//! **How.** A bucket of `burst` tokens, into which one falls every `per` / `limit`
//! (`rate_limiter/bucket.rs`). A call whose client still sends its request body takes none: its
//! time has not come (`client_waits.rs`).
//!
//! **Events.** [`CallEvent::Rejected`], [`QueueEvent`].
//!
//! **Composition.** Outside a retry it counts calls, inside it counts attempts. A breaker takes its
//! rejections for neutral; a retry that handles them waits for as long as they ask for.

mod bucket;
mod fields;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use crate::boxed::boxed;
use crate::call::Call;
use crate::client_waits::ClientWaits;
use crate::clock;
use crate::condition::Asker;
use crate::config::{ConfigDuration, Problem, Problems};
use crate::error::{Error, ErrorKind, Failure};
use crate::event::{CallEvent, EventKind, QueueEvent};
use crate::key::{CallKey, KeyConfig};
use crate::keyed::{Keyed, KeyedState, KeysConfig};
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownKeys};
use bucket::BucketSettings;
use fields::RateLimitFields;
use shared::{BucketStatus, SharedBucket, TokenTurn, TokenWait};

/// More are as good as unlimited.
const MAX_LIMIT: u32 = 1_000_000_000;
const MAX_WAITING: usize = 1_000_000;

/// `kind = "rate-limiter"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RateLimiterConfig {
    /// So many calls, 1 to 1,000,000,000,
    pub limit: u32,
    /// in this time.
    pub per: ConfigDuration,
    /// So many of them at once. Default: `limit`; 1 spaces them evenly.
    pub burst: Option<u32>,
    /// How long a call waits for its turn. Default 0: it does not.
    #[serde(default = "ConfigDuration::none")]
    pub max_wait: ConfigDuration,
    /// So many may wait at once, up to 1,000,000. Default 1,000.
    pub max_queue: Option<usize>,
    /// Whether responses carry `RateLimit-Policy` and `RateLimit`. Default false.
    #[serde(default)]
    pub headers: bool,
    /// By which calls are told apart; each value has a limit of its own. Default: none.
    pub key: Option<KeyConfig>,
    /// So many keys, up to 1,000,000. Default 10,000.
    pub max_keys: Option<usize>,
    /// For so long a key that is not used is remembered. Default 10 min.
    pub idle: Option<ConfigDuration>,
}

impl PolicyConfig for RateLimiterConfig {
    const KIND: &'static str = "rate-limiter";

    type Policy = RateLimiter;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<RateLimiter, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require_within(self.limit, 1..=MAX_LIMIT, "limit");
        problems.require_time(self.per, "per");
        let burst = self.burst.unwrap_or(self.limit);
        if self.burst.is_some() {
            problems.require_within(burst, 1..=MAX_LIMIT, "burst");
        }
        problems.require_time_or_zero(self.max_wait, "max_wait");
        let max_queue = self.max_queue.unwrap_or(1000);
        problems.require_within(max_queue, 0..=MAX_WAITING, "max_queue");
        let settings = BucketSettings { limit: self.limit, per: self.per.0, burst };
        let fields = RateLimitFields::of(&name, settings).filter(|_| self.headers);
        problems.require(fields.is_some() || !self.headers, "headers", || {
            "need a policy whose name is of printable ASCII characters".into()
        });
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(parts, &mut problems);
        problems.into_result(())?;
        Ok(RateLimiter {
            name,
            settings,
            max_wait: self.max_wait.0,
            max_queue,
            fields,
            buckets: Keyed::new(keys, move || SharedBucket::new(settings, Instant::now())),
            client_waits: ClientWaits::default(),
        })
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let waits = !self.max_wait.0.is_zero();
        problems.require(
            self.max_queue.is_none_or(|queue| queue == 0 || waits),
            "max_queue",
            || "nobody waits without a `max_wait`".into(),
        );
        problems.require(self.max_queue != Some(0) || !waits, "max_wait", || {
            "nobody waits with a `max_queue` of 0".into()
        });
        problems.into_result(()).err().unwrap_or_default()
    }
}

/// Lets only so many calls begin in a time.
#[derive(Debug)]
pub struct RateLimiter {
    name: Arc<str>,
    settings: BucketSettings,
    max_wait: Duration,
    max_queue: usize,
    /// `None`: responses carry none.
    fields: Option<RateLimitFields>,
    buckets: Keyed<SharedBucket>,
    client_waits: ClientWaits,
}

impl RateLimiter {
    async fn enter(
        &self,
        call: &Call,
        bucket: &Arc<SharedBucket>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let now = clock::now();
        let left = deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
        let longest = self.max_wait.min(left);
        match bucket.enter(longest, self.max_queue, now) {
            TokenTurn::Taken => Ok(()),
            TokenTurn::Line(line) => {
                // Boxed to keep the common path's future small.
                Box::pin(self.wait(call, line, now)).await;
                Ok(())
            }
            TokenTurn::Rejected(wait) => {
                let (kind, retry_after) = (ErrorKind::RateLimited, Some(wait));
                call.emit(&self.name, CallEvent::Rejected { kind, retry_after });
                Err(Error::new(kind).with_retry_after(retry_after))
            }
        }
    }

    async fn wait(&self, call: &Call, line: TokenWait, since: Instant) {
        if call.reporter().wants_details() {
            call.emit(&self.name, QueueEvent::Joined { ahead: line.ahead() });
        }
        line.token().await;
        call.emit(&self.name, QueueEvent::Admitted { waited: clock::now() - since });
    }

    fn tell(&self, bucket: &SharedBucket, outcome: &mut Outcome) {
        if let Some(fields) = &self.fields {
            let headers = match outcome {
                Ok(response) => response.headers.map_mut(),
                Err(error) => error.headers_mut(),
            };
            fields.add_to(headers, bucket.status(clock::now()));
        }
    }
}

impl Policy for RateLimiter {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        RateLimiterConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        let now = Instant::now();
        let tokens = self.buckets.only().map(|bucket| bucket.status(now).tokens);
        let waiting = self.buckets.fold(0, |sum, bucket| sum + bucket.status(now).waiting);
        let mut shown = vec![
            ("burst", Shown::Count(self.settings.burst.into())),
            (
                "waiting",
                Shown::Gauge(waiting as u64, "Calls that wait for a token of a rate limiter"),
            ),
            (
                "waiting_for_clients",
                Shown::Gauge(
                    self.client_waits.count() as u64,
                    "Calls of a rate limiter that wait for their client's request body",
                ),
            ),
        ];
        // Those of several are no number that says anything.
        shown.extend(tokens.map(|tokens| {
            ("tokens", Shown::Gauge(tokens.into(), "Tokens that a rate limiter has"))
        }));
        shown.extend(self.buckets.count().map(|count| {
            (
                "keys",
                Shown::Gauge(count as u64, "Keys that have tokens of their own in a rate limiter"),
            )
        }));
        shown
    }

    fn key(&self) -> Option<&CallKey> {
        self.buckets.key()
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.buckets.show()
    }

    fn announces(&self) -> Vec<EventKind> {
        let kind = ErrorKind::RateLimited;
        let mut events = vec![
            CallEvent::Rejected { kind, retry_after: None }.into(),
            QueueEvent::Admitted { waited: Duration::ZERO }.into(),
        ];
        events.extend(self.buckets.announces());
        events
    }

    fn outline(&self) -> Outline<'_> {
        let BucketSettings { limit, per, burst } = self.settings;
        let (per, wait) = (ConfigDuration(per), ConfigDuration(self.max_wait));
        Outline {
            waits: self.max_wait,
            waits_for_breaker: self.max_wait,
            makes: &[Failure::RateLimited],
            waits_for_clients: true,
            ..Outline::passing(format!("{limit} in {per}, {burst} at once, waiting up to {wait}"))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            self.client_waits.gather(call).await?;
            let asker = Asker { policy: &self.name, scope: next.scope() };
            self.buckets.turn(call).await;
            let bucket = self.buckets.of(call, asker);
            let mut outcome = match self.enter(call, &bucket, next.deadline(call)).await {
                Ok(()) => next.run(call).await,
                Err(rejection) => Err(rejection),
            };
            self.tell(&bucket, &mut outcome);
            outcome
        })
    }
}

impl KeyedState for SharedBucket {
    fn is_at_rest(&self, now: Instant) -> bool {
        let BucketStatus { until_full, waiting, .. } = self.status(now);
        until_full.is_zero() && waiting == 0
    }

    fn show(&self, now: Instant) -> Vec<(&'static str, Shown)> {
        let BucketStatus { tokens, waiting, .. } = self.status(now);
        vec![("tokens", Shown::Count(tokens.into())), ("waiting", Shown::Count(waiting as u64))]
    }
}
