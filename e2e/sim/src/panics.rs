//! Panics of a run. The data plane catches those of a dispatcher and starts it again, and the runtime those of a task, so that
//! nobody else would see them.

use std::{
    cell::RefCell,
    panic,
    sync::{Arc, Once},
};

use crate::history::{Fact, History};

thread_local! {
    /// The run of this thread.
    static RUN: RefCell<Option<Arc<History>>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are facts of that history; `None`: they are only printed again.
pub(crate) fn note_in(history: Option<Arc<History>>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let run = RUN.with(|run| run.try_borrow().ok().and_then(|run| run.clone()));
            if let Some(history) = run {
                history.note(Fact::Panicked(panic.to_string()));
            }
            print(panic);
        }));
    });
    RUN.with(|run| run.replace(history));
}
