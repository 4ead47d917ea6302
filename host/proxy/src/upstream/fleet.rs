//! The endpoints of an upstream where there is a choice, as one worker has them, and which of them
//! gets an attempt.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{Call, clock};
use tokio::sync::watch;
use tokio::time::timeout;

use super::balance::Balance;
use super::endpoint::Endpoint;
use super::limits::WorkerShare;
use super::shared::{EndpointList, KnownEndpoints, UpstreamHandle};
use super::shared_endpoint::SharedEndpoint;
use super::tier::{TierCount, TierInUse};
use crate::buffers::Buffers;

/// The endpoints of a worker, which follow those of the upstream. An attempt holds on to its own.
#[derive(Debug)]
pub(super) struct WorkerFleet {
    upstream: Rc<UpstreamHandle>,
    share: WorkerShare,
    buffers: Rc<Buffers>,
    known: RefCell<watch::Receiver<KnownEndpoints>>,
    current: RefCell<Rc<Fleet>>,
}

/// The endpoints of a worker at one time.
#[derive(Debug)]
pub(super) struct Fleet {
    upstream: Rc<UpstreamHandle>,
    shared: EndpointList,
    /// In the same order.
    endpoints: Box<[Rc<Endpoint>]>,
    /// The first one first.
    tiers: Box<[FleetTier]>,
}

/// A tier: endpoints that get requests if none in front of them is in.
#[derive(Debug)]
struct FleetTier {
    tier: u16,
    places: Range<usize>,
    balance: Balance,
}

impl WorkerFleet {
    /// Nobody has asked them yet.
    pub(super) fn new(
        upstream: Rc<UpstreamHandle>,
        share: WorkerShare,
        buffers: Rc<Buffers>,
    ) -> Self {
        let known = upstream.endpoints();
        let current = Fleet::new(&upstream, &known.borrow().list, |shared| {
            Endpoint::new(&upstream, shared.clone(), share, &buffers).into()
        });
        let (known, current) = (known.into(), RefCell::new(current.into()));
        Self { upstream, share, buffers, known, current }
    }

    /// Those of now.
    pub(super) fn current(&self) -> Rc<Fleet> {
        // It is known for as long as there is an upstream.
        if self.known.borrow().has_changed().is_ok_and(|has_changed| has_changed) {
            self.renew();
        }
        self.current.borrow().clone()
    }

    /// Waits until they have been looked up once, for so long at most. Returns what was wrong the
    /// last time.
    pub(super) async fn looked_up(&self, limit: Duration) -> Option<Arc<str>> {
        let mut known = self.known.borrow().clone();
        let known = timeout(limit, known.wait_for(KnownEndpoints::are_looked_up)).await.ok()?;
        known.ok()?.problem.clone()
    }

    /// What an endpoint has stays with it. Those that have gone keep no connections.
    #[cold]
    fn renew(&self) {
        let shared = self.known.borrow_mut().borrow_and_update().list.clone();
        let old = self.current.borrow().clone();
        if Arc::ptr_eq(&old.shared, &shared) {
            return;
        }
        let old = old.shared.iter().map(Arc::as_ptr).zip(old.endpoints.iter().cloned());
        let mut old: HashMap<*const SharedEndpoint, Rc<Endpoint>> = old.collect();
        let new = Fleet::new(&self.upstream, &shared, |shared| {
            let kept = old.remove(&Arc::as_ptr(shared));
            kept.unwrap_or_else(|| {
                Endpoint::new(&self.upstream, shared.clone(), self.share, &self.buffers).into()
            })
        });
        self.current.replace(new.into());
        old.values().for_each(|gone| gone.close());
    }
}

impl Fleet {
    fn new(
        upstream: &Rc<UpstreamHandle>,
        shared: &EndpointList,
        endpoint: impl FnMut(&Arc<SharedEndpoint>) -> Rc<Endpoint>,
    ) -> Self {
        let mut start = 0;
        let tiers = shared.chunk_by(|one, next| one.config.tier == next.config.tier).map(|of| {
            let places = start..start + of.len();
            start = places.end;
            let balance = Balance::new(&upstream.config.fleet.balance, of);
            FleetTier { tier: of[0].config.tier, places, balance }
        });
        Self {
            upstream: upstream.clone(),
            shared: shared.clone(),
            tiers: tiers.collect(),
            endpoints: shared.iter().map(endpoint).collect(),
        }
    }

