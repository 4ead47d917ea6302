//! The turns of questions to components on a worker.
//!
//! A guest that loops holds its worker until its time is up. Without turns all who are about to ask
//! one would do so before anybody else goes on, and a neighbour who has nothing to do with them
//! would wait for all of them. So after a question that took long the next ones are asked one at a
//! time, first come, first served, and between two of them the worker goes once round all else that
//! it has to do. While no question takes long, this costs a look at a flag.
//!
//! A guest that may go on after a pause goes on in its turn, too.

use std::cell::Cell;
use std::future::{Ready, ready};

use futures_util::future::{Either, LocalBoxFuture};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Whose turn it is to ask.
#[derive(Debug)]
pub struct QuestionTurns {
    /// Others have to go on before the next question.
    are_due: Cell<bool>,
    /// Those who want to ask and have to wait.
    waiting: Cell<usize>,
    turn: Semaphore,
}

impl Default for QuestionTurns {
    fn default() -> Self {
        Self { are_due: Cell::default(), waiting: Cell::default(), turn: Semaphore::new(1) }
    }
}

/// A turn, which hardly ever has to be waited for: then this needs no memory.
pub(crate) type QuestionTurn<'a> = Either<Ready<()>, LocalBoxFuture<'a, ()>>;

impl QuestionTurns {
    /// A question has taken long.
    pub fn lasted(&self) {
        self.are_due.set(true);
    }

    /// Whether a turn has to be waited for.
    #[inline]
    pub(crate) fn are_due(&self) -> bool {
        self.are_due.get()
    }

    /// Waits until the next question may be asked, which has to follow at once.
    #[inline]
    pub fn next(&self) -> QuestionTurn<'_> {
        if self.are_due() { Either::Right(Box::pin(self.wait())) } else { Either::Left(ready(())) }
    }

    #[cold]
    async fn wait(&self) {
        struct Waits<'a>(&'a Cell<usize>);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.update(|waiting| waiting - 1);
            }
        }
        self.waiting.update(|waiting| waiting + 1);
        let waits = Waits(&self.waiting);
        let _turn = self.turn.acquire().await;
        // Whoever yields like this goes on when all that was ready has had its turn, and the worker
        // has looked for what has come on its sockets.
        yield_now().await;
        drop(waits);
        if self.waiting.get() == 0 {
            self.are_due.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    use futures_util::FutureExt as _;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const ASKERS: usize = 20;

    /// What happens, in its order: the number of who asks, or a round of the neighbour.
    type Story = Rc<Cell<Vec<Option<usize>>>>;

    fn tell(story: &Story, what: Option<usize>) {
        let mut told = story.take();
        told.push(what);
        story.set(told);
    }

    fn asked(story: &Story) -> usize {
        let told = story.take();
        let asked = told.iter().flatten().count();
        story.set(told);
        asked
    }

    /// Asks a question, which takes long if `lasts`.
    async fn ask(turns: Rc<QuestionTurns>, story: Story, asker: usize, lasts: bool) {
        turns.next().await;
        tell(&story, Some(asker));
        if lasts {
            turns.lasted();
        }
    }

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

    /// All are ready at once, and so is a neighbour behind them, who goes on until all have asked.
    async fn story(lasts: bool) -> Vec<Option<usize>> {
        let (turns, story) = (Rc::new(QuestionTurns::default()), Story::default());
        let (told, all) = (story.clone(), LocalSet::new());
        all.run_until(async move {
            for asker in 0..ASKERS {
                spawn_local(ask(turns.clone(), story.clone(), asker, lasts));
            }
            spawn_local(async move {
                while asked(&story) < ASKERS {
                    tell(&story, None);
                    requeue().await;
                }
            });
        })
        .await;
        all.await;
        told.take()
    }

    #[tokio::test]
    async fn between_two_questions_that_take_long_a_neighbour_goes_on() {
        let told = story(true).await;
        let askers: Vec<_> = told.iter().flatten().copied().collect();
        assert_eq!(askers, (0..ASKERS).collect::<Vec<_>>(), "first come, first served");
        let mut between = told.split(Option::is_none);
        assert!(between.all(|questions| questions.len() <= 1), "{told:?}");
    }

    #[tokio::test]
    async fn questions_that_take_no_time_wait_for_nobody() {
        let told = story(false).await;
        assert!(told[..ASKERS].iter().all(Option::is_some), "{told:?}");
    }

    #[tokio::test]
    async fn one_long_question_delays_the_next_one_by_a_round_and_no_other() {
        let turns = QuestionTurns::default();
        assert!(turns.next().now_or_never().is_some());
        turns.lasted();
        turns.next().await;
        assert!(turns.next().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_holds_up_nobody() {
        let turns = QuestionTurns::default();
        turns.lasted();
        {
            let (mut first, mut second) = (turns.next(), turns.next());
            assert!((&mut first).now_or_never().is_none());
            assert!((&mut second).now_or_never().is_none());
            drop(first);
            second.await;
        }
        assert!(!turns.are_due());
    }
}
