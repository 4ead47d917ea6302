//! Watches the workers: one that is blocked is told of and gets no more connections, and the
//! process does not outlive one that is lost. (Whoever starts it anew does better than one that
//! answers some clients and not others.)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{EventKind, Observers, ServerEvent};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::load::WorkerLoad;
use super::pulse::{BEAT, Pulse, PulseChange};

/// A worker is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLost {
    worker: usize,
    /// For how long it has been blocked; `None` if its thread has ended.
    silence: Option<Duration>,
}

impl fmt::Display for WorkerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} ", self.worker)?;
        match self.silence {
            Some(silence) => write!(f, "has been blocked for {} s", silence.as_secs()),
            None => f.write_str("has ended"),
        }
    }
}

impl std::error::Error for WorkerLost {}

/// Says that a worker's thread has ended, however it does.
#[derive(Debug)]
pub(super) struct EndNotice {
    worker: usize,
    ends: mpsc::UnboundedSender<usize>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.ends.send(self.worker).ok();
    }
}

/// Watches workers.
#[derive(Debug)]
pub(super) struct Supervisor {
    loads: Vec<Arc<WorkerLoad>>,
    ends: mpsc::UnboundedSender<usize>,
    ended: mpsc::UnboundedReceiver<usize>,
}

impl Supervisor {
    /// Of so many workers, to be started.
    pub(super) fn new(workers: usize) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        Self { loads: (0..workers).map(|_| Arc::default()).collect(), ends, ended }
    }

    /// The load of each worker.
    pub(super) fn loads(&self) -> &[Arc<WorkerLoad>] {
        &self.loads
    }

    /// For the thread of a worker, to be dropped at its end.
    pub(super) fn notice(&self, worker: usize) -> EndNotice {
        EndNotice { worker, ends: self.ends.clone() }
    }

    /// Watches until a worker is lost. A call into a component may block one for `longest_call`.
    pub(super) async fn watch(
        mut self,
        longest_call: Duration,
        observers: &Observers,
    ) -> WorkerLost {
        let mut pulses = vec![Pulse::new(longest_call); self.loads.len()];
        let mut looks = interval(BEAT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = loop {
            tokio::select! {
                Some(worker) = self.ended.recv() => break WorkerLost { worker, silence: None },
                _ = looks.tick() => {}
            }
            if let Some(lost) = self.look(&mut pulses, observers) {
                break lost;
            }
        };
        let WorkerLost { worker, silence } = lost;
        tell(observers, ServerEvent::WorkerLost { worker, silence });
        lost
    }

    fn look(&self, pulses: &mut [Pulse], observers: &Observers) -> Option<WorkerLost> {
        let mut lost = None;
        for (worker, (pulse, load)) in pulses.iter_mut().zip(&self.loads).enumerate() {
            match pulse.look(load.beats()) {
                None => {}
                Some(PulseChange::Stalled(silence)) => {
                    load.set_stalled(true);
                    tell(observers, ServerEvent::WorkerStalled { worker, silence });
                }
                Some(PulseChange::Resumed(silence)) => {
                    load.set_stalled(false);
                    tell(observers, ServerEvent::WorkerResumed { worker, silence });
                }
                Some(PulseChange::Lost(silence)) => {
                    lost = Some(WorkerLost { worker, silence: Some(silence) });
                }
            }
        }
        lost
    }
}

fn tell(observers: &Observers, event: ServerEvent) {
    observers.emit_for_policy(None, &EventKind::Server(event));
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    use fusebox_resilience::{Event, Observer};
    use tokio::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<EventKind>>);

    impl Observer for Heard {
        fn observe(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(event.kind.clone());
        }
    }

    fn observed() -> (Observers, Arc<Heard>) {
        let heard = Arc::<Heard>::default();
        (Observers::new([heard.clone() as Arc<dyn Observer>]), heard)
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_lost_at_once() {
        let (observers, heard) = observed();
        let supervisor = Supervisor::new(3);
        let notice = supervisor.notice(1);
        let panics = AssertUnwindSafe(move || {
            let _notice = notice;
            panic!("a worker's thread");
        });
        let start = Instant::now();
        let (lost, _) = tokio::join!(supervisor.watch(Duration::ZERO, &observers), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            catch_unwind(panics).unwrap_err()
        });
        assert_eq!(
            (lost.to_string(), start.elapsed()),
            ("worker 1 has ended".to_owned(), Duration::from_secs(5),)
        );
        let event = ServerEvent::WorkerLost { worker: 1, silence: None };
        assert_eq!(*heard.0.lock().unwrap(), [event.into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_silent_for_three_limits_is_lost() {
        let (observers, heard) = observed();
        let supervisor = Supervisor::new(2);
        let loads = supervisor.loads().to_vec();
        let beating = async {
            loop {
                loads[0].beat();
                tokio::time::sleep(BEAT).await;
            }
        };
        let start = Instant::now();
        let lost = tokio::select! {
            lost = supervisor.watch(Duration::from_secs(4), &observers) => lost,
            () = beating => unreachable!("it beats for ever"),
        };
        assert_eq!(lost.to_string(), "worker 1 has been blocked for 36 s");
        assert_eq!(start.elapsed(), Duration::from_secs(35));
        assert_eq!((loads[0].is_stalled(), loads[1].is_stalled()), (false, true));
        let silence = Duration::from_secs(12);
        let stalled = ServerEvent::WorkerStalled { worker: 1, silence };
        let lost = ServerEvent::WorkerLost { worker: 1, silence: Some(silence * 3) };
        assert_eq!(*heard.0.lock().unwrap(), [stalled.into(), lost.into()]);
    }
}
