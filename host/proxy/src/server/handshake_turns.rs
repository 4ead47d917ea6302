//! The turns of handshakes on a worker. A step of one may take half a millisecond, in which it
//! makes a signature; without turns all who come at once would go first, and connections that are
//! served already wait for all of them.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::{Notify, Semaphore};

/// How many steps are made before the other connections of the worker have their turn.
const STEPS: usize = 16;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct HandshakeTurns {
    left: Semaphore,
    made: Cell<usize>,
    begun: Notify,
}

impl Default for HandshakeTurns {
    fn default() -> Self {
        Self { left: Semaphore::new(STEPS), made: Cell::default(), begun: Notify::new() }
    }
}

impl HandshakeTurns {
    /// Goes on with `work` only when it has its turn. First come, first served.
    pub(super) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(turn) = self.left.acquire().await {
                turn.forget();
            }
            self.made.update(|made| made + 1);
            self.begun.notify_one();
            if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
                return done;
            }
            woken().await;
        }
    }

    /// Gives turns for ever. This is a task that is woken by the first step of many, so it comes
    /// behind all who could go on then.
    pub(super) async fn give(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            self.left.add_permits(self.made.take());
        }
    }
}

/// Ends when the task is woken, by what it has waited for before.
async fn woken() {
    let mut has_waited = false;
    poll_fn(
        |_| if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::task::{JoinSet, LocalSet};

    use super::*;

    /// Goes to the end of the queue of tasks.
    async fn requeue() {
        let mut is_queued = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_queued, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Each handshake has three steps.
    async fn handshake(steps: Rc<Cell<usize>>) {
        for _ in 0..2 {
            steps.set(steps.get() + 1);
            requeue().await;
        }
        steps.set(steps.get() + 1);
    }

    #[tokio::test]
    async fn who_is_served_already_waits_for_a_few_steps() {
        const HANDSHAKES: usize = 1_000;
        let (turns, steps) = (Rc::new(HandshakeTurns::default()), Rc::new(Cell::new(0)));
        let work = async {
            let giving = tokio::task::spawn_local(turns.clone().give());
            let mut handshakes = JoinSet::new();
            for _ in 0..HANDSHAKES {
                let (turns, steps) = (turns.clone(), steps.clone());
                handshakes.spawn_local(async move { turns.take(handshake(steps)).await });
            }
            let seen = steps.clone();
            let served = tokio::task::spawn_local(async move {
                let mut most = 0;
                while seen.get() < 3 * HANDSHAKES {
                    let before = seen.get();
                    requeue().await;
                    most = most.max(seen.get() - before);
                }
                most
            });
            handshakes.join_all().await;
            giving.abort();
            served.await.unwrap()
        };
        let most = LocalSet::new().run_until(work).await;
        assert!((1..=STEPS).contains(&most), "{most}");
    }

    #[tokio::test]
    async fn who_gives_up_takes_no_turn() {
        let turns = HandshakeTurns::default();
        for _ in 0..STEPS {
            turns.take(async {}).await;
        }
        {
            let mut gives_up = pin!(turns.take(async {}));
            assert!(gives_up.as_mut().now_or_never().is_none());
            turns.left.add_permits(turns.made.take());
        }
        assert_eq!(turns.left.available_permits(), STEPS);
    }
}
