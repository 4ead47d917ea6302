//! The circuits of a breaker that has one for each endpoint. Each lives with its endpoint.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::time::Instant;

use super::settings::CircuitSettings;
use super::shared::SharedCircuit;
use crate::event::EndpointName;
use crate::gate::GatedEndpoint;
use crate::keyed::KeyedState as _;
use crate::policy::ShownEndpoint;
use crate::policy_states::StateOwner;

/// The circuits of a breaker that has one for each endpoint.
#[derive(Debug)]
pub(super) struct EndpointCircuits {
    pub(super) owner: StateOwner,
    settings: CircuitSettings,
    /// Those of endpoints that are gone are of no use.
    known: Mutex<Vec<Weak<SharedCircuit>>>,
}

impl EndpointCircuits {
    /// Circuits with these settings; there are none yet.
    pub(super) fn new(settings: CircuitSettings) -> Self {
        Self { owner: StateOwner::new(), settings, known: Mutex::default() }
    }

    /// The circuit of this endpoint.
    pub(super) fn of<'a>(&self, endpoint: &'a GatedEndpoint) -> &'a Arc<SharedCircuit> {
        endpoint.states().of(self.owner, || {
            let settings = CircuitSettings { seed: fastrand::u64(..), ..self.settings };
            let name = endpoint.name().clone();
            let circuit = SharedCircuit::new(settings, Instant::now()).of_endpoint(name);
            let circuit = Arc::new(circuit);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() == known.capacity() {
                known.retain(|circuit| circuit.strong_count() > 0);
            }
            known.push(Arc::downgrade(&circuit));
            circuit
        })
    }

    /// Those of the endpoints that there are, by name.
    pub(super) fn all(&self) -> Vec<(EndpointName, Arc<SharedCircuit>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().filter_map(Weak::upgrade);
        let mut all: Vec<_> =
            known.filter_map(|circuit| Some((circuit.endpoint()?.clone(), circuit))).collect();
        all.sort_by(|(one, _), (other, _)| {
            (&one.upstream, &one.endpoint).cmp(&(&other.upstream, &other.endpoint))
        });
        all
    }

    /// What they show.
    pub(super) fn show(&self, now: Instant) -> Vec<ShownEndpoint> {
        let all = self.all().into_iter();
        all.map(|(name, circuit)| ShownEndpoint { name, shown: circuit.show(now) }).collect()
    }
}
