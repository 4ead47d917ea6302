//! Places and the line in front of them, without threads and without time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The number of somebody in the line, in the order of their arrival.
pub(super) type Ticket = u64;

/// What becomes of somebody in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStanding {
    /// It waits.
    Waits,
    /// It has left the line, and has a place.
    HasPlace,
    /// It has made place for another one.
    Evicted,
}

/// Places, and who waits for one. `W` wakes somebody.
#[derive(Debug)]
pub(super) struct RoomQueue<W> {
    places: usize,
    /// Those that somebody has, or was handed and has not come for yet.
    taken: usize,
    waiting: BTreeMap<Ticket, RoomWaiter<W>>,
    /// Who was handed a place.
    handed: BTreeSet<Ticket>,
    next: Ticket,
}

/// Somebody in the line.
#[derive(Debug)]
struct RoomWaiter<W> {
    /// Those of the lowest make place for others.
    rank: u16,
    waker: W,
}

impl<W: Clone> RoomQueue<W> {
    pub(super) fn new(places: usize) -> Self {
        let (waiting, handed) = (BTreeMap::new(), BTreeSet::new());
        Self { places, taken: 0, waiting, handed, next: 0 }
    }

    pub(super) fn places(&self) -> usize {
        self.places
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a place, if one is free; none is while somebody waits.
    pub(super) fn try_take(&mut self) -> bool {
        let is_free = self.taken < self.places;
        self.taken += usize::from(is_free);
        is_free
    }

    /// Goes to the end of the line.
    pub(super) fn join(&mut self, rank: u16, waker: W) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, RoomWaiter { rank, waker });
        ticket
    }

    /// Sends the youngest of the lowest rank out of the line, who is to be woken, if it is lower
    /// than this one.
    pub(super) fn evict_below(&mut self, rank: u16) -> Option<W> {
        let lowest =
            |(ticket, waiter): &(&Ticket, &RoomWaiter<W>)| (waiter.rank, Reverse(**ticket));
        let (&ticket, waiter) = self.waiting.iter().min_by_key(lowest)?;
        if waiter.rank >= rank {
            return None;
        }
        self.waiting.remove(&ticket).map(|waiter| waiter.waker)
    }

    /// What has become of this one; as long as it waits, `waker` will wake it.
    pub(super) fn collect(&mut self, ticket: Ticket, waker: &W) -> LineStanding {
        if let Some(known) = self.waiting.get_mut(&ticket) {
            known.waker.clone_from(waker);
            return LineStanding::Waits;
        }
        if self.handed.remove(&ticket) { LineStanding::HasPlace } else { LineStanding::Evicted }
    }

    /// This one does not wait any longer. If it was handed a place meanwhile, the next one gets it,
    /// and is to be woken.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let was_handed = self.waiting.remove(&ticket).is_none() && self.handed.remove(&ticket);
        if was_handed { self.give_back() } else { None }
    }

    /// There are so many places from now on. Those who get one are to be woken. If there are
    /// fewer than are taken, the next are free once enough have been given back.
    pub(super) fn resize(&mut self, places: usize) -> Vec<W> {
        self.places = places;
        std::iter::from_fn(|| self.hand_on()).collect()
    }

    /// A place goes to the first in the line, who is to be woken, or is free.
    pub(super) fn give_back(&mut self) -> Option<W> {
        self.taken -= 1;
        self.hand_on()
    }

    /// Gives a free place to the first in the line.
    fn hand_on(&mut self) -> Option<W> {
        if self.taken >= self.places {
            return None;
        }
        let (ticket, waiter) = self.waiting.pop_first()?;
        self.handed.insert(ticket);
        self.taken += 1;
        Some(waiter.waker)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Enter { rank: u16 },
        Collect { which: usize },
        Leave { which: usize },
        GiveBack,
        Resize { places: usize },
        Evict { rank: u16 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..4_u16).prop_map(|rank| Step::Enter { rank }),
            1 => (0..5_u16).prop_map(|rank| Step::Evict { rank }),
            4 => any::<usize>().prop_map(|which| Step::Collect { which }),
            2 => any::<usize>().prop_map(|which| Step::Leave { which }),
            5 => Just(Step::GiveBack),
            1 => (1..6_usize).prop_map(|places| Step::Resize { places }),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// What the queue should be, spelt out.
    #[derive(Default)]
    struct Model {
        inside: usize,
        line: VecDeque<Ticket>,
        handed: Vec<Ticket>,
    }

    impl Model {
        fn hand_on(&mut self, places: usize) -> Option<Ticket> {
            if self.inside + self.handed.len() >= places {
                return None;
            }
            let next = self.line.pop_front()?;
            self.handed.push(next);
            Some(next)
        }
    }

    proptest! {
        #[test]
        fn places_are_conserved_and_handed_on_in_the_order_of_arrival(
            mut places in 1..5_usize,
            steps in steps(),
        ) {
            let mut queue = RoomQueue::new(places);
            let mut model = Model::default();
            let mut ranks = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Enter { rank } => {
                        let is_free = model.inside + model.handed.len() < places;
                        prop_assert!(!is_free || model.line.is_empty(), "a place lies idle");
                        prop_assert_eq!(queue.try_take(), is_free);
                        if is_free {
                            model.inside += 1;
                        } else {
                            let number = queue.next;
                            model.line.push_back(queue.join(rank, number));
                            ranks.insert(number, rank);
                        }
                    }
                    Step::Collect { which } => {
                        let all: Vec<_> = model.handed.iter().chain(&model.line).copied().collect();
                        let Some(&ticket) = all.get(which % all.len().max(1)) else { continue };
                        let has_place = model.handed.contains(&ticket);
                        let standing = match has_place {
                            true => LineStanding::HasPlace,
                            false => LineStanding::Waits,
                        };
                        prop_assert_eq!(queue.collect(ticket, &ticket), standing);
                        model.handed.retain(|handed| *handed != ticket);
                        model.inside += usize::from(has_place);
                    }
                    Step::Leave { which } => {
                        let all: Vec<_> = model.handed.iter().chain(&model.line).copied().collect();
                        let Some(&ticket) = all.get(which % all.len().max(1)) else { continue };
                        let had_place = model.handed.contains(&ticket);
                        model.handed.retain(|handed| *handed != ticket);
                        model.line.retain(|waiting| *waiting != ticket);
                        let woken = had_place.then(|| model.hand_on(places)).flatten();
                        prop_assert_eq!(queue.leave(ticket), woken);
                    }
                    Step::GiveBack if model.inside > 0 => {
                        model.inside -= 1;
                        let woken = model.hand_on(places);
                        prop_assert_eq!(queue.give_back(), woken);
                    }
                    Step::Resize { places: other } => {
                        places = other;
                        let woken: Vec<_> =
                            std::iter::from_fn(|| model.hand_on(places)).collect();
                        prop_assert_eq!(queue.resize(places), woken);
                    }
                    Step::Evict { rank } => {
                        let lowest = model.line.iter().map(|ticket| ranks[ticket]).min();
                        let lowest = lowest.filter(|lowest| *lowest < rank);
                        let mut line = model.line.iter().rev();
                        let evicted = line.find(|ticket| Some(ranks[ticket]) == lowest).copied();
                        model.line.retain(|waiting| Some(*waiting) != evicted);
                        prop_assert_eq!(queue.evict_below(rank), evicted);
                        if let Some(ticket) = evicted {
                            prop_assert_eq!(queue.collect(ticket, &ticket), LineStanding::Evicted);
                            prop_assert_eq!(queue.leave(ticket), None);
                        }
                    }
                    Step::GiveBack => {}
                }
                prop_assert_eq!(queue.taken(), model.inside + model.handed.len());
                let is_idle = queue.taken() < places && queue.waiting() > 0;
                prop_assert!(!is_idle, "a place lies idle");
                prop_assert_eq!(queue.waiting(), model.line.len());
            }
        }
    }

    #[test]
    fn a_place_handed_to_one_who_has_left_goes_to_the_next_at_once() {
        let mut queue = RoomQueue::new(1);
        assert!(queue.try_take() && !queue.try_take());
        let [first, second] = ["first", "second"].map(|name| queue.join(0, name));
        assert_eq!(queue.give_back(), Some("first"));
        assert!(!queue.try_take(), "nobody overtakes those who wait");
        assert_eq!(queue.leave(first), Some("second"));
        assert_eq!(queue.collect(second, &"second"), LineStanding::HasPlace);
        assert_eq!((queue.give_back(), queue.taken()), (None, 0));
    }
}
