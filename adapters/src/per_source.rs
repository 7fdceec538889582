//! One value for each source, as long as somebody uses it: an edited source finds what it had, a deleted one takes it along.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// Values by what their sources are called. A handle: clones are the same.
pub struct PerSource<K, T>(Arc<Mutex<BTreeMap<K, Weak<T>>>>);

impl<K: Clone + Ord, T> PerSource<K, T> {
    /// The value in use under this key, if it is the right one, else a new one.
    pub fn get_or_make(&self, key: K, is_right: impl FnOnce(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.0.lock();
        let found = values.get(&key).and_then(Weak::upgrade);
        if let Some(value) = found.filter(|value| is_right(value)) {
            return value;
        }
        values.retain(|_, value| value.strong_count() > 0);
        let value = Arc::new(make());
        values.insert(key, Arc::downgrade(&value));
        value
    }

    /// All in use, in the order of their keys.
    pub fn in_use(&self) -> Vec<(K, Arc<T>)> {
        let values = self.0.lock();
        let used = values.iter();
        used.filter_map(|(key, value)| Some((key.clone(), value.upgrade()?)))
            .collect()
    }
}

impl<K, T> Clone for PerSource<K, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, T> Default for PerSource<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> fmt::Debug for PerSource<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSource").finish_non_exhaustive()
    }
}
