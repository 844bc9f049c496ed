//! In: SIGINT and SIGTERM. Out: a graceful shutdown, and at the second one an end at once.

use crate::handle::Handle;

/// The thread that waits for them.
#[cfg(unix)]
pub(crate) struct Signals {
    handle: signal_hook::iterator::Handle,
    thread: std::thread::JoinHandle<()>,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn watch(server: &Handle) -> Option<Signals> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).ok()?;
        let (handle, server) = (signals.handle(), server.clone());
        let wait = move || {
            for signal in signals.forever() {
                if server.is_stopping() {
                    // The second time it is meant at once.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                server.shutdown();
            }
        };
        let thread = std::thread::Builder::new().name("vestibule-signals".into()).spawn(wait).ok()?;
        Some(Signals { handle, thread })
    }

    pub(crate) fn end(self) {
        self.handle.close();
        let _ = self.thread.join();
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn watch(_server: &Handle) -> Option<Signals> {
        None
    }

    pub(crate) fn end(self) {}
}
