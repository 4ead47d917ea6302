//! The seam: a policy is a loop around the rest of the pipeline.
//!
//! A policy gets the call and the rest of the pipeline, and runs the rest zero, one or several
//! times, in sequence or at once. Everything it runs borrows the call and lives in the future that
//! it returned, so dropping that future cancels everything inside; policies spawn nothing.
//!
//! A kind of policy describes itself: [`PolicyConfig`] says how it is configured, [`Policy`] how it
//! runs, what it shows and what it can be told. Nothing outside its module knows it by name but the
//! list of kinds (`policies.rs`) and those who read its events.

use std::any::Any;
use std::fmt;
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::call::Call;
use crate::clock;
use crate::config::{ChangedDefault, Problem};
use crate::error::{Error, ErrorKind};
use crate::event::{CallEvent, EndpointName, EventKind, Observers};
use crate::key::CallKey;
use crate::outcome::Outcome;
use crate::outline::Outline;
use crate::parts::Parts;
use crate::scope::{Scope, Upstream};

/// A loop around the rest of the pipeline.
///
/// Per-call state lives in the returned future; what is shared between calls (a breaker's counts)
/// lives in the policy, which is one object for all workers and is therefore `Send + Sync`,
/// although its futures are not.
pub trait Policy: Send + Sync + fmt::Debug {
    /// The name that the configuration gave it.
    fn name(&self) -> &Arc<str>;

    /// The `kind` of its configuration.
    fn kind(&self) -> &'static str;

    /// Whether it may run the rest of the pipeline more than once, so that request bodies are kept.
    fn repeats(&self) -> bool {
        false
    }

    /// By what it tells calls apart; `None`: by nothing.
    fn key(&self) -> Option<&CallKey> {
        None
    }

    /// What `/state` and metrics show of it.
    fn show(&self) -> Vec<(&'static str, Shown)> {
        Vec::new()
    }

    /// An example of each event that it may emit and metrics count, so that a counter is there, at
    /// 0, before the first event.
    fn announces(&self) -> Vec<EventKind> {
        Vec::new()
    }

    /// The commands that an operator can give it.
    fn commands(&self) -> &'static [&'static str] {
        &[]
    }

    /// Carries out one of its commands, and says in a word where it stands then. `key` are the
    /// values of the key whose state is meant, if there are several.
    ///
    /// # Errors
    /// It is none of its commands, or nobody's key.
    fn command(
        &self,
        _command: &str,
        _key: &[String],
        _observers: &Observers,
    ) -> Result<&'static str, String> {
        Err("it takes no command".to_owned())
    }

    /// What `/state` shows of its keys. `None`: it has one state for all calls.
    fn keys(&self) -> Option<ShownKeys> {
        None
    }

    /// What `/state` and metrics show of each endpoint. `None`: it does not tell them apart.
    fn endpoints(&self) -> Option<Vec<ShownEndpoint>> {
        None
    }

    /// What it does to a call, at most and at worst.
    fn outline(&self) -> Outline<'_> {
        Outline::passing("")
    }

    /// Runs the call. Dropping the future cancels the call; whatever was acquired goes back
    /// neutrally.
    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome>;
}

