//! The budget that a policy has for what it asks beside the first attempts.

use std::sync::Arc;

use crate::budget::Budget;
use crate::config::Problems;
use crate::parts::Parts;
use crate::scope::Scope;

/// The word for no budget in the configuration.
const NO_BUDGET: &str = "none";

/// What bounds the extras of all calls together.
#[derive(Debug)]
pub(super) enum ExtraBudget {
    OfUpstream,
    Named(Arc<Budget>),
    None,
}

impl ExtraBudget {
    /// The one of this name, under the key `budget`.
    pub(super) fn build(name: Option<&str>, parts: &dyn Parts, problems: &mut Problems) -> Self {
        match name {
            None => Self::OfUpstream,
            Some(NO_BUDGET) => Self::None,
            Some(name) => match parts.budget(name) {
                Ok(budget) => Self::Named(budget),
                Err(message) => {
                    problems.add("budget", message);
                    Self::None
                }
            },
        }
    }

    /// Whether the configuration does without one.
    pub(super) fn is_none(name: Option<&str>) -> bool {
        name == Some(NO_BUDGET)
    }

    /// The budget of a run in this scope.
    pub(super) fn of<'a>(&'a self, scope: &Scope<'a>) -> Option<&'a Budget> {
        match self {
            Self::OfUpstream => scope.upstream().budget(),
            Self::Named(budget) => Some(budget),
            Self::None => None,
        }
    }
}
