//! The states of a policy: one, or one for each key.
//!
//! Without a `key` a policy has one state, and looking for it costs nothing. With one, each value
//! has a state of its own, made when the value is first seen, and calls without a value share one.
//!
//! **Bounds.** A client may invent values. There are at most `max_keys` states: beyond that the one
//! goes that was used longest ago, of those that nobody misses, which are in use by no call and at
//! rest (a closed breaker, a full bucket). If there is none, newcomers share one state, with an
//! event: they are limited together, and nobody's limit is forgotten. What was not used for `idle`
//! goes too.
//!
//! **Values** are kept as 128 bits of keyed hashes, so that a long value costs no memory and nobody
//! can make two of them meet, and the beginning of each, to be shown.

use std::cmp::Reverse;
use std::future::ready;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, mem};

use futures_util::future::Either;
use tokio::time::Instant;

use crate::call::Call;
use crate::clock;
use crate::condition::Asker;
use crate::config::{ConfigDuration, Problems};
use crate::event::{EventKind, KeysEvent};
use crate::key::{CallKey, KeyConfig, KeyValues, ShownValues};
use crate::keyer::KeyQuestion;
use crate::parts::Parts;
use crate::policy::{Shown, ShownKey, ShownKeys};
use crate::question_turns::QuestionTurn;
use crate::recent::RecentMap;
use crate::value_hash::ValueHashKeys;

/// So many states are looked at for one that may go, so that a flood of newcomers costs little.
const LOOKS: usize = 64;
/// How many keys are shown.
const BUSIEST: usize = 20;
const MAX_KEYS: usize = 1_000_000;
/// Between two lines of the log about too many keys.
const TELLING: Duration = Duration::from_secs(10);
/// Calls are counted in this time and the one before.
const COUNTING: Duration = Duration::from_secs(60);

/// A state that there may be many of.
pub(crate) trait KeyedState: Send + Sync + fmt::Debug + 'static {
    /// Whether a new one would behave in the same way. Nobody uses it.
    fn is_at_rest(&self, now: Instant) -> bool;

    /// What it shows of itself.
    fn show(&self, now: Instant) -> Vec<(&'static str, Shown)>;
}

/// The keys of a policy, as the file says them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeysConfig {
    pub(crate) key: Option<KeyConfig>,
    pub(crate) max_keys: Option<usize>,
    pub(crate) idle: Option<ConfigDuration>,
}

/// How many states there may be, and whose.
#[derive(Clone, Debug)]
pub(crate) struct KeysSettings {
    key: CallKey,
    max_keys: usize,
    idle: Duration,
}

impl KeysConfig {
    /// `None`: there is one state for all calls.
    pub(crate) fn build(self, parts: &dyn Parts, problems: &mut Problems) -> Option<KeysSettings> {
        let Self { key, max_keys, idle } = self;
        let Some(key) = key else {
            problems.require(max_keys.is_none(), "max_keys", || "needs a `key`".into());
            problems.require(idle.is_none(), "idle", || "needs a `key`".into());
            return None;
        };
        let key = key.build("key", parts, problems);
        let max_keys = max_keys.unwrap_or(10_000);
        problems.require_within(max_keys, 1..=MAX_KEYS, "max_keys");
        let idle = idle.unwrap_or(ConfigDuration::from_secs(600));
        problems.require_time(idle, "idle");
        Some(KeysSettings { key, max_keys, idle: idle.0 })
    }
}

/// The states of a policy.
pub(crate) struct Keyed<S> {
    /// Of all calls, or of those without a value.
    one: Arc<S>,
    each: Option<Box<KeyedStates<S>>>,
}

struct KeyedStates<S> {
    settings: KeysSettings,
    hashes: ValueHashKeys,
    make: Box<dyn Fn() -> S + Send + Sync>,
    /// Of those for which there is no place.
    overflow: OnceLock<Arc<S>>,
    known: Mutex<KnownKeys<S>>,
}

struct KnownKeys<S> {
    states: RecentMap<KnownKey<S>>,
    /// From when calls are counted.
    origin: Instant,
    /// When it was last told that there are too many, and how many calls that has concerned since.
    told: Option<Instant>,
    untold: u64,
}

