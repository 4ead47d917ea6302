//! Which of several endpoints gets an attempt.
//!
//! A retry or a hedge prefers one that its call has not tried.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use fusebox_resilience::config::Problems;
use fusebox_resilience::{Call, CallKey, Random, Request, clock};

use super::shared_endpoint::SharedEndpoint;
use crate::config::BalanceConfig;

/// So many are drawn before all are looked at: hardly any is ruled out.
const DRAWS: usize = 8;

/// How a worker chooses.
#[derive(Debug)]
pub(super) enum Balance {
    /// Of two that are drawn, the one with less to do. Comparing two is nearly as good as comparing
    /// all, and keeps workers from all choosing the same one.
    LeastRequest,
    /// One after the other; a worker's own turn.
    RoundRobin(RoundRobinTurn),
    /// The same one for the same key, of all workers and processes with the same endpoints.
    Hash(CallKey),
}

/// A place in a round. An endpoint of weight 3 has a turn in each of three rounds.
#[derive(Debug)]
pub(super) struct RoundRobinTurn {
    place: Cell<usize>,
    round: Cell<u32>,
    rounds: u32,
}

impl RoundRobinTurn {
    /// Workers begin at different places.
    pub(super) fn new(endpoints: &[Arc<SharedEndpoint>], chance: f64) -> Self {
        let rounds = endpoints.iter().map(|endpoint| endpoint.config.weight).max().unwrap_or(1);
        let place = Cell::new(drawn(endpoints.len(), chance));
        Self { place, round: Cell::new(0), rounds }
    }

    /// `None`: there is no candidate.
    fn next(
        &self,
        endpoints: &[Arc<SharedEndpoint>],
        is_candidate: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        for _ in 0..=self.rounds {
            for (place, endpoint) in endpoints.iter().enumerate().skip(self.place.get()) {
                if endpoint.config.weight > self.round.get() && is_candidate(place) {
                    self.place.set(place + 1);
                    return Some(place);
                }
            }
            self.place.set(0);
            self.round.set((self.round.get() + 1) % self.rounds);
        }
        None
    }
}

/// Whether an endpoint that has just come takes its turn, if there is another one. (Where loads are
/// compared, what it gets follows from its share.)
fn has_turn(endpoint: &SharedEndpoint, call: &Call) -> bool {
    let share = endpoint.share(clock::now());
    share >= 1.0 || call.random().fraction() < share
}

/// Of two candidates that are drawn, the one that costs less. `None`: there is no candidate.
fn of_two(
    count: usize,
    chance: impl Fn() -> f64,
    is_candidate: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    let first = draw(count, &chance, &is_candidate)?;
    let Some(second) = draw(count, &chance, |place| place != first && is_candidate(place)) else {
        return Some(first);
    };
    Some(if cost(second) < cost(first) { second } else { first })
}

