//! Circuit breaker: stops asking an upstream that keeps failing, until it has had time to recover.
//!
//! **What it protects from.** Waiting for, and piling load onto, an upstream that is down. Closed,
//! traffic flows and results are counted. Open, calls are rejected at once, with the remaining
//! delay as `Retry-After`. Half-open, a few calls try whether the upstream is well again. The state
//! diagram is in `circuit_breaker/machine.rs`.
//!
//! **What counts.** An outcome that `handle_if` takes is a failure, and so is a slow one
//! (`slow_call`), also if it was cut off. Any other response is a success, an inner fallback's
//! answer too, until its body breaks off (`circuit_breaker/late.rs`). Neutral, so that the permit
//! goes back and nothing is recorded: what `ignore_if` takes, an inner policy's rejection that
//! `handle_if` does not take, whatever is the client's fault or our own, what nobody asked the
//! upstream for (`circuit_breaker/judgement.rs`), a call that was cancelled. A component that reads
//! trailers has the last word when they have come (`circuit_breaker/provisional.rs`).
//!
//! **Events.** [`CircuitBreakerEvent`], [`CallEvent::Rejected`].
//!
//! **Composition.** Inside a retry, so that it counts attempts; outside a timeout, so that slow
//! attempts are failures. One breaker named by several routes, and shared by all workers, is one
//! breaker, unless there is one for each endpoint (`circuit_breaker/endpoints.rs`). While the
//! upstream is well, workers do not wait for each other in it:
//! `circuit_breaker/shared.rs`.

mod admission;
mod breaker;
mod changed;
mod config;
mod endpoint_circuits;
mod endpoints;
mod judgement;
mod late;
mod machine;
mod permit;
mod provisional;
mod result;
mod settings;
mod shared;
mod status;
mod trials;
mod window;

pub use config::{CircuitBreakerConfig, CircuitScopeConfig};
pub use status::CircuitStatus;
pub use window::WindowCounts;

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::body::LateFailureCause;
use crate::boxed::boxed;
use crate::call::Call;
use crate::clock;
use crate::condition::{Asker, ConditionConfig};
use crate::config::{ChangedDefault, Problem, Problems};
use crate::delay::{ComponentDelay, DelayConfig};
use crate::error::{ErrorKind, Failure};
use crate::event::{CallEvent, CircuitBreakerEvent, CircuitState, EventKind, Observers};
use crate::key::{CallKey, ShownValues};
use crate::keyed::{Keyed, KeyedState, KeysConfig};
use crate::native::Native;
use crate::outcome::Outcome;
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig, Shown, ShownEndpoint, ShownKeys};
use crate::slot::Slot;
use admission::Admission;
use breaker::{Breaker, BreakerSettings};
use config::CHANGED_DEFAULTS;
use endpoint_circuits::EndpointCircuits;
use settings::CircuitSettings;
use shared::SharedCircuit;

impl PolicyConfig for CircuitBreakerConfig {
    const KIND: &'static str = "circuit-breaker";
    const CHANGED_DEFAULTS: &'static [ChangedDefault] = CHANGED_DEFAULTS;

    type Policy = CircuitBreaker;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<CircuitBreaker, Vec<Problem>> {
        let mut problems = Problems::default();
        let thresholds = self.thresholds(&mut problems);
        if let Some(limit) = self.slow_call {
            problems.require_time(limit, "slow_call");
        }
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::ILLNESSES,
            parts,
            &mut problems,
        );
        let ignore_if = ConditionConfig::build(
            self.ignore_if,
            "ignore_if",
            Slot::IgnoreIf,
            Native::NOTHING,
            parts,
            &mut problems,
        );
        let settings = BreakerSettings {
            words: thresholds.to_string(),
            handle_if,
            ignore_if,
            slow_call: self.slow_call.map(|limit| limit.0),
            are_slow_apart: self.slow_call_rate.is_some(),
            retry_after: self.retry_after,
            delay: DelayConfig::build(self.delay, parts, &mut problems),
            max_delay: thresholds.max_delay,
        };
        let is_by_endpoint = self.scope == CircuitScopeConfig::Endpoint;
        problems.require(!is_by_endpoint || self.key.is_none(), "scope", || {
            "either a `key` or `scope = \"endpoint\"`".into()
        });
        let keys = KeysConfig { key: self.key, max_keys: self.max_keys, idle: self.idle };
        let keys = keys.build(parts, &mut problems);
        // Only then has a circuit a size that can be had.
        problems.into_result(())?;
        let circuits = Keyed::new(keys, move || {
            let seed = fastrand::u64(..);
            SharedCircuit::new(CircuitSettings { seed, ..thresholds }, Instant::now())
        });
        let of_endpoints = is_by_endpoint.then(|| EndpointCircuits::new(thresholds));
        Ok(CircuitBreaker(Breaker { name, settings, circuits, of_endpoints }.into()))
    }
}

