//! A load at a fixed rate, without coordinated omission: each request is due at a time that is
//! fixed before the first one is sent, and its latency counts from then. A stall delays all
//! requests that fall due during it, as it would delay users, and not only those in flight.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::load::LoadResult;

/// What to send, where and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// The whole request, head and body.
    pub(crate) request: String,
    /// A request that is due while all connections are busy waits.
    pub(crate) connections: usize,
    /// Requests per second, all connections together.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
}

/// How long to wait for responses after the last request was due.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the plan on a thread of its own. `started` is signalled when all connections are open.
pub(crate) async fn run(plan: Plan, started: oneshot::Sender<()>) -> Result<LoadResult> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let latencies = runtime.block_on(LocalSet::new().run_until(latencies(&plan, started)))?;
        Ok(latencies.load(plan.duration))
    })
    .await?
}

/// The latency of each request, from the time that it was due.
#[derive(Debug, Default)]
struct Latencies {
    answered: Vec<Duration>,
    /// How many of those have a status other than 2xx.
    bad_status: u64,
    /// Requests without a response, with the time until that was certain.
    failed: Vec<Duration>,
}

impl Latencies {
    /// Percentiles are of all requests: one that failed would have taken longer still.
    fn load(&self, elapsed: Duration) -> LoadResult {
        let mut all: Vec<_> = self.answered.iter().chain(&self.failed).copied().collect();
        all.sort_unstable();
        let percentile = |percent: usize| {
            all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied()
        };
        LoadResult {
            requests: self.answered.len() as u64,
            errors: self.bad_status + self.failed.len() as u64,
            elapsed,
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

/// The due times of requests that wait for a connection.
#[derive(Debug)]
struct Due {
    times: RefCell<VecDeque<Instant>>,
    waiting: Semaphore,
}

impl Due {
    async fn next(&self) -> Instant {
        self.waiting.acquire().await.expect("the semaphore is never closed").forget();
        self.times.borrow_mut().pop_front().expect("a permit is a time")
    }
}

async fn latencies(plan: &Plan, started: oneshot::Sender<()>) -> Result<Latencies> {
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        streams.push(
            connect(plan.address)
                .await
                .with_context(|| format!("no connection to {}", plan.address))?,
        );
    }
    let due = Rc::new(Due { times: RefCell::default(), waiting: Semaphore::new(0) });
    let latencies = Rc::new(RefCell::new(Latencies::default()));
    let under_way = Rc::new(RefCell::new(Vec::new()));
    let mut connections = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        under_way.borrow_mut().push(None);
        let (due, latencies, under_way, plan) =
            (due.clone(), latencies.clone(), under_way.clone(), plan.clone());
        connections.spawn_local(async move {
            let mut stream = Some(stream);
            let mut buffer = Vec::new();
            loop {
                let time = due.next().await;
                under_way.borrow_mut()[index] = Some(time);
                let answer = exchange(&mut stream, &plan, &mut buffer).await;
                under_way.borrow_mut()[index] = None;
                let mut latencies = latencies.borrow_mut();
                match answer {
                    Ok(status) => {
                        latencies.answered.push(time.elapsed());
                        latencies.bad_status += u64::from(!(200..300).contains(&status));
                    }
                    Err(_) => {
                        latencies.failed.push(time.elapsed());
                        stream = None;
                    }
                }
            }
        });
    }

    started.send(()).ok();
    let total = (plan.rate * plan.duration.as_secs_f64()) as usize;
    schedule(total, plan.rate, &due).await?;
    let end = Instant::now() + GRACE;
    let done = |latencies: &Latencies| latencies.answered.len() + latencies.failed.len() == total;
    while !done(&latencies.borrow()) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connections.shutdown().await;
    let mut latencies = latencies.take();
    let unsent = due.times.borrow();
    latencies
        .failed
        .extend(under_way.borrow().iter().flatten().chain(&*unsent).map(Instant::elapsed));
    Ok(latencies)
}

/// Releases each request when it is due. The runtime's timers are too coarse: they count
/// milliseconds.
async fn schedule(total: usize, rate: f64, due: &Due) -> Result<()> {
    // More wake-ups than this cost too much; several requests then fall due in one.
    const SHORTEST: Duration = Duration::from_micros(20);
    let interval = Duration::from_secs_f64(1.0 / rate).max(SHORTEST);
    let mut timer = OpenLoopTimer::every(interval)?;
    let start = Instant::now();
    let mut sent = 0;
    while sent < total {
        let now = ((start.elapsed().as_secs_f64() * rate) as usize + 1).min(total);
        let times = (sent..now).map(|index| start + Duration::from_secs_f64(index as f64 / rate));
        due.times.borrow_mut().extend(times);
        due.waiting.add_permits(now - sent);
        sent = now;
        timer.tick().await?;
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and receives its response, on a new connection if the last one broke.
async fn exchange(
    stream: &mut Option<TcpStream>,
    plan: &Plan,
    buffer: &mut Vec<u8>,
) -> io::Result<u16> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(connect(plan.address).await?),
    };
    stream.write_all(plan.request.as_bytes()).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((status, length)) = response(buffer)? {
            let missing = length.saturating_sub(buffer.len());
            if missing > 0 {
                let start = buffer.len();
                buffer.resize(length, 0);
                stream.read_exact(&mut buffer[start..]).await?;
            }
            return Ok(status);
        }
    }
}

