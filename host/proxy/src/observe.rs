//! What an operator sees: the one seam between what happens and who is told.
//!
//! Everything below emits [`EventKind`](fusebox_resilience::EventKind)s and nothing else.
//! `describe.rs` puts each into words, [`Log`] writes those as JSON lines, and [`Metrics`] counts.
//! Both match every kind, so a new one does not compile until each has decided what to do with it.
//! Both are called on the workers: neither blocks on I/O, and what is called for every request
//! allocates nothing.

mod describe;
mod level;
mod line;
mod log;
mod metrics;
mod no_route;
pub(crate) mod wall_clock;

pub use level::Level;
pub use line::Line;
pub use log::{Log, LogWriter};
pub use metrics::{
    BudgetSample, CONTENT_TYPE, CertificateSample, ChosenEndpointSample, ComponentSample,
    EndpointSample, Metrics, NameSample, PlacesSample, PolicySample, Scrape, TierSample,
};
pub use no_route::NO_ROUTE;