/// Stops asking an upstream that keeps failing.
#[derive(Debug)]
pub struct CircuitBreaker(Arc<Breaker>);

/// The words of its states.
const STATES: &[&str] =
    &[CircuitState::Closed.name(), CircuitState::Open.name(), CircuitState::HalfOpen.name()];

impl CircuitBreaker {
    /// Where it stands, and why. With a `key`: the circuit of calls without a value.
    pub fn status(&self) -> CircuitStatus {
        self.0.circuits.one().status(Instant::now())
    }

    /// Moves it by hand. It goes on from there by its own rules: opened by hand, it turns half-open
    /// after its delay. With a `key`: the circuit of calls without a value.
    pub fn force(&self, state: CircuitState, observers: &Observers) {
        self.force_one(self.0.circuits.one(), state, None, observers);
    }

    fn force_one(
        &self,
        circuit: &SharedCircuit,
        state: CircuitState,
        key: Option<Arc<str>>,
        observers: &Observers,
    ) {
        if let Some(transition) = circuit.force(state, Instant::now()) {
            let changed = circuit.event(transition, key);
            observers.emit_for_policy(Some(&self.0.name), &changed.into());
        }
    }

    /// Moves the circuit of the endpoint with this URL, of each upstream that has one.
    fn force_endpoint(
        &self,
        circuits: &EndpointCircuits,
        state: CircuitState,
        named: &[String],
        observers: &Observers,
    ) -> Result<&'static str, String> {
        let [url] = named else {
            return Err("it has a state for each endpoint: say which, by `?key=URL`".to_owned());
        };
        let mut all = circuits.all();
        all.retain(|(name, _)| *name.endpoint == **url);
        for (_, circuit) in &all {
            self.force_one(circuit, state, None, observers);
        }
        let (_, circuit) =
            all.first().ok_or_else(|| "no endpoint of this URL was asked".to_owned())?;
        Ok(circuit.status(Instant::now()).state.name())
    }

    fn show_keys(&self, count: usize) -> Vec<(&'static str, Shown)> {
        let now = Instant::now();
        let (open, half_open) = self.0.circuits.fold((0, 0), |(open, half_open), circuit| {
            match if circuit.is_closed() { CircuitState::Closed } else { circuit.status(now).state }
            {
                CircuitState::Closed => (open, half_open),
                CircuitState::Open => (open + 1, half_open),
                CircuitState::HalfOpen => (open, half_open + 1),
            }
        });
        vec![
            (
                "keys",
                Shown::Gauge(
                    count as u64,
                    "Keys that have a circuit of their own in a circuit breaker",
                ),
            ),
            ("open_keys", Shown::Gauge(open, "Keys whose circuit is open")),
            ("half_open_keys", Shown::Gauge(half_open, "Keys whose circuit is half-open")),
        ]
    }
}

impl KeyedState for SharedCircuit {
    fn is_at_rest(&self, _: Instant) -> bool {
        self.is_closed()
    }

    fn show(&self, now: Instant) -> Vec<(&'static str, Shown)> {
        let CircuitStatus {
            state,
            counts,
            slow_calls,
            admitted,
            remaining_delay,
            trials,
            openings,
        } = self.status(now);
        vec![
            ("state", Shown::Word { is: state.name(), of: STATES }),
            ("successes", Shown::Count(counts.successes as u64)),
            ("failures", Shown::Count(counts.failures as u64)),
            ("failure_rate", Shown::Rate(counts.failure_rate())),
            ("slow_calls", Shown::Count(slow_calls as u64)),
            ("admitted", Shown::Rate(admitted)),
            ("remaining_delay", Shown::Time(remaining_delay)),
            ("trials", Shown::Count(trials as u64)),
            ("openings", Shown::Count(openings.into())),
        ]
    }
}

