//! The time, which stands still within a worker's turn.
//!
//! A turn is what a worker does between two waits: it takes some microseconds, and asking the
//! system for the time took a twentieth of that, since each loop, attempt and timer wants to know
//! it. So within a [`turn`] it is asked once. Whoever lets a turn last for longer says so
//! ([`elapse`]). Elsewhere, and so in tests on a paused clock, each [`now`] asks.

use std::cell::Cell;

use tokio::time::Instant;

#[derive(Clone, Copy)]
enum Turn {
    None,
    /// Nobody has asked yet.
    Unread,
    At(Instant),
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::None) };
}

/// Does `work`, in which the time stands still.
pub fn turn<R>(work: impl FnOnce() -> R) -> R {
    struct Ends(Turn);
    impl Drop for Ends {
        fn drop(&mut self) {
            TURN.set(self.0);
        }
    }
    let _ends = Ends(TURN.replace(Turn::Unread));
    work()
}

/// The time.
pub fn now() -> Instant {
    match TURN.get() {
        Turn::At(now) => now,
        Turn::None => Instant::now(),
        Turn::Unread => {
            let now = Instant::now();
            TURN.set(Turn::At(now));
            now
        }
    }
}

/// This turn has lasted for so long that the time has to be asked for again.
pub fn elapse() {
    if let Turn::At(_) = TURN.get() {
        TURN.set(Turn::Unread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    const STEP: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_within_a_turn_only() {
        let began = now();
        advance(STEP).await;
        assert_eq!(now() - began, STEP);
        // What is polled within the turn moves the clock, as time does.
        let within = turn(|| {
            let first = now();
            futures_util::FutureExt::now_or_never(advance(STEP));
            let second = now();
            elapse();
            (second - first, now() - first)
        });
        assert_eq!(within, (Duration::ZERO, STEP));
        assert_eq!(now() - began, 2 * STEP);
        turn(|| turn(now));
        assert!(matches!(TURN.get(), Turn::None));
    }
}
