//! The duties of every channel, as cases that each implementation runs: a backend is finished when they pass.
//!
//! An implementation describes how it is opened ([`Backend`]) and expands [`cases!`](crate::cases) in its tests: one
//! test per case, so a failure is named. [`Promises`](crate::Promises) choose what applies: a case about restarts does
//! nothing on a channel that promises `Process` only.
//!
//! Time is paused where a case waits, so a case takes as long as its I/O.

mod append;
mod cursors;
mod dead_letters;
mod kit;
mod owners;
mod restart;
mod settle;
mod tail;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{append::*, cursors::*, dead_letters::*, owners::*, restart::*, settle::*, tail::*};
use crate::Channel;

/// How the suite opens a kind of channel. One value is one place where events may live, empty at first.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens the channel: at first empty, later with what it kept. The one opened before is closed or dropped by then.
    async fn open(&self) -> Arc<dyn Channel>;

    /// Opens it small: full after a few hundred events, or `None` when only the disk is its bound.
    async fn open_small(&self) -> Option<Arc<dyn Channel>>;

    /// Drops the channel without closing it, as a process that dies does. Called with the only handle.
    async fn crash(&self, channel: Arc<dyn Channel>);
}

/// Expands to one `#[tokio::test]` per case; `$backend` is an expression that makes a fresh [`Backend`].
#[macro_export]
macro_rules! cases {
    ($backend:expr) => {
        $crate::cases! { @ $backend;
            /// Proves: CH-1
            every_event_reaches_every_cursor_once;
            /// Proves: IN-5
            a_batch_is_stored_whole_and_side_by_side;
            /// Proves: IN-3
            an_event_over_the_limit_is_refused_and_nothing_of_its_batch_stored;
            /// Proves: IN-7
            an_event_comes_back_byte_for_byte;
            /// Proves: CH-9, IN-3
            a_full_channel_refuses_and_takes_events_again_when_there_is_space;
            /// Proves: CH-2
            a_cursor_that_does_nothing_disturbs_no_other;
            /// Proves: CH-1
            concurrent_appends_arrive_in_offset_order;
            /// Proves: CH-1
            each_of_many_appends_has_its_own_offset;
            /// Proves: OP-1
            a_closed_channel_says_so_everywhere;
            /// Proves: CH-3
            what_is_dropped_comes_back;
            /// Proves: CH-3
            what_is_released_comes_back_after_its_time_and_not_before;
            /// Proves: CH-3, CH-6
            released_events_come_before_new_ones_in_stored_order;
            /// Proves: CH-3
            an_event_is_in_flight_only_once;
            /// Proves: CH-3
            a_cursor_dropped_with_events_in_flight_gives_them_to_the_next_holder;
            /// Proves: CH-5
            an_event_acknowledged_late_is_settled;
            /// Proves: CH-3
            settling_out_of_order_loses_nothing;
            /// Proves: DL-4
            attempts_are_remembered_while_the_process_lives;
            /// Proves: CH-3
            next_can_be_cancelled_at_any_moment;
            /// Proves: CH-4
            a_cursor_from_latest_gets_only_what_comes_after;
            /// Proves: CH-4, CH-7
            a_cursor_from_earliest_gets_all_that_is_kept;
            /// Proves: CH-4, CH-7
            a_cursor_from_an_offset_begins_there;
            /// Proves: CH-4, CH-7
            a_cursor_from_a_time_begins_with_the_first_event_stored_then;
            /// Proves: CH-7
            ranges_bound_the_events_kept_from_a_start_on;
            /// Proves: CH-4
            an_existing_cursor_goes_on_where_it_was_whatever_the_start_says;
            /// Proves: CH-4
            a_deleted_cursor_frees_its_events_and_starts_again;
            /// Proves: CH-4
            a_cursor_of_another_owner_is_not_resumed;
            /// Proves: CH-4
            a_cursor_has_one_holder_at_a_time;
            /// Proves: CH-2
            depth_counts_what_each_cursor_has_to_do;
            /// Proves: CH-7
            the_settlement_state_of_one_event_is_known;
            /// Proves: CH-7
            reading_shows_what_is_kept_and_settles_nothing;
            /// Proves: CH-7
            growth_is_announced;
            /// Proves: CH-2
            without_a_cursor_a_reader_waits_and_never_spins;
            /// Proves: CH-2
            a_tail_without_cursors_shows_every_event;
            /// Proves: CH-2
            a_tail_beside_a_fast_cursor_shows_every_event;
            /// Proves: CH-2, OP-1
            a_tail_ends_with_its_channel;
            /// Proves: CH-7, DL-5
            dead_letters_are_kept_listed_and_removed;
            /// Proves: DL-6, IN-8
            a_dead_letter_keeps_event_and_facts_byte_for_byte;
            /// Proves: CH-7, DL-5
            dead_letters_survive_a_restart;
            /// Proves: CH-5, OP-1
            after_a_clean_close_nothing_settled_comes_again_and_nothing_else_is_missing;
            /// Proves: OP-2, CH-1
            after_a_crash_every_acknowledged_event_is_there_in_order;
            /// Proves: CH-3, CH-5
            after_a_crash_what_was_not_settled_comes_again;
            /// Proves: CH-1, CH-4
            cursors_and_their_absence_survive_a_crash;
            /// Proves: DL-4
            attempts_survive_a_restart_with_their_offset;
        }
    };
    (@ $backend:expr; $($(#[$doc:meta])* $case:ident;)*) => {
        $(
            $(#[$doc])*
            #[tokio::test]
            async fn $case() {
                $crate::suite::$case(&$backend).await;
            }
        )*
    };
}