struct KnownKey<S> {
    state: Arc<S>,
    /// The beginning of its values.
    shown: Arc<str>,
    used: Instant,
    calls: CallCount,
}

/// Calls in the minute under way, and the one before.
#[derive(Debug, Default)]
struct CallCount {
    minute: u64,
    now: u64,
    before: u64,
}

impl CallCount {
    fn advance(&mut self, minute: u64) {
        if minute != self.minute {
            self.before = if minute == self.minute + 1 { self.now } else { 0 };
            (self.minute, self.now) = (minute, 0);
        }
    }

    fn add(&mut self, minute: u64) {
        self.advance(minute);
        self.now += 1;
    }

    fn get(&self, minute: u64) -> u64 {
        match minute.saturating_sub(self.minute) {
            0 => self.now + self.before,
            1 => self.now,
            _ => 0,
        }
    }
}

/// The state of a call.
#[derive(Debug)]
pub(crate) enum StateOf<'a, S> {
    /// There is one for all calls.
    Only(&'a Arc<S>),
    /// One of several.
    Held(HeldState<S>),
}

/// A state of several: as long as somebody has it, it stays.
#[derive(Debug)]
pub(crate) struct HeldState<S> {
    state: Arc<S>,
    /// The beginning of its key's values. `None`: it is of calls without one, or of newcomers.
    key: Option<Arc<str>>,
}

impl<S> StateOf<'_, S> {
    /// For what outlives the call. `None`: it is the only one, which the policy has.
    pub(crate) fn to_held(&self) -> Option<HeldState<S>> {
        match self {
            Self::Only(_) => None,
            Self::Held(held) => Some(held.clone()),
        }
    }

    /// Whose it is, for people. `None`: everybody's, or nobody's by name.
    pub(crate) fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Only(_) => None,
            Self::Held(held) => held.key(),
        }
    }
}

impl<S> HeldState<S> {
    /// One that no key has.
    pub(crate) fn of(state: Arc<S>) -> Self {
        Self { state, key: None }
    }

    pub(crate) fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// Whose it is, for people.
    pub(crate) fn key(&self) -> Option<&Arc<str>> {
        self.key.as_ref()
    }
}

impl<S> Clone for HeldState<S> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), key: self.key.clone() }
    }
}

impl<S> Deref for StateOf<'_, S> {
    type Target = Arc<S>;

    fn deref(&self) -> &Arc<S> {
        match self {
            Self::Only(state) => state,
            Self::Held(held) => &held.state,
        }
    }
}

impl<S: KeyedState> Keyed<S> {
    pub(crate) fn new(
        settings: Option<KeysSettings>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let one = Arc::new(make());
        let each = settings.map(|settings| Box::new(KeyedStates::new(settings, Box::new(make))));
        Self { one, each }
    }

