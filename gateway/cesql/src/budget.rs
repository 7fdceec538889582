//! The budget of an evaluation: steps of about a nanosecond, counted before they are taken.
//!
//! A runtime thread that evaluates a filter does nothing else meanwhile, and the author of a filter does not own the
//! other subscriptions (CONTRACT CH-2). So cost has a bound that does not depend on how an expression and an event are
//! written: beyond it there is an error, never a wrong value.

use std::cell::Cell;

/// Steps that all filters of one subscription may take on one event: one to three milliseconds of a core. A pattern of the
/// costliest form on the largest attribute (256 KiB) takes half of them, the usual filter a hundred.
pub const STEPS_MAX: usize = 2 * 1024 * 1024;

/// A node, beyond the texts that it touches.
pub(crate) const NODE: usize = 8;

/// Looking one attribute up among the at most 256 that an event has.
pub(crate) const LOOKUP: usize = 256;

/// Bytes that are copied or compared in one step; the processor takes more.
const COPIED_PER_STEP: usize = 8;

/// Steps that changing the case of a byte takes in a text that is not all ASCII.
const STEPS_PER_CASED: usize = 12;

/// Steps that are left.
#[derive(Debug)]
pub struct Budget {
    all: usize,
    left: Cell<usize>,
}

/// There are none left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent;

impl Default for Budget {
    /// That of one event: [`STEPS_MAX`].
    fn default() -> Self {
        Self::new(STEPS_MAX)
    }
}

impl Budget {
    /// Makes a budget of that many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            all: steps,
            left: Cell::new(steps),
        }
    }

    /// Steps taken so far.
    pub fn taken(&self) -> usize {
        self.all - self.left.get()
    }

    /// The rest stays as it is when it does not suffice: a cheaper part may still fit.
    pub(crate) fn take(&self, steps: usize) -> Result<(), Spent> {
        let left = self.left.get().checked_sub(steps).ok_or(Spent)?;
        self.left.set(left);
        Ok(())
    }

    /// For a text that is copied, counted, or compared with another.
    pub(crate) fn take_copy(&self, bytes: usize) -> Result<(), Spent> {
        self.take(bytes / COPIED_PER_STEP)
    }

    /// For a text whose letters become small or capital ones.
    pub(crate) fn take_cased(&self, text: &str) -> Result<(), Spent> {
        // Asking and changing are as cheap as copying.
        self.take_copy(2 * text.len())?;
        if text.is_ascii() {
            Ok(())
        } else {
            self.take(text.len() * STEPS_PER_CASED)
        }
    }
}
