//! When a producer sends what it was handed.

/// So many records are mostly handed over before librdkafka's thread is awake.
const SMALL_GROUP: usize = 16;

/// When a producer sends what it was handed.
#[derive(Clone, Copy)]
pub(crate) enum Sends {
    /// Each record at once.
    AtOnce,
    /// A moment later, so that a large group goes in one request.
    Lingering,
}

impl Sends {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 2] = [Self::AtOnce, Self::Lingering];

    /// How a group of so many records is best sent.
    pub(crate) fn group_of(records: usize) -> Self {
        if records <= SMALL_GROUP {
            Self::AtOnce
        } else {
            Self::Lingering
        }
    }
}
