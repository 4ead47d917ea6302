//! Choices among endpoints of several tiers.

use fusebox_resilience::testing::call_with;
use fusebox_resilience::{Attempt, KeyConfig, KeySourceConfig, Observers, RequestBody, Scope};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::config::{
    BalanceConfig, EndpointConfig, EndpointUrl, EndpointsConfig, UpstreamConfig, UpstreamSettings,
};
use crate::upstream::shared::{EndpointResult, EndpointStanding, SharedUpstream};
use crate::upstream::{HttpUpstream, WorkerEndpoints};

const S: Duration = Duration::from_secs(1);

/// A worker's view of endpoints of these tiers, in the order of a file.
struct Tiers {
    shared: Arc<SharedUpstream>,
    upstream: HttpUpstream,
}

impl Tiers {
    fn new(tiers: &[u16], balance: BalanceConfig) -> Self {
        Self::with(tiers, |config| config.fleet.balance = balance)
    }

    fn with(tiers: &[u16], change: impl FnOnce(&mut UpstreamConfig)) -> Self {
        let url = |at: usize| EndpointUrl::parse(&format!("http://b{at}")).unwrap();
        let endpoints = tiers.iter().enumerate();
        let endpoints =
            endpoints.map(|(at, tier)| EndpointConfig { tier: *tier, ..url(at).into() });
        let mut config = UpstreamConfig::new(url(0));
        config.endpoints = EndpointsConfig::Listed(endpoints.collect());
        config.fleet.health.consecutive = 1;
        change(&mut config);
        let shared = Arc::new(SharedUpstream::new(config.into()));
        let upstream = HttpUpstream::new(shared.clone(), WorkerShare::WHOLE, &Rc::default());
        Self { shared, upstream }
    }

    fn fleet(&self) -> Rc<Fleet> {
        let WorkerEndpoints::Fleet(worker) = &self.upstream.endpoints else { panic!("only one") };
        worker.current()
    }

    fn place(&self, at: usize) -> Arc<SharedEndpoint> {
        self.shared.endpoints().borrow().list[at].clone()
    }

    /// Its checks pass from now on, or fail.
    fn checked(&self, at: usize, passed: bool) {
        let passed = || if passed { Ok(()) } else { Err("no") };
        (0..2).for_each(|_| drop(self.shared.checked(&self.place(at), passed(), Instant::now())));
    }

    fn ended(&self, at: usize, result: EndpointResult) {
        self.shared.record(&self.place(at), result, Duration::ZERO, true, Instant::now());
    }

    /// The tier of each, and whether it is in.
    fn standings(&self) -> Vec<(u16, bool)> {
        let status = self.shared.status().into_iter();
        let is_in = |usage: EndpointStanding| usage == EndpointStanding::In;
        status.map(|it| (it.tier, is_in(it.usage.unwrap().standing))).collect()
    }

    /// The place of the one that a call gets that has tried these.
    fn chosen(
        &self,
        tried: &[usize],
        choose: impl Fn(&Fleet, &Call) -> Option<Rc<Endpoint>>,
    ) -> Option<usize> {
        let (fleet, call) = (self.fleet(), call());
        for at in tried {
            drop(Attempt::begin_at(
                &call,
                &Scope::new(&self.upstream),
                fleet.endpoints()[*at].label(),
            ));
        }
        let chosen = choose(&fleet, &call)?;
        fleet.endpoints().iter().position(|it| Rc::ptr_eq(it, &chosen))
    }

    fn next(&self, tried: &[usize]) -> Option<usize> {
        self.chosen(tried, |fleet, call| fleet.choose(call).cloned())
    }
}

fn call() -> Call {
    let request = http::Request::get("http://service-b/?key=1");
    call_with("1", request, RequestBody::empty(), Observers::default())
}

/// What the rules say: those of the candidates that may be chosen.
fn allowed(standings: &[(u16, bool)], tried: &[usize]) -> Vec<usize> {
    let all = 0..standings.len();
    let tier = |at: &usize| standings[*at].0;
    let are_in: Vec<_> = all.clone().filter(|at| standings[*at].1).collect();
    let in_use = are_in.first().map_or(standings[0].0, tier);
    let of_tier: Vec<_> = all.filter(|at| tier(at) == in_use).collect();
    let out = of_tier.iter().filter(|at| !standings[**at].1).count();
    let can_others = are_in.iter().any(|at| tier(at) > in_use);
    let mut candidates = are_in;
    if 2 * out > of_tier.len() && !can_others {
        candidates.extend(of_tier);
    }
    let untried: Vec<_> = candidates.iter().copied().filter(|at| !tried.contains(at)).collect();
    let from = if untried.is_empty() { candidates } else { untried };
    let first = from.iter().map(tier).min();
    from.into_iter().filter(|at| Some(tier(at)) == first).collect()
}

