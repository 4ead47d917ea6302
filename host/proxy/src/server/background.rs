//! Work that outlives its call, as tasks of a worker.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use fusebox_resilience::{Background, clock};
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;

use super::shutdown::{Shutdown, ShutdownPhase, ShutdownWatch};

/// So many run at once on a worker. Each reads one response, which its policy bounds.
const MOST: usize = 1_000;

/// A worker's tasks for such work. At a shutdown they are waited for, and cut, as connections are.
pub(super) struct BackgroundTasks {
    running: Rc<Cell<usize>>,
    shutdown: Rc<Shutdown>,
    /// Keeps the worker from ending; gone once it is to end.
    alive: mpsc::WeakSender<()>,
}

impl BackgroundTasks {
    /// For the worker that ends when all clones of `alive` are dropped.
    pub(super) fn new(shutdown: Rc<Shutdown>, alive: &mpsc::Sender<()>) -> Self {
        Self { running: Rc::default(), shutdown, alive: alive.downgrade() }
    }
}

impl Background for BackgroundTasks {
    fn has_place(&self) -> bool {
        self.running.get() < MOST && self.alive.strong_count() > 0
    }

    fn run(&self, work: LocalBoxFuture<'static, ()>) {
        let Some(alive) = self.alive.upgrade().filter(|_| self.has_place()) else { return };
        let mut task = BackgroundTask {
            work,
            watch: self.shutdown.join(),
            _place: TakenPlace::new(&self.running),
        };
        tokio::task::spawn_local(async move {
            poll_fn(|cx| clock::turn(|| task.poll(cx))).await;
            drop((task, alive));
        });
    }
}

struct BackgroundTask {
    work: LocalBoxFuture<'static, ()>,
    watch: ShutdownWatch,
    _place: TakenPlace,
}

impl BackgroundTask {
    /// Ready when its work is done, or the worker is to end now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.poll_change(cx) == Some(ShutdownPhase::Ended) {
            return Poll::Ready(());
        }
        self.work.as_mut().poll(cx)
    }
}

/// Counts a task while it runs.
struct TakenPlace(Rc<Cell<usize>>);

impl TakenPlace {
    fn new(running: &Rc<Cell<usize>>) -> Self {
        running.set(running.get() + 1);
        Self(running.clone())
    }
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasks").field("running", &self.running).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    struct Worker {
        tasks: BackgroundTasks,
        shutdown: watch::Sender<ShutdownPhase>,
        alive: mpsc::Sender<()>,
        all_gone: mpsc::Receiver<()>,
    }

    fn worker() -> Worker {
        let (alive, all_gone) = mpsc::channel(1);
        let (sender, phases) = watch::channel(ShutdownPhase::Serving);
        let shutdown = Rc::new(Shutdown::default());
        spawn_local(shutdown.clone().follow(phases));
        let tasks = BackgroundTasks::new(shutdown, &alive);
        Worker { tasks, shutdown: sender, alive, all_gone }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_drains_waits_for_it_and_one_that_ends_does_not() {
        LocalSet::new()
            .run_until(async {
                let Worker { tasks, shutdown, alive, mut all_gone } = worker();
                let (done, ended) = tokio::sync::oneshot::channel::<()>();
                tasks.run(Box::pin(async { drop(ended.await) }));
                tasks.run(Box::pin(std::future::pending()));
                shutdown.send_replace(ShutdownPhase::Draining);
                drop(alive);
                yield_now().await;
                assert_eq!(tasks.running.get(), 2, "nothing is cut while it drains");
                done.send(()).unwrap();
                while tasks.running.get() == 2 {
                    yield_now().await;
                }
                assert!(all_gone.is_empty() && !all_gone.is_closed());
                shutdown.send_replace(ShutdownPhase::Ended);
                assert_eq!(all_gone.recv().await, None);
                assert!(tasks.running.get() == 0 && !tasks.has_place());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_places() {
        LocalSet::new()
            .run_until(async {
                let Worker { tasks, shutdown: _shutdown, alive: _alive, .. } = worker();
                for _ in 0..MOST {
                    assert!(tasks.has_place());
                    tasks.run(Box::pin(std::future::pending()));
                }
                tasks.run(Box::pin(std::future::pending()));
                assert!(!tasks.has_place() && tasks.running.get() == MOST);
            })
            .await;
    }
}
