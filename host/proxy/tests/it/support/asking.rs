//! Clients that go on asking while something happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fusebox_dev::{Ends, get};

use super::proxy::Proxy;

/// So many clients ask for `/` while `story` goes on, one request after the other. Each is answered
/// with 200. Returns how many requests there were.
#[track_caller]
pub(crate) fn asked_during(proxy: &Proxy, clients: usize, story: impl FnOnce()) -> usize {
    let is_over = AtomicBool::new(false);
    let client = || {
        let (mut wire, mut asked) = (proxy.connect(), 0);
        while !is_over.load(Ordering::SeqCst) {
            assert_eq!(wire.ask(get("/", &asked.to_string())).status(), 200);
            asked += 1;
        }
        asked
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let ends = Ends(&is_over);
        story();
        drop(ends);
        clients.into_iter().map(|client| client.join().expect("all are answered")).sum()
    })
}
