//! The machine as workers share it: most calls need to read only one word, which rarely changes.
//!
//! **Closed and well.** A call is admitted by one load. If the machine counts the last results and
//! all of them are successes, another success changes nothing: a second load finds that out. If the
//! machine counts by time, a success is added to the thread's own shard, which other threads read
//! when they judge a failure. So such a call writes to no cache line that another thread uses,
//! whether there is one worker or 64; before, it took the lock twice.
//!
//! **Open.** A call is rejected by one load.
//!
//! **Everything else** takes the lock: failures, successes while failures are remembered by their
//! order, trials, and the first success of each thread in each slice of time. Under the lock the
//! machine behaves as for a single thread. What does without the lock must come to the same as a
//! step of the machine at some moment within the call:
//!
//! - Each change of the machine stores the word before it releases the lock. The load is the
//!   moment: what it reads is true then. It sees every change that happened before, since threads
//!   agree on the order of stores to one word. The word has all that is decided by it, so no other
//!   memory needs to be ordered with it.
//! - A shard is open only while no success in its slice could change the state
//!   ([`CircuitMachine::is_safe_from_successes`]), which every step under the lock ensures before
//!   it judges: if it needs their counts, it closes and empties them one by one. A success that was
//!   added to a shard before is counted; one that comes after finds the shard closed, and waits for
//!   the lock.
//!
//! A failure costs as much as before. With a `period`, judging one looks at all shards only if it
//! might open the circuit, so at a steady rate of failures below the threshold that is rare.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::machine::{CircuitMachine, CircuitTransition};
use super::permit::{CircuitCaller, CircuitPermit, CircuitRejection};
use super::result::CircuitResult;
use super::settings::CircuitSettings;
use super::status::{CircuitStanding, CircuitStatus};
use super::trials::TrialBody;
use crate::event::{CircuitBreakerEvent, CircuitState, EndpointName};
use crate::gate::EndpointLook;
use crate::sharded::Sharded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A machine for many threads. Its functions are the machine's.
#[derive(Debug)]
pub(super) struct SharedCircuit {
    /// What `Word` says.
    word: CachePadded<AtomicU64>,
    /// Successes on their way to the machine; none if it does not count by time.
    shards: Option<Sharded<Mutex<SliceShard>>>,
    /// From when the time in `word` is told.
    origin: Instant,
    /// Whose it is, if there is one for each endpoint.
    endpoint: Option<Box<EndpointName>>,
    locked: CachePadded<Mutex<Locked>>,
}

#[derive(Debug)]
struct Locked {
    machine: CircuitMachine,
    /// Whether some shard may be open.
    has_open_shards: bool,
}

/// Successes that one thread has seen within a slice of time.
#[derive(Debug, Default)]
struct SliceShard {
    /// None: closed, and empty.
    slice: Option<Slice>,
    successes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    generation: u64,
    number: u64,
    ends: Instant,
}

/// What a call can know without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It needs the lock.
    Ask,
    /// Calls are let through.
    Closed { generation: u64 },
    /// Calls are let through, and a success changes nothing.
    Settled { generation: u64 },
    /// Calls are rejected until so many nanoseconds after the origin.
    Open { until: u64 },
}

impl Word {
    /// The two lowest bits tell which it is.
    const TAG: u32 = 2;
    const MAX: u64 = u64::MAX >> Self::TAG;

    fn encode(self) -> u64 {
        let (value, tag) = match self {
            Self::Ask => (0, 0),
            Self::Closed { generation } => (generation, 1),
            Self::Settled { generation } => (generation, 2),
            Self::Open { until } => (until, 3),
        };
        value << Self::TAG | tag
    }

    fn decode(word: u64) -> Self {
        let value = word >> Self::TAG;
        match word & 3 {
            0 => Self::Ask,
            1 => Self::Closed { generation: value },
            2 => Self::Settled { generation: value },
            _ => Self::Open { until: value },
        }
    }
}

impl SharedCircuit {
    pub(super) fn new(settings: CircuitSettings, now: Instant) -> Self {
        let shards = settings.failure.is_by_time().then(Sharded::default);
        Self::with_shards(settings, shards, now)
    }

