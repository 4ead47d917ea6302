//! What a policy may ask its surroundings for while it is built.

use std::sync::Arc;

use crate::budget::Budget;
use crate::predicate::{Predicate, Responder};

/// What a policy may ask its surroundings for while it is built. Errors say what is missing.
pub trait Parts {
    /// The component of this name as a condition.
    ///
    /// # Errors
    /// There is none, or it exports no `predicate`.
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String>;

    /// The component of this name as a source of fallback responses.
    ///
    /// # Errors
    /// There is none, or it exports no `fallback`.
    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String>;

    /// There is an upstream of this name, for a fallback to ask.
    ///
    /// # Errors
    /// There is none.
    fn upstream(&self, name: &str) -> Result<(), String> {
        Err(format!("no upstream `{name}`"))
    }

    /// The budget of this name.
    ///
    /// # Errors
    /// There is none.
    fn budget(&self, name: &str) -> Result<Arc<Budget>, String>;
}