    /// Waits until a call's state may be asked for, which has to follow at once.
    #[inline]
    pub(crate) fn turn<'a>(&self, call: &'a Call) -> QuestionTurn<'a> {
        let of_key = self.each.as_ref().map(|each| each.settings.key.turn(call));
        of_key.unwrap_or_else(|| Either::Left(ready(())))
    }

    /// The state of a call.
    #[inline]
    pub(crate) fn of(&self, call: &Call, asker: Asker<'_>) -> StateOf<'_, S> {
        match &self.each {
            None => StateOf::Only(&self.one),
            Some(each) => {
                let held = each.of_call(call, asker);
                StateOf::Held(held.unwrap_or_else(|| self.of_nobody()))
            }
        }
    }

    fn of_nobody(&self) -> HeldState<S> {
        HeldState { state: self.one.clone(), key: None }
    }

    /// The state of all calls, or of those without a value.
    pub(crate) fn one(&self) -> &Arc<S> {
        &self.one
    }

    /// The state of all calls; `None`: there is one for each key.
    pub(crate) fn only(&self) -> Option<&Arc<S>> {
        self.each.is_none().then_some(&self.one)
    }

    /// The state of these values, which an operator names.
    ///
    /// # Errors
    /// These are no key, or there is no place for one more.
    pub(crate) fn named(&self, values: &[String]) -> Result<StateOf<'_, S>, String> {
        let Some(each) = &self.each else {
            let is_right = values.is_empty();
            let wrong = || "it has no `key`: one state for all calls".to_owned();
            return is_right.then_some(StateOf::Only(&self.one)).ok_or_else(wrong);
        };
        let expected = each.settings.key.sources();
        if values.len() != expected {
            let times = if expected == 1 { String::new() } else { format!(", {expected} times") };
            return Err(format!("it has a state for each key: say which, by `?key=VALUE`{times}"));
        }
        let values = values.iter().map(|value| Some(value.as_bytes()).filter(|it| !it.is_empty()));
        let name = each.name(values.clone());
        let shown = || {
            let mut shown = ShownValues::default();
            values.for_each(|value| shown.push(value));
            shown
        };
        let state = each.lock().find_or_add(each, name, shown, clock::now());
        state.map(StateOf::Held).map_err(|_| "there are too many keys".to_owned())
    }

    /// All states, one after the other, in `init` and what `fold` makes of it.
    pub(crate) fn fold<T>(&self, init: T, mut fold: impl FnMut(T, &S) -> T) -> T {
        let mut folded = fold(init, &self.one);
        if let Some(each) = &self.each {
            for state in each.all() {
                folded = fold(folded, &state);
            }
        }
        folded
    }

    /// What it may emit.
    pub(crate) fn announces(&self) -> Option<EventKind> {
        self.each.as_ref().map(|_| KeysEvent::Overflowed { count: None }.into())
    }

    /// How many keys have a state. `None`: there is one for all calls.
    pub(crate) fn count(&self) -> Option<usize> {
        self.each.as_ref().map(|each| each.lock().states.len())
    }

    /// By what calls are told apart. `None`: by nothing.
    pub(crate) fn key(&self) -> Option<&CallKey> {
        Some(&self.each.as_ref()?.settings.key)
    }

    /// What `/state` shows of them.
    pub(crate) fn show(&self) -> Option<ShownKeys> {
        let each = self.each.as_ref()?;
        let now = Instant::now();
        let (count, busiest) = each.busiest(now);
        Some(ShownKeys {
            count,
            max: each.settings.max_keys,
            busiest,
            none: self.one.show(now),
            overflow: each.overflow.get().map(|state| state.show(now)),
        })
    }
}

impl<S: KeyedState> KeyedStates<S> {
    fn new(settings: KeysSettings, make: Box<dyn Fn() -> S + Send + Sync>) -> Self {
        let known = KnownKeys {
            states: RecentMap::default(),
            origin: Instant::now(),
            told: None,
            untold: 0,
        };
        Self {
            settings,
            hashes: ValueHashKeys::default(),
            make,
            overflow: OnceLock::new(),
            known: Mutex::new(known),
        }
    }

    /// `None`: the call has no value.
    fn of_call(&self, call: &Call, asker: Asker<'_>) -> Option<HeldState<S>> {
        let seen = KeyQuestion::of(call, asker.policy, asker.scope.deadline(call));
        // Before the lock: a component may have to be asked.
        let values = self.settings.key.values(&seen);
        if !values.is_any() {
            return None;
        }
        let (name, now) = (self.name(values.iter()), clock::now());
        let held = self.lock().find_or_add(self, name, || shown(&values), now);
        Some(held.unwrap_or_else(|TooManyKeys { count }| {
            call.emit(asker.policy, KeysEvent::Overflowed { count });
            let state = self.overflow.get_or_init(|| Arc::new((self.make)())).clone();
            HeldState { state, key: None }
        }))
    }