    fn with_shards(
        settings: CircuitSettings,
        shards: Option<Sharded<Mutex<SliceShard>>>,
        now: Instant,
    ) -> Self {
        let shared = Self {
            word: CachePadded::new(AtomicU64::new(Word::Ask.encode())),
            shards,
            origin: now,
            endpoint: None,
            locked: CachePadded::new(Mutex::new(Locked {
                machine: CircuitMachine::new(settings, now),
                has_open_shards: false,
            })),
        };
        shared.publish(&shared.lock().machine);
        shared
    }

    /// The same as the circuit of this endpoint.
    pub(super) fn of_endpoint(self, name: EndpointName) -> Self {
        Self { endpoint: Some(name.into()), ..self }
    }

    /// Whose it is, if there is one for each endpoint.
    pub(super) fn endpoint(&self) -> Option<&EndpointName> {
        self.endpoint.as_deref()
    }

    /// The event of a change; `key`: it is the circuit of this one.
    pub(super) fn event(
        &self,
        transition: CircuitTransition,
        key: Option<Arc<str>>,
    ) -> CircuitBreakerEvent {
        let CircuitTransition { from, to, delay, .. } = transition;
        let endpoint = self.endpoint().cloned();
        CircuitBreakerEvent::StateChanged { from, to, delay, key, endpoint }
    }

    /// See [`CircuitMachine::look`].
    pub(super) fn look(&self, now: Instant) -> Result<EndpointLook, Duration> {
        match self.word() {
            Word::Closed { .. } | Word::Settled { .. } => Ok(EndpointLook::Ready),
            Word::Open { until } => {
                let remaining = until.saturating_sub(self.nanos(now));
                if remaining == 0 {
                    Ok(EndpointLook::Due)
                } else {
                    Err(Duration::from_nanos(remaining))
                }
            }
            Word::Ask => self.lock().machine.look(now),
        }
    }

    #[cfg(test)]
    pub(super) fn admit(
        &self,
        now: Instant,
    ) -> (Result<CircuitPermit, CircuitRejection>, Option<CircuitTransition>) {
        self.admit_call(CircuitCaller::default, now)
    }

    /// `caller` is asked for only where it matters.
    #[inline]
    pub(super) fn admit_call(
        &self,
        caller: impl FnOnce() -> CircuitCaller,
        now: Instant,
    ) -> (Result<CircuitPermit, CircuitRejection>, Option<CircuitTransition>) {
        match self.word() {
            Word::Closed { generation } | Word::Settled { generation } => {
                return (Ok(CircuitPermit::of_closed(generation)), None);
            }
            Word::Open { until } => {
                let remaining = until.saturating_sub(self.nanos(now));
                if remaining > 0 {
                    let remaining = Duration::from_nanos(remaining);
                    return (Err(CircuitRejection { remaining }), None);
                }
            }
            Word::Ask => {}
        }
        self.admit_by_machine(caller(), now)
    }

    fn admit_by_machine(
        &self,
        caller: CircuitCaller,
        now: Instant,
    ) -> (Result<CircuitPermit, CircuitRejection>, Option<CircuitTransition>) {
        let Locked { machine, .. } = &mut *self.lock();
        let admitted = machine.admit_call(caller, now);
        self.publish(machine);
        admitted
    }

