//! The tools of component authors: testing by cases, benchmarks, inspection, and components from
//! core modules.

mod difference;
mod inspect;
mod trial;
mod world;

pub use self::inspect::{Inspection, inspect};
pub use self::trial::{BenchReport, CallTimes, ComponentTrial};
pub use self::world::{World, imports};
pub use crate::cases::Cases;
pub use crate::cases::compare::{CaseReport, Difference};
