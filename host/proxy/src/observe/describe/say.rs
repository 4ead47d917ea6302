//! Who takes a description.

use std::fmt;

use crate::observe::level::Level;
use crate::observe::line::Line;

/// Takes the description of an event.
pub(crate) trait Say {
    /// The event is worth this level, and says this; `fields` adds what goes with it.
    fn say(&self, level: Level, message: impl fmt::Display, fields: impl FnOnce(&mut Line<'_>));
}
