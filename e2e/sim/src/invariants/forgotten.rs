//! A cursor is deleted only after its subscription was (CONTRACT CH-4): not by an edit, a pause, a restart, or a channel that is closed
//! and opened again.

use std::collections::HashSet;

use super::View;
use crate::history::Fact;

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    // Deleted by a user since its cursor was last deleted.
    let mut unsubscribed: HashSet<&str> = HashSet::new();
    for record in view.records {
        match &record.fact {
            Fact::Unsubscribed { subscription } => {
                unsubscribed.insert(subscription);
            }
            Fact::CursorDeleted { channel, cursor } if !unsubscribed.remove(cursor.as_str()) => {
                return Err(format!(
                    "channel {channel} deleted the cursor of {cursor}, and no user deleted that subscription"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
