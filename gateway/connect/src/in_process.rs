//! Connections that never leave the process, for simulations under paused time: the runtime does not know that a socket is busy and
//! lets time run ahead of it.

use std::{cell::RefCell, io, sync::Arc};

use http::Uri;
use tokio::io::DuplexStream;

/// Connects to a target, or refuses like the network does.
pub type Connect = Arc<dyn Fn(&Uri) -> io::Result<DuplexStream>>;

thread_local! {
    static CONNECT: RefCell<Option<Connect>> = const { RefCell::new(None) };
}

/// Replaces the network for every connection that this thread opens from now on. `None` restores the network.
pub fn replace_network(connect: Option<Connect>) {
    CONNECT.set(connect);
}

/// Returns `None` where the network was not replaced.
pub(crate) fn connect(to: &Uri) -> Option<io::Result<DuplexStream>> {
    let connect = CONNECT.with_borrow(Clone::clone)?;
    Some(connect(to))
}