proptest! {
    #[test]
    fn no_tier_is_chosen_while_one_in_front_has_one_in_and_never_nobody(
        tiers in prop::collection::vec(0u16..4, 2..8),
        by in 0usize..3,
        steps in prop::collection::vec((0usize..8, any::<bool>(), any::<bool>()), 0..20),
        tried in prop::collection::vec(0usize..8, 0..4),
    ) {
        let count = tiers.len();
        let balance = [
            BalanceConfig::LeastRequest,
            BalanceConfig::RoundRobin,
            BalanceConfig::Hash(KeyConfig(vec![KeySourceConfig::Query("key".to_owned())])),
        ];
        let fleet = Tiers::new(&tiers, balance[by].clone());
        for (at, by_checks, passes) in steps {
            match by_checks {
                true => fleet.checked(at % count, passes),
                false if passes => fleet.ended(at % count, EndpointResult::Answered),
                false => fleet.ended(at % count, EndpointResult::Failed),
            }
        }
        let are_in = fleet.standings();
        for at in (0..count).filter(|at| are_in[*at].1) {
            // Those who are back have been tried.
            fleet.ended(at, EndpointResult::Answered);
        }
        let tried: Vec<_> = tried.into_iter().map(|at| at % count).collect();
        let standings = fleet.standings();
        prop_assert!(standings.is_sorted_by_key(|(tier, _)| *tier));
        for tried in [&tried[..], &[]] {
            let (allowed, chosen) = (allowed(&standings, tried), fleet.next(tried));
            prop_assert!(
                chosen.is_some_and(|at| allowed.contains(&at)),
                "{standings:?}, tried {tried:?}: {chosen:?}, not of {allowed:?}"
            );
        }
        // One that has refused the connection is followed by all others, those that are out last.
        let mut tried = tried;
        while let Some(at) =
            fleet.chosen(&tried, |fleet, call| fleet.elsewhere(call).cloned())
        {
            prop_assert!(!tried.contains(&at));
            tried.push(at);
        }
        prop_assert!((0..count).all(|at| tried.contains(&at)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_back_is_tried_by_one_attempt_a_second_until_it_answers() {
    for balance in [BalanceConfig::LeastRequest, BalanceConfig::RoundRobin] {
        let fleet = Tiers::new(&[0, 0, 1], balance);
        let next = || fleet.next(&[]).unwrap();
        fleet.checked(1, false);
        assert_eq!(next(), 0);
        fleet.ended(0, EndpointResult::Failed);
        assert_eq!([next(), next()], [2, 2]);
        let until = fleet.shared.let_return(Instant::now()).1.unwrap();
        tokio::time::sleep_until(until).await;
        fleet.shared.let_return(Instant::now());
        assert_eq!([next(), next(), next()], [0, 2, 2]);
        tokio::time::advance(S - Duration::from_millis(1)).await;
        assert_eq!(next(), 2);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!([next(), next()], [0, 2]);
        // Nobody else is in: it gets all.
        fleet.checked(2, false);
        assert_eq!([(); 4].map(|()| next()), [0; 4]);
        fleet.checked(2, true);
        assert_eq!(next(), 2);
        fleet.ended(0, EndpointResult::Answered);
        assert_eq!([next(), next()], [0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_head_is_an_answer_however_long_its_stream_lasts() {
    let fleet = Tiers::new(&[0, 1], BalanceConfig::LeastRequest);
    let next = || fleet.next(&[]).unwrap();
    fleet.ended(0, EndpointResult::Failed);
    let until = fleet.shared.let_return(Instant::now()).1.unwrap();
    tokio::time::sleep_until(until).await;
    fleet.shared.let_return(Instant::now());
    assert_eq!([next(), next()], [0, 1]);
    let (now, endpoint) = (Instant::now(), fleet.place(0));
    fleet.shared.record(&endpoint, EndpointResult::Answered, Duration::ZERO, false, now);
    assert_eq!([next(), next()], [0, 0]);
    // One failure is enough still.
    fleet.ended(0, EndpointResult::Failed);
    assert_eq!(next(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_full_leaves_attempts_to_the_next() {
    let fleet = Tiers::with(&[0, 1], |config| {
        config.settings = UpstreamSettings { max_in_flight: Some(1), ..config.settings.clone() };
    });
    let call = call();
    let enter = async |at: usize| {
        let endpoint = fleet.fleet().endpoints()[at].clone();
        endpoint.enter(&call, &Scope::new(&fleet.upstream)).await.unwrap()
    };
    let first = enter(0).await;
    assert_eq!(fleet.next(&[]), Some(1));
    let second = enter(1).await;
    assert_eq!(fleet.next(&[]), Some(0), "it waits where it would go");
    drop((first, second));
    assert_eq!(fleet.next(&[]), Some(0));
}