    fn name<'a>(&self, values: impl Iterator<Item = Option<&'a [u8]>>) -> u128 {
        let mut name = self.hashes.begin();
        values.for_each(|value| name.add(value));
        name.finish()
    }

    /// Each state, without the lock and without keeping one from going but for the moment in which
    /// it is looked at.
    fn all(&self) -> impl Iterator<Item = Arc<S>> {
        let all: Vec<_> =
            self.lock().states.iter().map(|known| Arc::downgrade(&known.state)).collect();
        all.into_iter().filter_map(|state| state.upgrade()).chain(self.overflow.get().cloned())
    }

    /// How many keys there are, and what those show that most calls are of.
    fn busiest(&self, now: Instant) -> (usize, Vec<ShownKey>) {
        let known = self.lock();
        let minute = known.minute(now);
        let count = known.states.len();
        let mut all: Vec<_> = (known.states.iter())
            .map(|known| (known.calls.get(minute), &known.shown, &known.state))
            .collect();
        let place = BUSIEST.min(all.len());
        if place > 0 && place < all.len() {
            all.select_nth_unstable_by_key(place, |(calls, ..)| Reverse(*calls));
        }
        all.truncate(BUSIEST);
        all.sort_by_key(|(calls, shown, _)| (Reverse(*calls), (*shown).clone()));
        let all: Vec<_> = all
            .into_iter()
            .map(|(calls, shown, state)| (calls, shown.clone(), Arc::downgrade(state)))
            .collect();
        drop(known);
        let shown = all.into_iter().filter_map(|(calls, key, state)| {
            Some(ShownKey { key, calls, shown: state.upgrade()?.show(now) })
        });
        (count, shown.collect())
    }

    fn lock(&self) -> MutexGuard<'_, KnownKeys<S>> {
        // It is never left half-changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: KeyedState> KnownKeys<S> {
    /// The state of this name, which is made if there is none.
    fn find_or_add(
        &mut self,
        of: &KeyedStates<S>,
        name: u128,
        shown: impl FnOnce() -> ShownValues,
        now: Instant,
    ) -> Result<HeldState<S>, TooManyKeys> {
        let minute = self.minute(now);
        if let Some(known) = self.states.get(name) {
            known.used = now;
            known.calls.add(minute);
            return Ok(known.held());
        }
        self.make_room(&of.settings, now)?;
        let mut calls = CallCount::default();
        calls.add(minute);
        let shown = shown().into_text().into();
        let known = KnownKey { state: Arc::new((of.make)()), shown, used: now, calls };
        let held = known.held();
        self.states.insert(name, known);
        Ok(held)
    }

    fn make_room(&mut self, settings: &KeysSettings, now: Instant) -> Result<(), TooManyKeys> {
        let is_old =
            |known: &KnownKey<S>| now.saturating_duration_since(known.used) > settings.idle;
        // Two for each that comes, so that they do not pile up.
        for _ in 0..2 {
            if self.states.oldest().is_some_and(is_old) {
                self.states.evict(1, |known| known.may_go(now));
            }
        }
        if self.states.len() < settings.max_keys
            || self.states.evict(LOOKS, |known| known.may_go(now))
        {
            return Ok(());
        }
        self.untold += 1;
        let is_soon = |told: Instant| now.saturating_duration_since(told) < TELLING;
        if self.told.is_some_and(is_soon) {
            return Err(TooManyKeys { count: None });
        }
        self.told = Some(now);
        Err(TooManyKeys { count: Some(mem::take(&mut self.untold)) })
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs() / COUNTING.as_secs()
    }
}

impl<S: KeyedState> KnownKey<S> {
    fn held(&self) -> HeldState<S> {
        HeldState { state: self.state.clone(), key: Some(self.shown.clone()) }
    }

    /// Nobody has it, and nobody would miss it. (Whoever gets it gets it under the lock.)
    fn may_go(&self, now: Instant) -> bool {
        Arc::strong_count(&self.state) == 1 && self.state.is_at_rest(now)
    }
}

fn shown(values: &KeyValues<'_>) -> ShownValues {
    let mut shown = ShownValues::default();
    values.iter().for_each(|value| shown.push(value));
    shown
}

/// There is no place for a further one.
struct TooManyKeys {
    /// How many calls that has concerned since it was last to be told; `None` if that was a moment
    /// ago.
    count: Option<u64>,
}

impl<S: fmt::Debug> fmt::Debug for Keyed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.each.as_ref().map(|each| &each.settings);
        f.debug_struct("Keyed").field("one", &self.one).field("keys", &keys).finish()
    }
}

#[cfg(test)]
mod tests;
