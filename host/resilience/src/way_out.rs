//! Requests that are no client's: what components ask while they answer a call.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::scope::Upstream;
use crate::worker::Worker;

/// Whom components may ask, as their worker reaches them.
pub struct WayOut {
    upstreams: HashMap<Arc<str>, Rc<dyn Upstream>>,
    worker: Rc<Worker>,
}

impl WayOut {
    /// The upstreams behind what components are granted, such as `https:a.example`, and what runs
    /// the requests: their attempts are no attempts of the route whose call led to them, and are
    /// not to be told as such.
    pub fn new(upstreams: HashMap<Arc<str>, Rc<dyn Upstream>>, worker: Worker) -> Self {
        Self { upstreams, worker: worker.into() }
    }

    /// That of a worker. `None`: its components ask nobody.
    pub fn of(worker: &Worker) -> Option<Rc<Self>> {
        worker.way_out()?.clone().downcast().ok()
    }

    /// The upstream behind what a component is granted. `None`: there is none.
    pub fn upstream(&self, grant: &str) -> Option<&Rc<dyn Upstream>> {
        self.upstreams.get(grant)
    }

    /// What runs the requests.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl fmt::Debug for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.upstreams.keys()).finish()
    }
}
