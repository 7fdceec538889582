//! The memory budget shared by all channels of a process.
//!
//! Each channel has bounds of its own, but many channels together would still fill the machine. So everything a
//! channel holds is taken from one budget; its events and its dead letters each have an account. The budget is never
//! exceeded, and it is shared:
//! * One half is divided evenly among the accounts. An account gets its share unless accounts that existed before have
//!   used up the whole budget.
//! * The other half goes to any account that needs more than its share, and no account holds more than half of the
//!   budget. So one stuck channel does not stop the others.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// Bytes taken at once, so that the budget is rarely locked.
const STEP: usize = 64 << 10;

/// The memory budget of all channels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    total: usize,
    next_id: AtomicU64,
    used: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    by_account: HashMap<u64, usize>,
    sum: usize,
}

impl Budget {
    /// In bytes. A quarter of the 1 GiB that the gateway's pod may use; the rest is for incoming bodies, events in
    /// flight and the log's buffers.
    pub const DEFAULT_BYTES: usize = 256 << 20;
    /// In bytes. Half of it holds the largest event.
    pub const MIN_BYTES: usize = 64 << 20;

    /// Creates a budget of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(BudgetState {
            total: bytes,
            next_id: AtomicU64::new(0),
            used: Mutex::default(),
        }))
    }

    /// Size of the budget in bytes.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// Bytes in use, rounded up to the next step.
    pub fn used(&self) -> usize {
        self.0.used.lock().sum
    }

    pub(crate) fn account(&self) -> Account {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        self.0.used.lock().by_account.insert(id, 0);
        Account {
            shared: self.0.clone(),
            id,
            used: 0,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

impl Usage {
    /// Whether this account may hold `bytes` bytes. Its current usage is part of the sum.
    fn allows(&self, id: u64, bytes: usize, total: usize) -> bool {
        let own = self.by_account.get(&id).copied().unwrap_or(0);
        if self.sum - own + bytes > total {
            return false;
        }
        let half = total / 2;
        let share = half / self.by_account.len().max(1);
        if bytes <= share {
            return true;
        }
        let above = |used: usize| used.saturating_sub(share);
        let others = self.by_account.iter().filter(|(other, _)| **other != id);
        let shared: usize = others.map(|(_, used)| above(*used)).sum();
        bytes <= half && shared + above(bytes) <= half
    }
}

/// The account of one part of a channel. Returns its bytes to the budget on drop.
#[derive(Debug)]
pub(crate) struct Account {
    shared: Arc<BudgetState>,
    id: u64,
    used: usize,
}

impl Account {
    /// Grows the account to hold `bytes` bytes; `false` if the budget does not allow it, and nothing has changed.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        if bytes <= self.used {
            return true;
        }
        let shared = self.shared.clone();
        let mut used = shared.used.lock();
        let steps = bytes.next_multiple_of(STEP);
        let allowed = [steps, bytes]
            .into_iter()
            .find(|bytes| used.allows(self.id, *bytes, shared.total));
        match allowed {
            Some(bytes) => {
                self.set(&mut used, bytes);
                true
            }
            None => false,
        }
    }

    /// Whether `bytes` bytes could be held.
    pub(crate) fn could_hold(&self, bytes: usize) -> bool {
        bytes <= self.used || self.shared.used.lock().allows(self.id, bytes, self.shared.total)
    }

    /// Returns to the budget what is not needed to hold `bytes` bytes.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        // Keeps one extra step, so that a channel in use does not lock the budget for each event. An empty account
        // keeps nothing: there may be thousands of them.
        let keep = match bytes {
            0 => 0,
            bytes => bytes.next_multiple_of(STEP) + STEP,
        };
        if keep < self.used {
            let shared = self.shared.clone();
            self.set(&mut shared.used.lock(), keep);
        }
    }

    /// For a condition's message.
    pub(crate) fn total(&self) -> usize {
        self.shared.total
    }

    fn set(&mut self, used: &mut Usage, bytes: usize) {
        used.sum = used.sum - self.used + bytes;
        used.by_account.insert(self.id, bytes);
        self.used = bytes;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut used = self.shared.used.lock();
        used.by_account.remove(&self.id);
        used.sum -= self.used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Proves: CH-2
    #[test]
    fn one_account_takes_half_at_most_and_each_has_its_share_whatever_the_others_took() {
        let budget = Budget::new(64 * MIB);
        let mut greedy = budget.account();
        assert!(greedy.hold(32 * MIB));
        assert!(!greedy.hold(32 * MIB + 1), "no more than half");
        let mut second = budget.account();
        let mut third = budget.account();
        let mut fourth = budget.account();
        // 8 MiB of the shared half are left: 32 less the 24 that the first account has above its share of 8.
        assert!(second.hold(16 * MIB));
        assert!(!second.hold(16 * MIB + 1));
        for account in [&mut third, &mut fourth] {
            assert!(account.hold(8 * MIB), "its share");
            assert!(!account.hold(8 * MIB + 1));
        }
        assert_eq!(budget.used(), 64 * MIB);
        greedy.shrink(0);
        assert!(third.hold(24 * MIB), "what was given back");
        drop((greedy, second, third, fourth));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_whole_is_never_exceeded_however_many_come() {
        let budget = Budget::new(64 * MIB);
        let mut accounts: Vec<Account> = (0..100).map(|_| budget.account()).collect();
        for round in 1..50 {
            for account in &mut accounts {
                account.hold(round * MIB);
                assert!(budget.used() <= budget.total());
            }
            accounts.push(budget.account());
        }
        for account in &mut accounts {
            account.shrink(0);
        }
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_account_in_use_asks_in_steps_and_an_empty_one_keeps_nothing() {
        let budget = Budget::new(64 * MIB);
        let mut account = budget.account();
        assert!(account.hold(1));
        assert_eq!(budget.used(), STEP);
        assert!(account.hold(STEP));
        assert_eq!(budget.used(), STEP);
        account.shrink(1);
        assert_eq!(budget.used(), STEP);
        account.shrink(0);
        assert_eq!(budget.used(), 0);
    }
}
