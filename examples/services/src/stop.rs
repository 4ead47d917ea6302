//! The request to stop, which everything that waits can wait for too.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to stop, which may come.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Stops when `true` is sent, or when the sender is dropped.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Stops on SIGTERM and on ctrl-c.
    ///
    /// # Errors
    /// The signals can't be listened to.
    pub fn on_signal() -> anyhow::Result<Self> {
        Self::on(&[SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// Stops on all signals by which a terminal ends programs: for a program with child processes.
    ///
    /// # Errors
    /// The signals can't be listened to.
    pub fn on_signal_or_hangup() -> anyhow::Result<Self> {
        Self::on(&[
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ])
    }

    fn on(kinds: &[SignalKind]) -> anyhow::Result<Self> {
        let (sender, stop) = Self::new();
        for kind in kinds {
            let mut signal = signal(*kind)
                .with_context(|| format!("listen to signal {}", kind.as_raw_value()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                signal.recv().await;
                sender.send_replace(true);
            });
        }
        Ok(stop)
    }

    /// Returns when it is time to stop. Safe to cancel.
    pub async fn requested(&self) {
        // A sender that is gone will never say anything else.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}