    pub(super) fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// What all workers know of the endpoint at this place.
    pub(super) fn shared(&self, at: usize) -> &SharedEndpoint {
        &self.shared[at]
    }

    pub(super) fn upstream(&self) -> &UpstreamHandle {
        &self.upstream
    }

    /// The endpoint for the next attempt: of those that get requests, one that has room, and one
    /// that the call has not tried, if there is one; and of those, one of the first tier that has
    /// one. `None`: there are none at all.
    pub(super) fn choose(&self, call: &Call) -> Option<&Rc<Endpoint>> {
        let chosen = self.choose_among(call, |_| true, |at| self.cost(at));
        self.endpoints.get(chosen?)
    }

    /// The place of the endpoint for the next attempt, of those that are open. `None`: there are
    /// none.
    pub(super) fn choose_among(
        &self,
        call: &Call,
        is_open: impl Fn(usize) -> bool,
        cost: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        if self.endpoints.is_empty() {
            return None;
        }
        let choose =
            |is_candidate: &dyn Fn(usize) -> bool| self.choose_by_tier(call, is_candidate, &cost);
        let is_in = |at: usize| !self.is_out(at) && is_open(at);
        let is_used = |at: usize| is_in(at) && !self.is_being_tried(at);
        let is_new = |at: usize| is_used(at) && !call.has_tried(self.endpoints[at].label());
        let has_room = |at: usize| self.endpoints[at].has_room();
        let new =
            if call.has_tried_any() { choose(&|at| is_new(at) && has_room(at)) } else { None };
        let chosen = new
            .or_else(|| choose(&|at| is_used(at) && has_room(at)))
            .or_else(|| choose(&is_new))
            .or_else(|| choose(&is_used))
            .or_else(|| choose(&is_in))
            .or_else(|| choose(&is_open));
        if let Some(at) = chosen.filter(|_| self.has_tiers()) {
            self.shared[at].try_it(clock::now());
        }
        chosen
    }

    /// The place of a candidate of the first tier that has one. `None`: there is none.
    fn choose_by_tier(
        &self,
        call: &Call,
        is_candidate: impl Fn(usize) -> bool,
        cost: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        self.tiers.iter().find_map(|FleetTier { places, balance, .. }| {
            let (endpoints, first) = (&self.shared[places.clone()], places.start);
            let is_candidate = |at: usize| is_candidate(first + at);
            let cost = |at: usize| cost(first + at);
            balance.choose(endpoints, call, is_candidate, cost).map(|at| first + at)
        })
    }

    fn has_tiers(&self) -> bool {
        self.tiers.len() > 1
    }

    /// Whether the endpoint at this place is back from an ejection, and another attempt tries it: a
    /// tier that is back as a whole would get all requests before it has answered one.
    fn is_being_tried(&self, at: usize) -> bool {
        self.has_tiers() && self.shared[at].is_being_tried(clock::now)
    }

    /// The tier that gets requests if these get none.
    pub(super) fn tier_in_use(&self, gets_none: impl Fn(usize) -> bool) -> Option<TierInUse> {
        let tiers = self.tiers.iter();
        TierInUse::among(tiers.map(|FleetTier { tier, places, .. }| {
            TierCount::of(*tier, places.clone().map(&gets_none))
        }))
    }

    /// Another endpoint for an attempt whose own has refused the connection: one with room that the
    /// call has not tried, even one that gets no requests if there is no other. `None`: all are
    /// tried.
    pub(super) fn elsewhere(&self, call: &Call) -> Option<&Rc<Endpoint>> {
        let choose = |is_candidate: &dyn Fn(usize) -> bool| {
            self.choose_by_tier(call, is_candidate, |at| self.cost(at))
        };
        let is_new = |at: usize| {
            let endpoint = &self.endpoints[at];
            !call.has_tried(endpoint.label()) && endpoint.has_room()
        };
        let chosen = choose(&|at| is_new(at) && !self.is_out(at)).or_else(|| choose(&is_new));
        self.endpoints.get(chosen?)
    }