/// Something that a policy shows of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// One word of a list. Metrics have a gauge for each word of the list, 1 for this one.
    Word {
        /// This one.
        is: &'static str,
        /// All that it may be.
        of: &'static [&'static str],
    },
    /// A count.
    Count(u64),
    /// A count that metrics show too, and say what it is.
    Gauge(u64, &'static str),
    /// A part, 0 to 1.
    Rate(f64),
    /// A part, 0 to 1, that metrics show too, and say what it is.
    RateGauge(f64, &'static str),
    /// A time. `/state` has it in milliseconds, with `_ms` added to the name.
    Time(Duration),
}

/// The states of a policy that has one for each key.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownKeys {
    /// How many keys have one.
    pub count: usize,
    /// How many may have one.
    pub max: usize,
    /// Those of which most calls were in this minute and the one before.
    pub busiest: Vec<ShownKey>,
    /// The state of calls without a value.
    pub none: Vec<(&'static str, Shown)>,
    /// The state that newcomers share, if there were ever too many.
    pub overflow: Option<Vec<(&'static str, Shown)>>,
}

/// The state of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownKey {
    /// The beginning of its values.
    pub key: Arc<str>,
    /// Calls in this minute and the one before.
    pub calls: u64,
    /// What it shows.
    pub shown: Vec<(&'static str, Shown)>,
}

/// The state of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownEndpoint {
    /// Which.
    pub name: EndpointName,
    /// What it shows.
    pub shown: Vec<(&'static str, Shown)>,
}

/// What the configuration says of one policy: plain values, unknown keys refused.
pub trait PolicyConfig: DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + 'static {
    /// The word that `kind` has in the configuration.
    const KIND: &'static str;
    /// Its defaults that are not what they were.
    const CHANGED_DEFAULTS: &'static [ChangedDefault] = &[];

    /// What it becomes: made once, it cannot be invalid.
    type Policy: Policy + 'static;

    /// The policy under this name.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<Self::Policy, Vec<Problem>>;

    /// What is allowed but hardly meant.
    fn warnings(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// The upstreams that it asks itself, beside that of the route.
    fn upstreams(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// A [`PolicyConfig`] of any kind.
pub trait AnyPolicyConfig: fmt::Debug + Send {
    /// Its [`PolicyConfig::KIND`].
    fn kind(&self) -> &'static str;

    /// See [`PolicyConfig::build`].
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn build_any(&self, name: Arc<str>, parts: &dyn Parts)
    -> Result<Arc<dyn Policy>, Vec<Problem>>;

    /// See [`PolicyConfig::warnings`].
    fn warnings(&self) -> Vec<Problem>;

    /// See [`PolicyConfig::upstreams`].
    fn upstreams(&self) -> Vec<&str>;

    /// See [`PolicyConfig::CHANGED_DEFAULTS`].
    fn changed_defaults(&self) -> &'static [ChangedDefault];

    /// Whether the other one says the same, so that a policy of it need not be made anew.
    fn is_same(&self, other: &dyn AnyPolicyConfig) -> bool;

    /// For [`is_same`](Self::is_same) of others.
    fn as_any(&self) -> &dyn Any;
}

impl<C: PolicyConfig> AnyPolicyConfig for C {
    fn kind(&self) -> &'static str {
        C::KIND
    }

    fn build_any(
        &self,
        name: Arc<str>,
        parts: &dyn Parts,
    ) -> Result<Arc<dyn Policy>, Vec<Problem>> {
        Ok(Arc::new(self.clone().build(name, parts)?))
    }

    fn warnings(&self) -> Vec<Problem> {
        PolicyConfig::warnings(self)
    }

    fn upstreams(&self) -> Vec<&str> {
        PolicyConfig::upstreams(self)
    }

    fn changed_defaults(&self) -> &'static [ChangedDefault] {
        C::CHANGED_DEFAULTS
    }

    fn is_same(&self, other: &dyn AnyPolicyConfig) -> bool {
        other.as_any().downcast_ref::<C>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Reads one table of the configuration into whatever a kind of policy needs.
pub trait ReadPolicyConfig {
    /// The table's values; `None` if they were wrong, which the reader has noted.
    fn read<C: PolicyConfig>(&mut self) -> Option<C>;
}

/// A kind of policy, for a reader `R`.
pub struct PolicyKind<R> {
    /// Its word in the configuration.
    pub name: &'static str,
    /// Reads what the configuration says of one policy.
    pub read: fn(&mut R) -> Option<Box<dyn AnyPolicyConfig>>,
}

impl<R: ReadPolicyConfig> PolicyKind<R> {
    /// The kind that `C` configures.
    pub(crate) fn of<C: PolicyConfig>() -> Self {
        Self { name: C::KIND, read: |reader| Some(Box::new(reader.read::<C>()?)) }
    }
}

impl<R> fmt::Debug for PolicyKind<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyKind").field(&self.name).finish()
    }
}

/// An attempt with less time before its deadline is not made.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(1);

/// The rest of the pipeline, `Copy` so that a policy can run it again, or several times at once.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    policies: &'a [Arc<dyn Policy>],
    scope: &'a Scope<'a>,
}

impl<'a> Next<'a> {
    /// Runs what is left of the pipeline.
    pub fn run(self, call: &'a Call) -> LocalBoxFuture<'a, Outcome> {
        match self.policies.split_first() {
            Some((policy, rest)) => policy.run(call, Next { policies: rest, ..self }),
            None if call.request().deadline().is_some() && self.is_too_late(call) => {
                Box::pin(ready(Err(ErrorKind::Timeout.into())))
            }
            None => self.scope.upstream().attempt(call, self.scope),
        }
    }

    /// Whether so little time is left that an attempt could only be cut off.
    #[cold]
    fn is_too_late(&self, call: &Call) -> bool {
        let end = self.scope.deadline(call);
        end.is_some_and(|end| end.saturating_duration_since(clock::now()) < SHORTEST_ATTEMPT)
    }

    /// Where it runs.
    pub fn scope(&self) -> &'a Scope<'a> {
        self.scope
    }

    /// When the nearest timeout around the caller ends it. See [`Scope::deadline`].
    pub fn deadline(&self, call: &Call) -> Option<Instant> {
        self.scope.deadline(call)
    }

    /// The same rest for a run that may outlive the call; `None`: the upstream has none of these.
    pub fn detached(&self) -> Option<DetachedPipeline> {
        let upstream = self.scope.upstream().detached()?;
        Some(DetachedPipeline { policies: self.policies.to_vec(), upstream })
    }

    /// The same rest in another scope, made of [`scope`](Self::scope).
    #[must_use]
    pub fn within<'b>(self, scope: &'b Scope<'b>) -> Next<'b>
    where
        'a: 'b,
    {
        Next { policies: self.policies, scope }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.policies.iter().map(|policy| policy.name());
        f.debug_struct("Next")
            .field("scope", &self.scope)
            .field("policies", &names.collect::<Vec<_>>())
            .finish()
    }
}

/// The rest of a pipeline with its upstream, for a run that outlives its call. No limit around the
/// policy that makes it holds for such a run.
pub struct DetachedPipeline {
    policies: Vec<Arc<dyn Policy>>,
    upstream: Rc<dyn Upstream>,
}

impl DetachedPipeline {
    /// The scope of a whole run.
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(&*self.upstream)
    }

    /// What is to be run there.
    pub fn next<'a>(&'a self, scope: &'a Scope<'a>) -> Next<'a> {
        Next { policies: &self.policies, scope }
    }
}

