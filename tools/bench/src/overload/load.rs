//! Clients that come at a rate, whatever becomes of the others, and leave when it takes too long.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::plan::{GOOD, PATIENCE, PHASES, SECONDS, rate};
use crate::open_loop::response;
use crate::record::{Overload, OverloadSecond};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RequestEnd {
    Status(u16),
    /// Its client has left, or its connection broke.
    Left,
}

/// Loads a proxy, on a thread of its own.
pub(super) async fn run(address: SocketAddr, asked: Arc<AtomicU64>) -> Result<Overload> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(LocalSet::new().run_until(clients(address, asked))))
    })
    .await?
}

async fn clients(address: SocketAddr, asked: Arc<AtomicU64>) -> Overload {
    let ends = Rc::<RefCell<Vec<Vec<(RequestEnd, Duration)>>>>::default();
    let (start, mut sent) = (Instant::now(), Vec::new());
    for second in 0..SECONDS {
        ends.borrow_mut().push(Vec::new());
        let count = rate(second);
        let before = asked.load(Ordering::Relaxed);
        for number in 0..count {
            let due = start
                + Duration::from_secs(second as u64)
                + Duration::from_secs(1) * number / count;
            sleep_until(due).await;
            let ends = ends.clone();
            drop(tokio::task::spawn_local(async move {
                let end = timeout(PATIENCE, ask(address)).await;
                let end = end.ok().flatten().map_or(RequestEnd::Left, RequestEnd::Status);
                ends.borrow_mut()[second].push((end, due.elapsed()));
            }));
        }
        sent.push(asked.load(Ordering::Relaxed) - before);
    }
    // Until the last have left.
    tokio::time::sleep(2 * PATIENCE).await;
    let ends = ends.take();
    let measured = PHASES.measured.clone().flat_map(|second| ends[second].iter().copied());
    Overload {
        contestant: String::new(),
        load_average: 0.0,
        good_p99_micros: percentile(
            measured.filter(|end| is_good(*end)).map(|(_, took)| took).collect(),
        ),
        seconds: ends.iter().zip(sent).map(|(ends, asked)| count(ends, asked)).collect(),
    }
}

fn is_good((end, took): (RequestEnd, Duration)) -> bool {
    end == RequestEnd::Status(200) && took <= GOOD
}

fn count(ends: &[(RequestEnd, Duration)], asked: u64) -> OverloadSecond {
    let of = |what: &dyn Fn((RequestEnd, Duration)) -> bool| {
        ends.iter().filter(|end| what(**end)).count() as u64
    };
    let good = of(&is_good);
    let waited =
        ends.iter().filter(|(end, _)| matches!(end, RequestEnd::Status(200) | RequestEnd::Left));
    OverloadSecond {
        good,
        late: of(&|(end, _)| end == RequestEnd::Status(200)) - good,
        failed: of(&|(end, _)| !matches!(end, RequestEnd::Status(200) | RequestEnd::Left)),
        left: of(&|(end, _)| end == RequestEnd::Left),
        asked,
        waited_p99_micros: percentile(waited.map(|(_, took)| *took).collect()),
    }
}

/// The 99th percentile in microseconds; `None` if there is none.
fn percentile(mut times: Vec<Duration>) -> Option<f64> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some(times[last * 99 / 100].as_nanos() as f64 / 1e3)
}

/// The status of a request over a connection of its own. It ends with its answer, not with its
/// connection: Envoy waits for a second before it closes one.
async fn ask(proxy: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(proxy).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    while stream.read_buf(&mut answer).await.ok()? > 0 {
        if let Some((status, length)) = response(&answer).ok()?
            && answer.len() >= length
        {
            return Some(status);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_of_one_kind_and_those_turned_away_have_no_part_in_how_long_it_takes() {
        let millis = Duration::from_millis;
        let ends = [
            (RequestEnd::Status(200), millis(50)),
            (RequestEnd::Status(200), millis(250)),
            (RequestEnd::Status(200), millis(251)),
            (RequestEnd::Status(503), millis(3_000)),
            (RequestEnd::Left, millis(1_000)),
        ];
        let counted = count(&ends, 4);
        let expected = OverloadSecond {
            good: 2,
            late: 1,
            failed: 1,
            left: 1,
            asked: 4,
            waited_p99_micros: Some(251_000.0),
        };
        assert_eq!(counted, expected);
        assert_eq!(count(&[], 0).waited_p99_micros, None);
    }
}
