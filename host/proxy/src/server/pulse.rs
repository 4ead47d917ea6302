//! Whether a worker is alive, by its beats.
//!
//! A worker beats each second, if nothing blocks it. Somebody else looks each second, and counts
//! the looks without a new beat, not the time: while the whole process stands still, nobody looks,
//! and no worker is blamed for it.

use std::time::Duration;

/// How often a worker beats, and how often it is looked at.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// The shortest silence that is one.
const SHORTEST: Duration = Duration::from_secs(10);

/// How many times as long a silence ends the process.
const PATIENCE: u32 = 3;

/// What is known of one worker.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    /// The looks without a beat after which a worker is stalled.
    limit: u32,
    beats: u64,
    missed: u32,
}

/// A change in what is known of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PulseChange {
    /// It has not beaten for so long.
    Stalled(Duration),
    /// It beats again, after so long.
    Resumed(Duration),
    /// It has been stalled for too long.
    Lost(Duration),
}

impl Pulse {
    /// Of a worker that a call into a component may block for so long, and which may overrun.
    pub(super) fn new(longest_call: Duration) -> Self {
        let limit = SHORTEST.max(longest_call * 3).as_secs_f64() / BEAT.as_secs_f64();
        Self { limit: limit.ceil() as u32, beats: 0, missed: 0 }
    }

    /// A look: so many beats there have been so far.
    pub(super) fn look(&mut self, beats: u64) -> Option<PulseChange> {
        let silence = BEAT * self.missed;
        if beats != self.beats {
            self.beats = beats;
            let was_stalled = self.missed >= self.limit;
            self.missed = 0;
            return was_stalled.then_some(PulseChange::Resumed(silence));
        }
        self.missed += 1;
        let silence = BEAT * self.missed;
        if self.missed == self.limit {
            Some(PulseChange::Stalled(silence))
        } else if self.missed == self.limit * PATIENCE {
            Some(PulseChange::Lost(silence))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each look finds, and at which.
    fn looks(longest_call: u64, beats: impl IntoIterator<Item = u64>) -> Vec<(usize, PulseChange)> {
        let mut pulse = Pulse::new(Duration::from_secs(longest_call));
        let beats = beats.into_iter().enumerate();
        beats.filter_map(|(look, beats)| Some((look + 1, pulse.look(beats)?))).collect()
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_that_beats_is_well_and_one_that_does_not_is_told_of_once() {
        assert_eq!(looks(0, (1..1000).map(|second| second / 9 + 1)), []);
        assert_eq!(
            looks(0, vec![0; 40]),
            [(10, PulseChange::Stalled(secs(10))), (30, PulseChange::Lost(secs(30)))]
        );
        let beats = [vec![0; 12], vec![1], vec![1; 9], vec![2; 11]].concat();
        assert_eq!(
            looks(0, beats),
            [
                (10, PulseChange::Stalled(secs(10))),
                (13, PulseChange::Resumed(secs(12))),
                (33, PulseChange::Stalled(secs(10))),
            ]
        );
    }

    #[test]
    fn calls_into_components_may_take_their_time() {
        assert_eq!(looks(3, vec![0; 10]), [(10, PulseChange::Stalled(secs(10)))]);
        let lost = [(180, PulseChange::Stalled(secs(180))), (540, PulseChange::Lost(secs(540)))];
        assert_eq!(looks(60, vec![0; 1000]), lost);
    }
}
