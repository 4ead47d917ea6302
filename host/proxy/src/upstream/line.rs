//! Those of a worker who wait for something, in the order of their arrival.

use std::collections::BTreeMap;
use std::task::Waker;

/// The number of somebody in the line.
pub(super) type LineNumber = u64;

/// A line. What somebody is handed is kept until they come for it.
#[derive(Debug)]
pub(super) struct WaitingLine<T> {
    waiting: BTreeMap<LineNumber, Waker>,
    handed: BTreeMap<LineNumber, T>,
    next: LineNumber,
}

impl<T> Default for WaitingLine<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), handed: BTreeMap::new(), next: 0 }
    }
}

impl<T> WaitingLine<T> {
    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Goes to its end.
    pub(super) fn join(&mut self) -> LineNumber {
        let number = self.next;
        self.next += 1;
        // Until it asks, nobody is there to be woken.
        self.waiting.insert(number, Waker::noop().clone());
        number
    }

    /// Hands this to the first, or the first after this one, who is to be woken.
    ///
    /// # Errors
    /// Nobody waits.
    pub(super) fn hand(&mut self, after: Option<LineNumber>, what: T) -> Result<Waker, T> {
        let from = after.map_or(0, |number| number + 1);
        let Some(number) = self.waiting.range(from..).map(|(number, _)| *number).next() else {
            return Err(what);
        };
        self.handed.insert(number, what);
        // It is there.
        Ok(self.waiting.remove(&number).unwrap_or_else(|| Waker::noop().clone()))
    }

    /// What this one was handed; as long as it waits, `waker` will wake it.
    pub(super) fn collect(&mut self, number: LineNumber, waker: &Waker) -> Option<T> {
        match self.waiting.get_mut(&number) {
            Some(known) => {
                known.clone_from(waker);
                None
            }
            None => self.handed.remove(&number),
        }
    }

    /// This one, which has collected something, waits again where it was.
    pub(super) fn rejoin(&mut self, number: LineNumber, waker: &Waker) {
        self.waiting.insert(number, waker.clone());
    }

    /// This one does not wait any longer. What it was handed meanwhile is the next one's.
    pub(super) fn leave(&mut self, number: LineNumber) -> Option<T> {
        self.waiting.remove(&number);
        self.handed.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Hand,
        HandAfter { which: usize },
        Collect { which: usize, rejoins: bool },
        Leave { which: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Join),
            3 => Just(Step::Hand),
            1 => any::<usize>().prop_map(|which| Step::HandAfter { which }),
            3 => any::<(usize, bool)>()
                .prop_map(|(which, rejoins)| Step::Collect { which, rejoins }),
            2 => any::<usize>().prop_map(|which| Step::Leave { which }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn the_first_gets_what_is_handed_and_nothing_is_lost(steps in steps()) {
            let mut line = WaitingLine::default();
            // In the order of their numbers, with what each was handed.
            let mut model = BTreeMap::<LineNumber, Option<usize>>::new();
            for (what, step) in steps.into_iter().enumerate() {
                let all: Vec<_> = model.keys().copied().collect();
                let chosen = |which: usize| all.get(which % all.len().max(1)).copied();
                match step {
                    Step::Join => prop_assert!(model.insert(line.join(), None).is_none()),
                    Step::Hand | Step::HandAfter { .. } => {
                        let after = match step {
                            Step::HandAfter { which } => chosen(which),
                            _ => None,
                        };
                        let is_next = |number: &LineNumber| after.is_none_or(|it| *number > it);
                        let mut waiting = model
                            .iter_mut()
                            .filter(|(number, handed)| is_next(number) && handed.is_none());
                        match waiting.next() {
                            Some((_, first)) => {
                                prop_assert!(line.hand(after, what).is_ok());
                                *first = Some(what);
                            }
                            None => prop_assert_eq!(line.hand(after, what).err(), Some(what)),
                        }
                    }
                    Step::Collect { which, rejoins } => {
                        let Some(number) = chosen(which) else { continue };
                        let handed = model[&number];
                        prop_assert_eq!(line.collect(number, Waker::noop()), handed);
                        if handed.is_some() && rejoins {
                            line.rejoin(number, Waker::noop());
                            model.insert(number, None);
                        } else if handed.is_some() {
                            model.remove(&number);
                        }
                    }
                    Step::Leave { which } => {
                        let Some(number) = chosen(which) else { continue };
                        prop_assert_eq!(line.leave(number), model.remove(&number).flatten());
                    }
                }
                let waiting = model.values().filter(|handed| handed.is_none()).count();
                prop_assert_eq!(line.waiting(), waiting);
            }
        }
    }
}
