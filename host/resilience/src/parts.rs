//! What a policy may ask its surroundings for while it is built.

use std::sync::Arc;

use crate::budget::Budget;
use crate::delayer::Delayer;
use crate::keyer::Keyer;
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

    /// The component of this name as one who knows how long to wait.
    ///
    /// # Errors
    /// There is none, or it exports no `delay`.
    fn delayer(&self, component: &str) -> Result<Arc<dyn Delayer>, String> {
        Err(format!("no component `{component}`"))
    }

    /// The component of this name as one who knows whose call it is.
    ///
    /// # Errors
    /// There is none, or it exports no `key`.
    fn keyer(&self, component: &str) -> Result<Arc<dyn Keyer>, String> {
        Err(format!("no component `{component}`"))
    }

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
