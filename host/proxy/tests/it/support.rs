//! The program as the tests run it: [`Proxy`], running, and [`fusebox`], run to its end.

mod metrics;
mod program;
mod proxy;

pub(crate) use metrics::metrics;
pub(crate) use program::{fusebox, fusebox_elsewhere, fusebox_with};
pub(crate) use proxy::{Proxy, ROUTE};
