//! `/metrics`: one rendering at a time, shared by all who wait for it, and then a pause, so that
//! scrapers take a tenth of one processor at most, however many they are.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// How many times as long as a rendering took none begins.
const PAUSE: u32 = 9;

/// The last rendering.
#[derive(Debug, Default)]
pub(super) struct Exposition(Arc<Mutex<Option<RenderedMetrics>>>);

#[derive(Debug)]
struct RenderedMetrics {
    text: Bytes,
    /// When the next may begin.
    next: Instant,
}

impl Exposition {
    /// The text that `render` makes, or a recent one. `None`: it panicked.
    pub(super) async fn get(
        &self,
        render: impl FnOnce() -> String + Send + 'static,
    ) -> Option<Bytes> {
        let mut last = self.0.clone().lock_owned().await;
        if let Some(last) = last.as_ref().filter(|last| Instant::now() < last.next) {
            return Some(last.text.clone());
        }
        // The lock goes along: a client that leaves does not let another rendering begin.
        let rendering = spawn_blocking(move || {
            let start = Instant::now();
            let text = Bytes::from(render());
            let next = Instant::now() + start.elapsed() * PAUSE;
            *last = Some(RenderedMetrics { text: text.clone(), next });
            text
        });
        rendering.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_at_once_share_one_rendering_and_a_pause_follows() {
        const TAKES: Duration = Duration::from_millis(100);
        let (exposition, renderings) = (Exposition::default(), Arc::<AtomicUsize>::default());
        let start = Instant::now();
        let ask = || {
            let renderings = renderings.clone();
            exposition.get(move || {
                let (_open, never) = channel::<()>();
                never.recv_timeout(TAKES).ok();
                renderings.fetch_add(1, SeqCst).to_string()
            })
        };
        // One that leaves at once.
        assert!(tokio::time::timeout(Duration::ZERO, ask()).await.is_err());
        let texts = futures_util::future::join_all((0..8).map(|_| ask())).await;
        assert!(texts.iter().all(|text| text.as_deref() == Some(b"0")), "{texts:?}");
        while ask().await.as_deref() == Some(b"0") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(start.elapsed() >= TAKES * 11, "{:?}", start.elapsed());
        assert_eq!(renderings.load(SeqCst), 2);
    }
}