    /// What an attempt more would cost the endpoint at this place.
    pub(super) fn cost(&self, at: usize) -> f64 {
        self.shared[at].cost(clock::now())
    }

    /// Whether the endpoint at this place gets no requests for now.
    pub(super) fn is_out(&self, at: usize) -> bool {
        !self.upstream.is_used(&self.shared[at])
    }

    /// Whether one that gets requests, and has room, has not been tried by this call.
    pub(super) fn has_untried(&self, call: &Call) -> bool {
        let is_ready = |it: &Endpoint| self.upstream.is_used(it.shared()) && it.has_room();
        self.endpoints.iter().any(|it| !call.has_tried(it.label()) && is_ready(it))
    }
}

#[cfg(test)]
mod tiers;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fusebox_dev::{Origin, eventually, ok};
    use fusebox_resilience::config::ConfigDuration;
    use fusebox_resilience::testing::call;
    use fusebox_resilience::{EndpointEvent, Observers, Scope, Upstream as _};
    use tokio::time::Instant;

    use super::*;
    use crate::config::{
        BalanceConfig, EndpointConfig, EndpointUrl, EndpointsConfig, UpstreamConfig,
    };
    use crate::upstream::shared::{EndpointResult, EndpointStanding, SharedUpstream};
    use crate::upstream::{HttpUpstream, WorkerEndpoints};

    fn endpoint(origin: &impl ToString) -> EndpointConfig {
        EndpointUrl::parse(&origin.to_string()).unwrap().into()
    }

    fn upstream(
        endpoints: Vec<EndpointConfig>,
        slow_start: Option<ConfigDuration>,
    ) -> Arc<SharedUpstream> {
        let mut config = UpstreamConfig::new(endpoints[0].url.clone());
        config.endpoints = EndpointsConfig::Listed(endpoints);
        config.fleet.balance = BalanceConfig::RoundRobin;
        config.fleet.slow_start = slow_start;
        config.fleet.health.consecutive = 1;
        Arc::new(SharedUpstream::new(config.into()))
    }

    /// An origin, and how many connections to it have been closed.
    fn origin() -> (Origin, Arc<AtomicUsize>) {
        let closed = Arc::<AtomicUsize>::default();
        let count = closed.clone();
        let origin = Origin::start(move |connection| {
            while connection.request().is_some() {
                connection.wire.send(ok(""));
            }
            count.fetch_add(1, Ordering::SeqCst);
        });
        (origin, closed)
    }

    #[tokio::test]
    async fn what_stays_keeps_its_connections_and_what_has_gone_keeps_none() {
        let [(a, _), (b, b_closed), (c, _)] = [(); 3].map(|()| origin());
        let shared = upstream(vec![endpoint(&a), endpoint(&b)], None);
        let upstream = HttpUpstream::new(shared.clone(), WorkerShare::WHOLE, &Rc::default());
        let ask = async |times| {
            for _ in 0..times {
                let call = call("1", Observers::default());
                let response = upstream.attempt(&call, &Scope::new(&upstream)).await.unwrap();
                assert_eq!(response.status, 200);
            }
        };
        ask(4).await;
        let seen = || [&a, &b, &c].map(|origin| (origin.seen().len(), origin.connections()));
        assert_eq!(seen(), [(2, 1), (2, 1), (0, 0)]);
        shared.set_endpoints(vec![endpoint(&c), endpoint(&a)], Instant::now());
        upstream.reap();
        eventually("its connection is closed", || {
            (b_closed.load(Ordering::SeqCst) == 1).then_some(())
        });
        ask(4).await;
        assert_eq!(seen(), [(4, 1), (2, 1), (2, 1)]);
        shared.set_endpoints(Vec::new(), Instant::now());
        let call = call("1", Observers::default());
        assert!(upstream.attempt(&call, &Scope::new(&upstream)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_an_endpoint_stays_until_it_goes() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|host| endpoint(&format!("http://{host}")));
        let shared =
            upstream(vec![a.clone(), b.clone(), c.clone()], Some(ConfigDuration::from_secs(10)));
        let place = |at: usize| shared.endpoints().borrow().list[at].clone();
        let (now, ill, gone) = (Instant::now(), place(1), place(2));
        let fail = |endpoint| {
            shared.record(endpoint, EndpointResult::Failed, Duration::ZERO, true, now).len()
        };
        assert_eq!(fail(&ill), 1, "it is ejected");
        shared.set_endpoints(vec![d, b, a], now);
        let standings = || -> Vec<_> {
            let status = shared.status().into_iter();
            status.map(|it| (it.url.to_string(), it.usage.unwrap())).collect()
        };
        let [(_, new), (url, ejected), (_, well)] = &standings()[..] else { panic!("others") };
        assert_eq!((new.standing, well.standing), (EndpointStanding::In, EndpointStanding::In));
        assert!(matches!(ejected.standing, EndpointStanding::Ejected(_)), "{ejected:?}");
        assert_eq!((&**url, ejected.attempts, ejected.ejections), ("http://b", 1, 1));
        assert_eq!((place(0).share(now), place(2).share(now)), (0.1, 1.0));
        assert_eq!(fail(&gone), 0, "what was under way there changes nothing");

        // It comes back as a new one.
        shared.set_endpoints(vec![c], now);
        assert_eq!(standings()[0].1.attempts, 0);
        assert!(shared.let_return(now).1.is_none());
        let events = shared.checked(&place(0), Err("no"), now);
        assert_eq!(events, [], "one check is not enough");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_come_is_asked_before_one_that_is_out() {
        let endpoints = ["a", "b"].map(|host| endpoint(&format!("http://{host}")));
        let shared = upstream(endpoints.into(), Some(ConfigDuration::from_secs(10)));
        let upstream = HttpUpstream::new(shared.clone(), WorkerShare::WHOLE, &Rc::default());
        let WorkerEndpoints::Fleet(worker) = &upstream.endpoints else { panic!("it has two") };
        let fail = |place: usize| {
            let endpoint = shared.endpoints().borrow().list[place].clone();
            shared.record(&endpoint, EndpointResult::Failed, Duration::ZERO, true, Instant::now());
        };
        fail(0);
        let next = shared.let_return(Instant::now()).1.expect("one returns");
        tokio::time::sleep_until(next).await;
        shared.let_return(Instant::now());
        fail(1);
        let (fleet, call) = (worker.current(), call("1", Observers::default()));
        for _ in 0..100 {
            let chosen = fleet.choose(&call).expect("one");
            assert_eq!(&**chosen.label(), "http://a");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_may_leave_more_than_half_out() {
        let endpoints = ["a", "b", "c"].map(|host| endpoint(&format!("http://{host}")));
        let [a, b, c] = endpoints;
        let (shared, now) = (
            upstream(vec![a.clone(), b.clone(), c.clone()], Some(ConfigDuration::from_secs(10))),
            Instant::now(),
        );
        let ill = shared.endpoints().borrow().list[0].clone();
        shared.record(&ill, EndpointResult::Failed, Duration::ZERO, true, now);
        assert!(!shared.is_used(&ill));
        let changed = shared.set_endpoints(vec![a.clone()], now);
        assert!(matches!(
            changed[..],
            [EndpointEvent::Changed { .. }, EndpointEvent::AllUsed { .. }]
        ));
        assert!(shared.is_used(&ill));
        let changed = shared.set_endpoints(vec![a, b, c], now);
        assert!(matches!(
            changed[..],
            [EndpointEvent::Changed { .. }, EndpointEvent::SomeUsed { .. }]
        ));
        assert!(!shared.is_used(&ill));
    }
}
