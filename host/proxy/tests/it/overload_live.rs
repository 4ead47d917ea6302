//! An overload as it is: an upstream of fixed capacity, three times as many requests, and what
//! comes of it with and without protection. `make overload` runs it and prints the table.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::support::Proxy;

/// So many calls at once, so long each: 200 a second.
const SERVERS: usize = 10;
const SERVICE: Duration = Duration::from_millis(50);
const CAPACITY: f64 = 200.0;
/// Three times that.
const APART: Duration = Duration::from_micros(1_667);
/// What comes first is left out.
const WARM_UP: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(10);
/// An answer is good within this time, and a client leaves after four times that.
const GOOD: Duration = Duration::from_millis(250);

/// What an upstream with a line in front of its servers does, whether or not anybody still waits.
async fn serve(mut stream: TcpStream, servers: Arc<Semaphore>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await? > 0 {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let Ok(server) = servers.acquire().await else { break };
        sleep(SERVICE).await;
        drop(server);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    }
    Ok(())
}

/// The status of a request over a connection of its own.
async fn ask(proxy: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(proxy).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Overload {
    /// The times of those that were answered well.
    well: Vec<Duration>,
    late: u32,
    rejected: u32,
    left: u32,
}

impl Overload {
    fn count(&mut self, status: Option<u16>, took: Duration) {
        match status {
            Some(200) if took <= GOOD => self.well.push(took),
            Some(200) => self.late += 1,
            Some(_) => self.rejected += 1,
            None => self.left += 1,
        }
    }

    /// Of what could be answered.
    fn goodput(&self) -> f64 {
        self.well.len() as f64 / (CAPACITY * MEASURED.as_secs_f64())
    }

    fn row(&mut self, name: &str) -> String {
        self.well.sort();
        let last = self.well.len().saturating_sub(1);
        let p99 = self.well.get(last * 99 / 100).map_or(0, Duration::as_millis);
        let Self { late, rejected, left, .. } = self;
        let goodput = self.well.len() as f64 / (CAPACITY * MEASURED.as_secs_f64());
        format!("| {name} | {goodput:.2} | {p99} ms | {late} | {rejected} | {left} |")
    }
}

async fn overload(policies: &str, names: &str) -> Overload {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let servers = Arc::new(Semaphore::new(SERVERS));
    let upstream = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(tokio::task::spawn_local(serve(stream, servers.clone())));
        }
    });
    let log = "[log]\naccess = false\n";
    let route = format!("[[routes]]\nupstream = 'ORIGIN'\npolicies = [{names}]\n");
    let config = format!("{log}{policies}{route}");
    let origin = format!("http://{address}");
    let proxy = tokio::task::spawn_blocking(move || Proxy::before(&origin, &config));
    let proxy = Rc::new(proxy.await.expect("it starts"));
    let seen = Rc::<RefCell<Overload>>::default();
    let (start, mut next) = (Instant::now(), Instant::now());
    let mut last = None;
    while next < start + WARM_UP + MEASURED {
        sleep_until(next).await;
        let (seen, address) = (seen.clone(), proxy.address());
        let is_measured = next >= start + WARM_UP;
        last = Some(tokio::task::spawn_local(async move {
            let began = Instant::now();
            let status = timeout(4 * GOOD, ask(address)).await.ok().flatten();
            if is_measured {
                seen.borrow_mut().count(status, began.elapsed());
            }
        }));
        next += APART;
    }
    drop(last.expect("there were some").await);
    sleep(4 * GOOD).await;
    upstream.abort();
    seen.take()
}

#[test]
#[ignore = "it takes a minute, and a machine that has nothing else to do: `make overload`"]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn three_times_too_many_requests() {
    let limit = "[policies.limit]\nkind = 'timeout'\nlimit = '250ms'\n";
    let limiter = "[policies.limiter]\nkind = 'adaptive-limiter'\n";
    let throttler = format!("{limit}[policies.throttler]\nkind = 'adaptive-throttler'\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let run =
        |policies: &str, names: &str| LocalSet::new().block_on(&runtime, overload(policies, names));
    let mut none = run("", "");
    let mut limited = run(limiter, "'limiter'");
    let mut throttled = run(&throttler, "'throttler', 'limit'");
    println!("| | goodput | p99 of it | late | rejected | left |");
    println!("|---|---|---|---|---|---|");
    for (name, seen) in [
        ("nothing", &mut none),
        ("adaptive limiter", &mut limited),
        ("timeout and adaptive throttler", &mut throttled),
    ] {
        println!("{}", seen.row(name));
    }
    assert!(none.goodput() < 0.5, "without protection it does not collapse");
    assert!(limited.goodput() > 0.8, "{:.2}", limited.goodput());
    assert!(throttled.goodput() > none.goodput(), "{:.2}", throttled.goodput());
}
