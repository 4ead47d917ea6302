//! The program as the tests run it: [`Proxy`], running, and [`fusebox`], run to its end.

mod asking;
mod metrics;
mod program;
mod proxy;
mod via;

pub(crate) use asking::asked_during;
pub(crate) use metrics::metrics;
pub(crate) use program::{fusebox, fusebox_elsewhere, fusebox_noting, fusebox_with, verdict};
pub(crate) use proxy::{Proxy, ROUTE};
pub(crate) use via::without_pseudonym;
