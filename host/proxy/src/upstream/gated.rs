//! Attempts that have to pass gates: policies that have a say in which endpoint is asked.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use fusebox_resilience::{Call, EndpointGates, EndpointLook, GateRefusal, Outcome, Scope, clock};

use super::endpoint::Endpoint;
use super::fleet::{Fleet, WorkerFleet};
use super::{HttpUpstream, WorkerEndpoints, attempt_at};

/// Endpoints that did not admit an attempt, by their places, and why.
type RefusedPlaces<'a> = Vec<(usize, GateRefusal<'a>)>;

/// The endpoint for an attempt.
struct GatedChoice {
    place: usize,
    /// Whether it goes there even if that is closed.
    is_forced: bool,
}

impl HttpUpstream {
    /// An attempt at an endpoint that these gates let through.
    pub(super) async fn attempt_gated(
        &self,
        call: &Call,
        scope: &Scope<'_>,
        gates: &EndpointGates<'_>,
    ) -> Outcome {
        match &self.endpoints {
            WorkerEndpoints::One(only) => {
                let place = only.enter(call, scope).await?;
                admit(only, call, gates).map_err(|refusal| refusal.reject(call))?;
                attempt_at(only, place, call, scope).await
            }
            WorkerEndpoints::Fleet(fleet) => self.attempt_at_open(fleet, call, scope, gates).await,
        }
    }

    async fn attempt_at_open(
        &self,
        worker: &WorkerFleet,
        call: &Call,
        scope: &Scope<'_>,
        gates: &EndpointGates<'_>,
    ) -> Outcome {
        if worker.current().endpoints().is_empty()
            && let Err(error) = self.first_endpoint(worker, call).await
        {
            return self.not_looked_up(call, scope, error);
        }
        let fleet = worker.current();
        let mut refused = RefusedPlaces::new();
        loop {
            let choice = fleet.choose_open(call, gates, &refused);
            let GatedChoice { place, is_forced } = choice.map_err(|closed| closed.reject(call))?;
            let endpoint = &fleet.endpoints()[place];
            let entered = endpoint.enter(call, scope).await?;
            match admit(endpoint, call, gates) {
                Err(refusal) if !is_forced => refused.push((place, refusal)),
                Err(_) | Ok(()) => return self.fly(endpoint, entered, call, scope).await,
            }
        }
    }

    /// What keeps an attempt from all endpoints, for the shortest time.
    pub(super) fn refusal_of_all<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        let now = clock::now();
        let look = |endpoint: &Rc<Endpoint>| gates.look(endpoint.shared().gated(), now).err();
        match &self.endpoints {
            WorkerEndpoints::One(only) => look(only),
            WorkerEndpoints::Fleet(fleet) => {
                let fleet = fleet.current();
                let closed: Option<Vec<_>> = fleet.endpoints().iter().map(look).collect();
                closed?.into_iter().min_by_key(GateRefusal::remaining)
            }
        }
    }
}

/// The next attempt of the call goes to this endpoint. One that is tried again after a time begins
/// as if nothing was known of it.
fn admit<'a>(
    endpoint: &Endpoint,
    call: &Call,
    gates: &EndpointGates<'a>,
) -> Result<(), GateRefusal<'a>> {
    let (shared, now) = (endpoint.shared(), clock::now());
    if gates.admit(shared.gated(), call.attempts() + 1, now)? == EndpointLook::Due {
        shared.comes(now);
    }
    Ok(())
}

impl Fleet {
    /// The endpoint for the next attempt, of those that are open and have not refused it. If more
    /// than half of the tier in use get no requests, no tier behind can take over, and not all are
    /// closed, all of that tier are used.
    fn choose_open<'a>(
        &self,
        call: &Call,
        gates: &EndpointGates<'a>,
        refused: &[(usize, GateRefusal<'a>)],
    ) -> Result<GatedChoice, GateRefusal<'a>> {
        let now = clock::now();
        let look = |place: usize| {
            let refusal = refused.iter().find(|(other, _)| *other == place);
            let look = || gates.look(self.shared(place).gated(), now);
            refusal.map_or_else(look, |(_, refusal)| Err(*refusal))
        };
        let has_closed = Cell::new(false);
        let is_open = |place: usize| {
            let is_open = look(place).is_ok();
            has_closed.set(has_closed.get() || !is_open);
            is_open
        };
        // One that is to be tried is tried: whatever it took while it was ill.
        let cost = |place: usize| match look(place) {
            Ok(EndpointLook::Due) => 0.0,
            _ => self.cost(place),
        };
        let are_all_used = gates.are_all_used(&self.upstream().gates);
        let mut open = None;
        if !are_all_used.load(Relaxed) {
            open = self.choose_among(call, is_open, cost);
            if let Some(place) = open.filter(|_| !has_closed.get()) {
                return Ok(GatedChoice { place, is_forced: false });
            }
        }
        // Seldom: only where one that was looked at is closed.
        let count = self.endpoints().len();
        let gets_none = |place: usize| self.is_out(place) || look(place).is_err();
        let in_use = self.tier_in_use(gets_none);
        let is_any_open = || (0..count).any(|place| look(place).is_ok());
        let all_used = in_use.filter(|tier| tier.are_all_used && is_any_open());
        let is_panic = all_used.is_some();
        if are_all_used.swap(is_panic, Relaxed) != is_panic
            && let Some(tier) = in_use
        {
            call.emit(gates.policy(), tier.told(is_panic, self.upstream().label()));
        }
        if let Some(all_used) = all_used {
            let is_open = |place: usize| {
                self.shared(place).config.tier == all_used.of.tier || look(place).is_ok()
            };
            let place = self.choose_among(call, is_open, cost).unwrap_or_default();
            return Ok(GatedChoice { place, is_forced: true });
        }
        if let Some(place) = open.or_else(|| self.choose_among(call, is_open, cost)) {
            return Ok(GatedChoice { place, is_forced: false });
        }
        let closed = (0..count).filter_map(|place| look(place).err());
        match closed.min_by_key(GateRefusal::remaining) {
            Some(refusal) => Err(refusal),
            // It has just opened.
            None => Ok(GatedChoice { place: 0, is_forced: false }),
        }
    }
}