impl fmt::Debug for DetachedPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedPipeline").field("policies", &self.policies).finish_non_exhaustive()
    }
}

/// Policies in order, outermost first: `[a, b, c]` runs `a(b(c(upstream)))`, as failsafe-go's
/// `With(a, b, c)` does.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    policies: Arc<[Arc<dyn Policy>]>,
}

impl Pipeline {
    /// A pipeline of these policies, outermost first.
    pub fn new(policies: impl Into<Arc<[Arc<dyn Policy>]>>) -> Self {
        Self { policies: policies.into() }
    }

    /// Its policies, outermost first.
    pub fn policies(&self) -> &[Arc<dyn Policy>] {
        &self.policies
    }

    /// Runs the call through the policies to the scope's upstream. Dropping the future cancels all
    /// of it.
    pub fn execute<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        Next { policies: &self.policies, scope }.run(call)
    }

    /// The same until the call's deadline. It is a timeout outside all policies: what it cuts off
    /// counts nowhere.
    pub fn execute_in_time<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        let run = self.execute(call, scope);
        match call.request().deadline() {
            None => run,
            Some(deadline) => Box::pin(cut(call, deadline, run)),
        }
    }
}

async fn cut(call: &Call, deadline: Instant, run: LocalBoxFuture<'_, Outcome>) -> Outcome {
    if let Ok(outcome) = timeout_at(deadline, run).await {
        return outcome;
    }
    let (attempt, started) = (call.attempts(), call.request().started());
    let limit = deadline.saturating_duration_since(started);
    call.emit_own_about(attempt, CallEvent::DeadlineExceeded { limit });
    Err(Error::new(ErrorKind::Timeout).of_attempt(attempt))
}