    #[inline]
    pub(super) fn record(
        &self,
        permit: CircuitPermit,
        result: impl Into<CircuitResult>,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitTransition> {
        let result = result.into();
        match self.word() {
            // Generations only grow, so what is a straggler here stays one; as for open, nothing
            // counts there.
            Word::Closed { generation } | Word::Settled { generation }
                if generation != permit.generation =>
            {
                return None;
            }
            Word::Open { .. } => return None,
            Word::Settled { .. } if result.is_good() => return None,
            Word::Closed { .. } if result.is_good() && self.count(permit, now) => return None,
            Word::Closed { .. } | Word::Settled { .. } | Word::Ask => {}
        }
        self.record_by_machine(permit, result, requested, now)
    }

    fn record_by_machine(
        &self,
        permit: CircuitPermit,
        result: CircuitResult,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitTransition> {
        let locked = &mut *self.lock();
        if !locked.machine.take(permit, result, now) {
            return None;
        }
        if !locked.machine.is_safe_from_successes(now) {
            self.close_shards(locked);
        }
        let transition = locked.machine.judge(requested, now);
        if result.is_good() && locked.machine.is_safe_from_successes(now) {
            self.open_shard(locked, permit.generation);
        }
        self.publish(&locked.machine);
        transition
    }

    /// See [`CircuitMachine::answered`].
    pub(super) fn answered(&self, permit: CircuitPermit, body: &Arc<TrialBody>, now: Instant) {
        self.lock().machine.answered(permit, body, now);
    }

    /// Records that what was a success by its head, which came at `head`, is a failure.
    pub(super) fn record_late(
        &self,
        permit: CircuitPermit,
        head: Instant,
        now: Instant,
    ) -> Option<CircuitTransition> {
        let locked = &mut *self.lock();
        // The success may be in one of them.
        self.close_shards(locked);
        if !locked.machine.take_late(permit, head, now) {
            return None;
        }
        let transition = locked.machine.judge(None, now);
        self.publish(&locked.machine);
        transition
    }

    pub(super) fn release(&self, permit: CircuitPermit, now: Instant) {
        match self.word() {
            // Only a trial's permit is missed, and this is none, or one of trials that are over.
            Word::Closed { .. } | Word::Settled { .. } | Word::Open { .. } => {}
            Word::Ask => self.lock().machine.release(permit, now),
        }
    }

    pub(super) fn force(&self, state: CircuitState, now: Instant) -> Option<CircuitTransition> {
        let locked = &mut *self.lock();
        self.close_shards(locked);
        let transition = locked.machine.force(state, now);
        self.publish(&locked.machine);
        transition
    }

    /// See [`CircuitMachine::stay_open`].
    pub(super) fn stay_open(&self, generation: u64, time: Duration) -> bool {
        let Locked { machine, .. } = &mut *self.lock();
        let is_open = machine.stay_open(generation, time);
        self.publish(machine);
        is_open
    }

    pub(super) fn status(&self, now: Instant) -> CircuitStatus {
        let locked = &mut *self.lock();
        self.close_shards(locked);
        locked.machine.status(now)
    }

    /// Whether it is closed, as far as can be known without the lock.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.word(), Word::Closed { .. } | Word::Settled { .. })
    }

    /// Counts a success in this thread's shard, if that is open for it.
    fn count(&self, permit: CircuitPermit, now: Instant) -> bool {
        let Some(shards) = &self.shards else { return false };
        let mut shard = lock(shards.own());
        let is_open = shard
            .slice
            .is_some_and(|slice| slice.generation == permit.generation && now < slice.ends);
        shard.successes += usize::from(is_open);
        is_open
    }

    /// Opens this thread's shard for the slice under way.
    fn open_shard(&self, locked: &mut Locked, generation: u64) {
        let Some(shards) = &self.shards else { return };
        let mut shard = lock(shards.own());
        shard.empty_into(&mut locked.machine);
        shard.slice = locked.machine.slices().map(|slices| {
            let (number, ends) = slices.under_way();
            Slice { generation, number, ends }
        });
        locked.has_open_shards = true;
    }

    fn close_shards(&self, locked: &mut Locked) {
        if let Some(shards) = self.shards.as_ref().filter(|_| locked.has_open_shards) {
            for shard in shards.iter() {
                lock(shard).empty_into(&mut locked.machine);
            }
            locked.has_open_shards = false;
        }
    }

    /// Tells what a change under the lock has come to.
    fn publish(&self, machine: &CircuitMachine) {
        let word = match machine.standing() {
            CircuitStanding::Closed { generation, is_settled: false } => {
                Word::Closed { generation }
            }
            CircuitStanding::Closed { generation, is_settled: true } => {
                Word::Settled { generation }
            }
            CircuitStanding::Open { until: Some(until) } if self.nanos(until) < Word::MAX => {
                Word::Open { until: self.nanos(until) }
            }
            CircuitStanding::Open { .. } | CircuitStanding::Ramping | CircuitStanding::HalfOpen => {
                Word::Ask
            }
        };
        // A store would take the cache line from all who read it.
        if self.word() != word {
            self.word.store(word.encode(), Ordering::Release);
        }
    }

    fn word(&self) -> Word {
        Word::decode(self.word.load(Ordering::Acquire))
    }

    fn nanos(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        lock(&self.locked)
    }
}

impl SliceShard {
    /// Closes it.
    fn empty_into(&mut self, machine: &mut CircuitMachine) {
        let successes = std::mem::take(&mut self.successes);
        if let (Some(slice), Some(slices)) = (self.slice.take(), machine.slices()) {
            slices.add_successes(slice.number, successes);
        }
    }
}

/// Neither a machine nor a shard can be left half-changed, so a panic elsewhere while it was locked
/// does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
