//! For those who write components: trying one out by its cases, measuring it, looking at it, and
//! making one of a core module.

mod difference;
mod inspect;
mod trial;
mod world;

pub use self::inspect::{Inspection, inspect};
pub use self::trial::{BenchReport, CallTimes, ComponentTrial};
pub use self::world::{World, imports};
pub use crate::cases::Cases;
pub use crate::cases::compare::{CaseReport, Difference};
