//! Ctrl-C and the other signals that ask the demo to end, so that it can end its relays first.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::DemoFailure;

/// Listens from the moment it is made; a signal is not lost between two waits.
pub(super) struct Interruption {
    signals: [Signal; 3],
    came: bool,
}

impl Interruption {
    pub(super) fn listen() -> Result<Self, DemoFailure> {
        let listen = |kind| signal(kind).map_err(DemoFailure::Signals);
        let signals =
            [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?];
        Ok(Self { signals, came: false })
    }

    /// Returns when a signal has come.
    pub(super) async fn wait(&mut self) {
        poll_fn(|context| {
            // Each is polled, so that each can wake this task.
            let arrived = self.signals.iter_mut().map(|signal| signal.poll_recv(context).is_ready());
            if arrived.fold(false, |any, arrived| any | arrived) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.came = true;
    }

    /// True if any has come.
    pub(super) fn came(&self) -> bool {
        self.came
    }
}