impl Policy for CircuitBreaker {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        CircuitBreakerConfig::KIND
    }

    fn show(&self) -> Vec<(&'static str, Shown)> {
        if self.0.of_endpoints.is_some() {
            return Vec::new();
        }
        match self.0.circuits.count() {
            None => self.0.circuits.one().show(Instant::now()),
            Some(count) => self.show_keys(count),
        }
    }

    fn key(&self) -> Option<&CallKey> {
        self.0.circuits.key()
    }

    fn keys(&self) -> Option<ShownKeys> {
        self.0.circuits.show()
    }

    fn endpoints(&self) -> Option<Vec<ShownEndpoint>> {
        self.0.of_endpoints.as_ref().map(|circuits| circuits.show(Instant::now()))
    }

    fn announces(&self) -> Vec<EventKind> {
        use CircuitState::{Closed, HalfOpen, Open};
        let changes = [(Closed, Open), (Open, HalfOpen), (HalfOpen, Open), (HalfOpen, Closed)];
        let changed = |(from, to)| {
            CircuitBreakerEvent::StateChanged { from, to, delay: None, key: None, endpoint: None }
                .into()
        };
        let rejected = CallEvent::Rejected { kind: ErrorKind::CircuitOpen, retry_after: None };
        let cause = LateFailureCause::Broken(ErrorKind::ConnectionTerminated);
        let late = CircuitBreakerEvent::FailedLate { cause };
        let changes = changes.into_iter().map(changed).chain([rejected.into(), late.into()]);
        changes.chain(self.0.circuits.announces()).collect()
    }

    fn commands(&self) -> &'static [&'static str] {
        &["open", "close", "half-open"]
    }

    fn command(
        &self,
        command: &str,
        key: &[String],
        observers: &Observers,
    ) -> Result<&'static str, String> {
        let state = match command {
            "open" => CircuitState::Open,
            "close" => CircuitState::Closed,
            "half-open" => CircuitState::HalfOpen,
            _ => return Err(format!("it takes no command `{command}`")),
        };
        if let Some(circuits) = &self.0.of_endpoints {
            return self.force_endpoint(circuits, state, key, observers);
        }
        let circuit = self.0.circuits.named(key)?;
        let mut shown = ShownValues::default();
        key.iter().for_each(|value| shown.push(Some(value.as_bytes())));
        let key = (!key.is_empty()).then(|| shown.into_text().into());
        self.force_one(&circuit, state, key, observers);
        Ok(circuit.status(Instant::now()).state.name())
    }

    fn outline(&self) -> Outline<'_> {
        let settings = &self.0.settings;
        let delay = settings.delay.as_ref();
        let words = delay.map_or(String::new(), ToString::to_string);
        let each = if self.0.of_endpoints.is_some() { ", each endpoint by itself" } else { "" };
        let peeked = settings.handle_if.peeked().max(settings.ignore_if.peeked());
        Outline {
            acts: Some(Acts {
                on: &settings.handle_if,
                but_on: Some(&settings.ignore_if),
                never: "nothing can open it",
                result: ActsResult::Counted {
                    slow_calls: settings.slow_call.is_some(),
                    by_endpoint: self.0.of_endpoints.is_some(),
                },
            }),
            makes: &[Failure::CircuitOpen],
            peeked: peeked.max(delay.map_or(0, ComponentDelay::peeked)),
            ..Outline::passing(format!("{}{words}{each}", settings.words))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        if let Some(circuits) = &self.0.of_endpoints {
            return boxed(|| endpoints::run(&self.0, circuits, call, next));
        }
        boxed(|| async move {
            let asker = Asker { policy: &self.0.name, scope: next.scope() };
            self.0.circuits.turn(call).await;
            let mut admission = Admission::of(&self.0, call, next);
            if !admission.is_open_to_all() {
                // A short body has come with the head: its client owes nothing.
                call.body().take_what_has_come().await;
            }
            admission.begin(next)?;
            let mut outcome = if admission.is_trial() {
                // Boxed to keep the common path's future small.
                Box::pin(admission.attend()).await
            } else {
                admission.run().await
            };
            // Before it is judged: a component's peek is not the upstream's slowness.
            let ended = clock::now();
            let judgement = match &self.0.settings.delay {
                None => admission.judge(asker, &mut outcome).await,
                // Boxed to keep the common path's future small.
                Some(delay) => Box::pin(admission.judge_ahead(delay, asker, &mut outcome)).await,
            };
            admission.answer(asker, &mut outcome, judgement, ended);
            outcome
        })
    }
}