/// The status, and the length of head and body together; `None` if the head is incomplete.
pub(crate) fn response(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let length =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length =
        length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("an answer without content-length"))?;
    Ok(Some((response.code.unwrap_or(0), head + length)))
}

/// A timer of the kernel with nanoseconds, which is read like a pipe.
#[derive(Debug)]
struct OpenLoopTimer(pipe::Receiver);

impl OpenLoopTimer {
    fn every(interval: Duration) -> Result<Self> {
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let interval = Timespec::try_from(interval)?;
        let times = Itimerspec { it_interval: interval, it_value: interval };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Returns at the next tick, or at once if one has passed.
    async fn tick(&mut self) -> io::Result<()> {
        self.0.read_u64().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

    /// Serves one connection, and stalls once, after so many requests.
    async fn server(stall_after: usize, stall: Duration) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 18];
            for count in 0.. {
                if count == stall_after {
                    tokio::time::sleep(stall).await;
                }
                if stream.read_exact(&mut request).await.is_err()
                    || stream.write_all(ANSWER).await.is_err()
                {
                    return;
                }
            }
        });
        address
    }

    fn plan(address: SocketAddr) -> Plan {
        let request = "GET / HTTP/1.1\r\n\r\n".into();
        Plan {
            address,
            request,
            connections: 1,
            rate: 1000.0,
            duration: Duration::from_millis(600),
        }
    }

    #[tokio::test]
    async fn a_stall_shows_in_every_request_that_falls_due_in_it() {
        let address = server(200, Duration::from_millis(200)).await;
        let plan = plan(address);
        let latencies =
            LocalSet::new().run_until(latencies(&plan, oneshot::channel().0)).await.unwrap();
        assert_eq!(
            (latencies.answered.len(), latencies.failed.len(), latencies.bad_status),
            (600, 0, 0)
        );
        // 200 fall due in the 200 ms; half of them wait for at least half of it. A closed loop
        // would see one.
        let slow = |least| latencies.answered.iter().filter(|latency| **latency >= least).count();
        assert!(slow(Duration::from_millis(100)) >= 95, "{}", slow(Duration::from_millis(100)));
        assert!(slow(Duration::from_millis(195)) >= 1);
        assert!(latencies.load(plan.duration).p99 > Some(Duration::from_millis(180)));
    }

    #[tokio::test]
    async fn what_is_never_answered_counts_with_the_time_it_has_waited() {
        let address = server(500, Duration::from_secs(3600)).await;
        let latencies = LocalSet::new()
            .run_until(latencies(&plan(address), oneshot::channel().0))
            .await
            .unwrap();
        assert_eq!((latencies.answered.len(), latencies.failed.len()), (500, 100));
        assert!(latencies.failed.iter().all(|latency| *latency >= GRACE));
        assert!(latencies.load(Duration::from_secs(1)).p99 >= Some(GRACE));
    }
}
