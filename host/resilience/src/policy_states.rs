//! What policies keep of something that is not theirs, such as an endpoint: a state each, which
//! lives as long as that does.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A list that only grows, by one for each policy that has looked: read without a lock, by every
/// attempt.
#[derive(Default)]
pub struct PolicyStates(OnceLock<Box<PolicyState>>);

struct PolicyState {
    owner: StateOwner,
    state: Box<dyn Any + Send + Sync>,
    next: PolicyStates,
}

/// Whose a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateOwner(u64);

impl StateOwner {
    /// One that is nobody else's.
    pub(crate) fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Relaxed))
    }
}

impl PolicyStates {
    /// The state of this owner, which is made if there is none. An owner has states of one type.
    pub(crate) fn of<S: Send + Sync + 'static>(
        &self,
        owner: StateOwner,
        make: impl Fn() -> S,
    ) -> &S {
        let mut place = self;
        loop {
            let found = place.0.get_or_init(|| {
                let state = Box::new(make());
                Box::new(PolicyState { owner, state, next: Self::default() })
            });
            if let Some(state) = found.state.downcast_ref().filter(|_| found.owner == owner) {
                return state;
            }
            place = &found.next;
        }
    }
}

impl fmt::Debug for PolicyStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owners = std::iter::successors(self.0.get(), |state| state.next.0.get());
        f.debug_list().entries(owners.map(|state| state.owner)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_one_state_that_stays() {
        let states = PolicyStates::default();
        let [one, two] = [StateOwner::new(), StateOwner::new()];
        let of = |owner, new: u64| *states.of(owner, || new);
        assert_eq!((of(one, 1), of(two, 2), of(one, 3), of(two, 4)), (1, 2, 1, 2));
    }

    #[test]
    fn threads_that_look_at_once_find_the_same() {
        let states = PolicyStates::default();
        let owners: Vec<_> = (0..4).map(|_| StateOwner::new()).collect();
        let find = || {
            let found = owners.iter().map(|owner| states.of(*owner, || Box::new(0)) as *const _);
            found.map(|at: *const Box<i32>| at as usize).collect::<Vec<_>>()
        };
        let found = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(find));
            threads.map(|thread| thread.join().unwrap())
        });
        assert!(found.iter().all(|they| *they == find()));
    }
}
