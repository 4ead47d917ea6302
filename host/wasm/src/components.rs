//! All components of a configuration.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fusebox_resilience::{Delayer, Keyer, Observers, Predicate, Responder};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::compiler::Compiler;
use crate::config::ComponentConfig;
use crate::contract::ContractExport;
use crate::cross_check::CrossChecks;
use crate::delayer::ComponentDelayer;
use crate::keyer::ComponentKeyer;
use crate::memory::ComponentMemory;
use crate::pool;
use crate::predicate::ComponentPredicate;
use crate::probe::put;
use crate::responder::ComponentResponder;
use crate::runtime::Runtime;
use crate::seat::caller::{Caller, warm};
use crate::seat::reload::{Reload, RollBack};
use crate::seat::{Seat, SeatParts};
use crate::status::ComponentStatus;

/// How long an instance keeps the memory that it has grown by without being called.
const IDLE: Duration = Duration::from_secs(10);

/// All components of a configuration, by name. Clones are the same components.
#[derive(Clone, Debug)]
pub struct Components {
    seats: Arc<BTreeMap<String, Arc<Seat>>>,
    swaps: watch::Sender<u64>,
}

impl Components {
    /// Loads every component; relative files are relative to `directory`. Blocks while `compiler`
    /// compiles. All guests together get no more than `memory`.
    ///
    /// # Errors
    /// The name of each component that is not acceptable, and the reason.
    pub fn load(
        configs: BTreeMap<String, ComponentConfig>,
        directory: &Path,
        compiler: Compiler,
        memory: ComponentMemory,
        observers: Observers,
    ) -> Result<Self, Vec<(String, anyhow::Error)>> {
        let swaps = watch::Sender::new(0);
        let (mut seats, mut failures, mut runtimes) =
            (BTreeMap::new(), Vec::new(), Runtimes::new(compiler, memory, &configs));
        for (name, mut config) in configs {
            let file = directory.join(&config.file);
            config.cases = config.cases.map(|cases| directory.join(cases));
            let place = format!("component `{name}` ({})", file.display());
            let seat = runtimes.of(&config).and_then(|runtime| {
                Seat::load(SeatParts {
                    name: name.as_str().into(),
                    file,
                    config: config.into(),
                    runtime,
                    observers: observers.clone(),
                    swaps: swaps.clone(),
                    checks: CrossChecks::new(put),
                })
            });
            match seat {
                Ok(seat) => {
                    seats.insert(name, Arc::new(seat));
                }
                Err(error) => failures.push((name, error.context(place))),
            }
        }
        if failures.is_empty() { Ok(Self { seats: Arc::new(seats), swaps }) } else { Err(failures) }
    }

    fn seat(&self, name: &str) -> Result<&Arc<Seat>, String> {
        self.seats.get(name).ok_or_else(|| {
            let names: Vec<_> = self.seats.keys().map(|name| format!("`{name}`")).collect();
            let there_are = if names.is_empty() {
                "there are none".into()
            } else {
                format!("there are {}", names.join(", "))
            };
            format!("no component `{name}`; {there_are}")
        })
    }

    /// The component of this name as a condition.
    ///
    /// # Errors
    /// There is no such component, or it exports no `predicate`.
    pub fn predicate(&self, name: &str) -> Result<Arc<dyn Predicate>, String> {
        let seat = self.seat(name)?;
        seat.ledger().need(ContractExport::Predicate)?;
        Ok(Arc::new(ComponentPredicate(Caller::new(seat.ledger().clone()))))
    }

    /// The component of this name as a source of fallback responses.
    ///
    /// # Errors
    /// There is no such component, or it exports neither `fallback` nor the standard handler of
    /// HTTP requests.
    pub fn responder(&self, name: &str) -> Result<Arc<dyn Responder>, String> {
        let seat = self.seat(name)?;
        seat.ledger().need(ContractExport::Fallback)?;
        Ok(Arc::new(ComponentResponder(Caller::new(seat.ledger().clone()))))
    }

    /// The component of this name as one who knows how long to wait.
    ///
    /// # Errors
    /// There is no such component, or it exports no `delay`.
    pub fn delayer(&self, name: &str) -> Result<Arc<dyn Delayer>, String> {
        let seat = self.seat(name)?;
        seat.ledger().need(ContractExport::Delay)?;
        Ok(Arc::new(ComponentDelayer(Caller::new(seat.ledger().clone()))))
    }

    /// The component of this name as one who knows whose call it is.
    ///
    /// # Errors
    /// There is no such component, or it exports no `key`.
    pub fn keyer(&self, name: &str) -> Result<Arc<dyn Keyer>, String> {
        let seat = self.seat(name)?;
        seat.ledger().need(ContractExport::Key)?;
        Ok(Arc::new(ComponentKeyer(Caller::new(seat.ledger().clone()))))
    }

    /// Whether there is a component of this name.
    pub fn has(&self, name: &str) -> bool {
        self.seats.contains_key(name)
    }