fn draw(
    count: usize,
    chance: impl Fn() -> f64,
    is_candidate: impl Fn(usize) -> bool,
) -> Option<usize> {
    let found = (0..DRAWS).map(|_| drawn(count, chance())).find(|place| is_candidate(*place));
    found.or_else(|| {
        let start = drawn(count, chance());
        (start..count).chain(0..start).find(|place| is_candidate(*place))
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the count")]
fn drawn(count: usize, chance: f64) -> usize {
    ((chance * count as f64) as usize).checked_rem(count).unwrap_or_default()
}

/// Rendezvous hashing: each candidate draws a number by the key, and the highest wins. So a key
/// moves only if its endpoint goes, or if a new one wins it. `None`: there is no candidate.
fn by_hash(
    key: u64,
    endpoints: &[Arc<SharedEndpoint>],
    is_candidate: impl Fn(usize) -> bool,
) -> Option<usize> {
    let candidates = endpoints.iter().enumerate().filter(|(place, _)| is_candidate(*place));
    let scored = candidates.map(|(place, endpoint)| {
        let hash = hash_of(|to| {
            key.hash(to);
            endpoint.config.url.url.hash(to);
        });
        // From 0 to 1, neither included.
        let drawn = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (place, -f64::from(endpoint.config.weight) / drawn.ln())
    });
    scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(place, _)| place)
}

/// The hash of what a request has of a key. `None`: it has nothing of it.
fn key_hash(key: &CallKey, request: &Request) -> Option<u64> {
    let mut is_there = false;
    let hash = hash_of(|to| is_there = key.values_of(request, |value| value.hash(to)));
    is_there.then_some(hash)
}

/// The same in each process: it has no seed.
fn hash_of(feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(&mut hasher);
    hasher.finish()
}

impl Balance {
    /// What the file says, for one worker and these endpoints.
    pub(super) fn new(config: &BalanceConfig, endpoints: &[Arc<SharedEndpoint>]) -> Self {
        match config {
            BalanceConfig::LeastRequest => Self::LeastRequest,
            BalanceConfig::RoundRobin => Self::RoundRobin(RoundRobinTurn::new(
                endpoints,
                Random::with_seed(fastrand::u64(..)).fraction(),
            )),
            // Its problems are those of the file, and have been reported.
            BalanceConfig::Hash(key) => {
                Self::Hash(key.clone().of_request("hash", &mut Problems::default()))
            }
        }
    }

    /// The place of an endpoint among those that are candidates. `None`: there is none.
    pub(super) fn choose(
        &self,
        endpoints: &[Arc<SharedEndpoint>],
        call: &Call,
        is_candidate: impl Fn(usize) -> bool,
        cost: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(turn) => {
                let has_turn = |place: usize| has_turn(&endpoints[place], call);
                let next = turn.next(endpoints, |place| is_candidate(place) && has_turn(place));
                next.or_else(|| turn.next(endpoints, is_candidate))
            }
            Self::Hash(key) if let Some(key) = key_hash(key, call.request()) => {
                by_hash(key, endpoints, is_candidate)
            }
            Self::LeastRequest | Self::Hash(_) => {
                of_two(endpoints.len(), || call.random().fraction(), is_candidate, cost)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::config::{EndpointConfig, EndpointUrl, UpstreamConfig};
    use crate::upstream::load::EndpointLoad;

    fn endpoints(weights: &[u32]) -> Vec<Arc<SharedEndpoint>> {
        let url = |place| EndpointUrl::parse(&format!("http://b{place}")).unwrap();
        let upstream = UpstreamConfig::new(url(0));
        let endpoint = |(place, weight): (usize, &u32)| {
            let config = EndpointConfig { weight: *weight, ..url(place).into() };
            Arc::new(SharedEndpoint::new(&upstream, config, Instant::now()))
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    proptest! {
        #[test]
        fn two_are_drawn_and_the_cheaper_is_taken(
            costs in prop::collection::vec(0u32..100, 1..20),
            out in prop::collection::vec(any::<bool>(), 20),
            seed: u64,
        ) {
            let random = RefCell::new(fastrand::Rng::with_seed(seed));
            let candidates: Vec<usize> = (0..costs.len()).filter(|place| !out[*place]).collect();
            let taken = of_two(
                costs.len(),
                || random.borrow_mut().f64(),
                |place| candidates.contains(&place),
                |place| costs[place].into(),
            );
            prop_assert_eq!(taken.is_some(), !candidates.is_empty());
            if let Some(taken) = taken {
                prop_assert!(candidates.contains(&taken));
                // Only if it is the only one can the dearest be taken, or one as dear.
                let dearest = candidates.iter().map(|place| costs[*place]).max();
                let are_as_dear = candidates.iter().filter(|it| Some(costs[**it]) == dearest);
                let is_dearest = Some(costs[taken]) == dearest;
                prop_assert!(!is_dearest || candidates.len() == 1 || are_as_dear.count() > 1);
            }
        }

        #[test]
        fn a_turn_gives_each_candidate_its_share(
            weights in prop::collection::vec(1u32..6, 1..8),
            out in prop::collection::vec(any::<bool>(), 8),
            chance in 0.0..1.0,
        ) {
            let endpoints = endpoints(&weights);
            let turn = RoundRobinTurn::new(&endpoints, chance);
            let is_candidate = |place: usize| !out[place];
            let sum: u32 = (0..weights.len()).filter(|it| !out[*it]).map(|it| weights[it]).sum();
            let mut taken = vec![0; weights.len()];
            for _ in 0..sum * 4 {
                taken[turn.next(&endpoints, is_candidate).unwrap()] += 1;
            }
            for (place, weight) in weights.iter().enumerate() {
                prop_assert_eq!(taken[place], if out[place] { 0 } else { weight * 4 });
            }
            prop_assert_eq!(turn.next(&endpoints, |_| false), None);
        }

        #[test]
        fn a_key_moves_only_if_its_endpoint_goes(
            weights in prop::collection::vec(1u32..6, 2..8),
            keys in prop::collection::vec(any::<u64>(), 20),
            gone in 0usize..8,
        ) {
            let endpoints = endpoints(&weights);
            for key in keys {
                let all = by_hash(key, &endpoints, |_| true).unwrap();
                let rest = by_hash(key, &endpoints, |place| place != gone);
                prop_assert!(all == gone || rest == Some(all));
                prop_assert!(rest != Some(gone) && rest.is_some());
            }
        }
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let endpoints = endpoints(&[1, 2, 1]);
        let mut taken = [0; 3];
        for key in 0..4000u64 {
            taken[by_hash(hash_of(|to| key.hash(to)), &endpoints, |_| true).unwrap()] += 1;
        }
        assert!((900..1100).contains(&taken[0]) && (1850..2150).contains(&taken[1]), "{taken:?}");
    }

    /// What 5,000 requests, one each millisecond, take at endpoints that take so many milliseconds
    /// each: how many go to each of them, and the 99th percentile.
    fn simulated(
        takes: &[u64],
        mut choose: impl FnMut(&[EndpointLoad], Instant) -> usize,
    ) -> (Vec<usize>, u64) {
        let loads: Vec<_> = takes.iter().map(|_| EndpointLoad::default()).collect();
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut under_way = BinaryHeap::<Reverse<(u64, usize)>>::new();
        let (mut counts, mut times) = (vec![0; takes.len()], Vec::new());
        for now in 0..5_000 {
            while let Some(&Reverse((end, place))) = under_way.peek()
                && end <= now
            {
                under_way.pop();
                loads[place].end();
                loads[place].observe(Duration::from_millis(takes[place]), at(end), start);
            }
            let place = choose(&loads, at(now));
            loads[place].begin();
            under_way.push(Reverse((now + takes[place], place)));
            counts[place] += 1;
            times.push(takes[place]);
        }
        times.sort_unstable();
        (counts, times[times.len() * 99 / 100])
    }

    #[test]
    fn a_slow_endpoint_is_in_nobodys_99th_percentile_as_it_is_in_turns() {
        let takes = [5, 5, 200];
        let random = RefCell::new(fastrand::Rng::with_seed(7));
        let start = Instant::now();
        let (counts, p99) = simulated(&takes, |loads, now| {
            let cost = |place: usize| loads[place].cost(now, start);
            of_two(3, || random.borrow_mut().f64(), |_| true, cost).unwrap()
        });
        assert!((1..50).contains(&counts[2]) && counts[0].min(counts[1]) > 1_500, "{counts:?}");
        assert_eq!(p99, 5);
        let endpoints = endpoints(&[1, 1, 1]);
        let turn = RoundRobinTurn::new(&endpoints, 0.0);
        let (counts, p99) = simulated(&takes, |_, _| turn.next(&endpoints, |_| true).unwrap());
        assert!(counts[2] > 1_600, "{counts:?}");
        assert_eq!(p99, 200);
    }
}
