//! Descriptors for the admin listener when the process has no others: whoever asks about health is
//! answered then, too.

use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;

/// Descriptors that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct AdminReserve(Rc<RefCell<Vec<File>>>);

/// One of them, which is in use. Afterwards there is one again, if it can be had.
#[derive(Debug)]
pub(super) struct LentDescriptor(AdminReserve);

impl AdminReserve {
    /// So many are kept.
    const MOST: usize = 2;

    /// A full one, or as full as it can be.
    pub(super) fn new() -> Self {
        let reserve = Self::default();
        reserve.fill();
        reserve
    }

    /// Takes what is missing, as far as it can be had.
    pub(super) fn fill(&self) {
        let mut kept = self.0.borrow_mut();
        while kept.len() < Self::MOST
            && let Ok(file) = File::open("/dev/null")
        {
            kept.push(file);
        }
    }

    /// Gives one back to the process, for whatever is opened next.
    pub(super) fn lend(&self) -> Option<LentDescriptor> {
        drop(self.0.borrow_mut().pop()?);
        Some(LentDescriptor(self.clone()))
    }
}

impl Drop for LentDescriptor {
    fn drop(&mut self) {
        self.0.fill();
    }
}