    /// Every component's name and file, for a file watcher.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.seats.iter().map(|(name, seat)| (name.as_str(), seat.ledger().file()))
    }

    /// Loads a component's file again, and replaces the component if the content is new and
    /// acceptable. Emits events. Blocks while it compiles.
    ///
    /// The new version must export what policies use. Content that was rolled back is refused.
    pub fn reload(&self, name: &str) -> Reload {
        self.seat(name).map_or_else(Reload::Rejected, |seat| seat.reload())
    }

    /// [`reload`](Self::reload) of every component, with the result of each. None waits for
    /// another.
    pub fn reload_all(&self) -> BTreeMap<String, Reload> {
        self.of_each(Seat::reload)
    }

    /// [`reload`](Self::reload) if the file has other content than when it was last read. Does not
    /// wait for content that is being tried already.
    pub fn file_changed(&self, name: &str) {
        if let Some(seat) = self.seats.get(name) {
            seat.file_changed(true);
        }
    }

    /// Whether [`file_changed`](Self::file_changed) has something to do though the file has not
    /// changed: content that was overtaken by what came to nothing.
    pub fn has_untried(&self, name: &str) -> bool {
        self.seats.get(name).is_some_and(|seat| seat.has_untried())
    }

    /// [`reload`](Self::reload) of every component, but does not wait for content that is being
    /// tried already.
    pub fn retry_all(&self) {
        self.of_each(|seat| seat.file_changed(false));
    }

    /// Does something slow with every component, each on a thread of its own, if there are so many.
    fn of_each<R: Send>(&self, work: impl Fn(&Seat) -> R + Sync) -> BTreeMap<String, R> {
        let work = &work;
        thread::scope(|scope| {
            let begin = |seat: &'_ Arc<Seat>| {
                let seat = seat.clone();
                let thread = thread::Builder::new().name("fusebox-reload".into());
                thread.spawn_scoped(scope, move || work(&seat))
            };
            let begun: Vec<_> =
                self.seats.iter().map(|(name, seat)| (name, seat, begin(seat))).collect();
            let ended = begun.into_iter().filter_map(|(name, seat, thread)| {
                let result = match thread {
                    Ok(thread) => thread.join().ok()?,
                    Err(_) => work(seat),
                };
                Some((name.clone(), result))
            });
            ended.collect()
        })
    }

    /// Replaces a component by these bytes, and then its file, durably. Otherwise like
    /// [`reload`](Self::reload), but content that was rolled back is accepted. A newer push or a
    /// change of the file overtakes it.
    pub fn push(&self, name: &str, bytes: Vec<u8>) -> Reload {
        self.seat(name).map_or_else(Reload::Rejected, |seat| seat.push(bytes))
    }

    /// Restores the previous version, without probation, and its file too if a push replaced it.
    /// Blocks while it writes.
    ///
    /// # Errors
    /// There is no such component, or no earlier version is kept.
    pub fn roll_back(&self, name: &str) -> Result<RollBack, String> {
        self.seat(name)?.roll_back()
    }

    /// Restores files whose pushed content was rolled back automatically, which workers must not do
    /// themselves. Blocks while it writes.
    pub fn settle(&self) {
        self.seats.values().for_each(|seat| seat.settle());
    }

    /// Drops this thread's instances of versions that were replaced, and starts those of the
    /// versions in use.
    ///
    /// Each worker calls it when [`changed`](Self::changed) fires. A swap does not depend on it (no
    /// call begins on a replaced version), but without it an old instance stays until the next
    /// call, which then waits for the new one to start.
    pub fn refresh_instances(&self) {
        pool::drop_stale();
        self.seats.values().for_each(|seat| warm(seat.ledger()));
    }

    /// Replaces this thread's instances that have grown and were not called for a while by fresh
    /// ones, which gives their memory back to the system. Each worker calls it now and then.
    pub fn give_back_memory(&self, now: Instant) {
        if now.checked_sub(IDLE).is_some_and(pool::drop_grown) {
            self.seats.values().for_each(|seat| warm(seat.ledger()));
        }
    }

    /// The status of each component, ordered by name.
    pub fn status(&self) -> Vec<ComponentStatus> {
        self.seats.values().map(|seat| seat.ledger().status()).collect()
    }

    /// Changes at each swap and roll-back. Workers then call
    /// [`refresh_instances`](Self::refresh_instances).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }
}

/// The runtimes that components need: one for each size of stack, so usually one. Without
/// components there is no engine and no ticker.
struct Runtimes {
    compiler: Compiler,
    memory: ComponentMemory,
    shortest_timeout: Duration,
    by_stack: BTreeMap<usize, Arc<Runtime>>,
}

impl Runtimes {
    fn new(
        compiler: Compiler,
        memory: ComponentMemory,
        configs: &BTreeMap<String, ComponentConfig>,
    ) -> Self {
        let shortest_timeout =
            configs.values().map(|config| config.timeout.0).min().unwrap_or_default();
        Self { compiler, memory, shortest_timeout, by_stack: BTreeMap::new() }
    }

    fn of(&mut self, config: &ComponentConfig) -> anyhow::Result<Arc<Runtime>> {
        match self.by_stack.entry(config.stack()) {
            Entry::Occupied(runtime) => Ok(runtime.get().clone()),
            Entry::Vacant(entry) => {
                let runtime = Runtime::new(
                    self.compiler.clone(),
                    self.memory.clone(),
                    self.shortest_timeout,
                    *entry.key(),
                )?;
                Ok(entry.insert(Arc::new(runtime)).clone())
            }
        }
    }
}
