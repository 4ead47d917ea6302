//! Making a connection to an endpoint: its addresses, and which of them answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use fusebox_resilience::{Attempt, EndpointEvent, EndpointName, Error, ErrorKind};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::addresses::{KnownAddresses, LookupChange, exhausted};
use crate::config::EndpointUrl;
use crate::sockets;

/// After so long without a connection the next address is tried beside it: RFC 8305, section 5.
const STAGGER: Duration = Duration::from_millis(250);

/// Who wants a connection, and is told on the way.
pub(super) trait Dialler {
    /// This address is reached for.
    fn reaches(&self, address: SocketAddr);

    /// Something happened to the endpoint.
    fn emit(&self, event: EndpointEvent);
}

impl Dialler for Attempt<'_> {
    fn reaches(&self, address: SocketAddr) {
        self.reaches(address);
    }

    fn emit(&self, event: EndpointEvent) {
        self.emit(event);
    }
}

/// A connection to one of the endpoint's addresses.
///
/// # Errors
/// None takes it within `limit`.
pub(super) async fn dial(
    (upstream, endpoint): (&str, &EndpointUrl),
    known: &KnownAddresses,
    limit: Duration,
    attempt: &impl Dialler,
) -> Result<(TcpStream, SocketAddr), Error> {
    let dialled = async {
        let addresses = known.get(endpoint).await?;
        if let Some(change) = addresses.change {
            attempt.emit(event(change, upstream, endpoint));
        }
        race(in_turns(&addresses.list), limit, attempt).await
    };
    let dialled = timeout(limit, dialled).await;
    let dialled = dialled.unwrap_or_else(|_| Err(ErrorKind::ConnectionTimeout.into()));
    if dialled.is_err() {
        // The name may have others by now.
        known.doubt();
    }
    dialled
}

fn event(change: LookupChange, upstream: &str, endpoint: &EndpointUrl) -> EndpointEvent {
    let name = EndpointName { upstream: upstream.into(), endpoint: endpoint.url.as_str().into() };
    match change {
        LookupChange::Fails(reason) => EndpointEvent::LookupFails { name, reason, is_known: true },
        LookupChange::Works => EndpointEvent::LookupWorks { name },
    }
}

/// The addresses of both families in turns, the system's first choice first: a network that lacks
/// one of them costs little.
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let mut first = addresses.iter().filter(|address| is_first(address));
    let mut second = addresses.iter().filter(|address| !is_first(address));
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

/// Tries the addresses in order: the next one when one fails, or beside it when it takes long.
async fn race(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    attempt: &impl Dialler,
) -> Result<(TcpStream, SocketAddr), Error> {
    // All have a chance within the limit.
    let stagger = STAGGER.min(limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1));
    let mut waiting = addresses.into_iter().peekable();
    let mut racing = FuturesUnordered::new();
    let mut last = Error::from(ErrorKind::DnsError);
    loop {
        if let Some(address) = waiting.next() {
            attempt.reaches(address);
            racing.push(async move { (address, TcpStream::connect(address).await) });
        }
        let ended = match waiting.peek() {
            Some(_) => timeout(stagger, racing.next()).await,
            None => Ok(racing.next().await),
        };
        match ended {
            Ok(Some((address, Ok(stream)))) => {
                attempt.reaches(address);
                sockets::prepare(&stream);
                return Ok((stream, address));
            }
            Ok(Some((_, Err(error)))) => last = connect_error(error),
            // All have failed.
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

fn connect_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorKind::Unroutable,
        io::ErrorKind::TimedOut => ErrorKind::ConnectionTimeout,
        _ if sockets::is_of_our_own(&error) => return exhausted(error),
        _ => ErrorKind::ConnectionRefused,
    };
    Error::new(kind).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use fusebox_dev::ClosedDoor;
    use fusebox_resilience::Observers;
    use fusebox_resilience::testing::call;
    use tokio::time::Instant;

    use super::*;

    fn address(door: &ClosedDoor) -> SocketAddr {
        door.to_string().trim_start_matches("http://").parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_the_first_choice_is_first() {
        let parse = |text: &str| -> Vec<SocketAddr> {
            text.split(' ').map(|it| format!("{it}:80").parse().unwrap()).collect()
        };
        assert_eq!(
            in_turns(&parse("[::1] [::2] [::3] 1.1.1.1 1.1.1.2")),
            parse("[::1] 1.1.1.1 [::2] 1.1.1.2 [::3]")
        );
        assert_eq!(in_turns(&parse("1.1.1.1 1.1.1.2")), parse("1.1.1.1 1.1.1.2"));
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_not_waited_for() {
        let (full, gone) = (ClosedDoor::full(), ClosedDoor::refusing());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let call = call("1", Observers::default());
        let attempt = Attempt::detached(&call, None);
        let addresses = vec![address(&gone), address(&full), open];
        let begun = Instant::now();
        let made = race(addresses.clone(), Duration::from_secs(60), &attempt).await;
        assert_eq!(made.unwrap().1, open);
        let waited = begun.elapsed();
        assert!(waited >= STAGGER && waited < Duration::from_secs(20), "{waited:?}");
        // Each has a chance within a limit that is shorter.
        let limit = Duration::from_millis(200);
        let mut made = None;
        // On a busy machine one try may take longer.
        for _ in 0..20 {
            made = timeout(limit, race(addresses.clone(), limit, &attempt)).await.ok();
            if made.is_some() {
                break;
            }
        }
        assert_eq!(made.expect("in time").unwrap().1, open);
        drop(listener);
        let made = race(vec![address(&gone), open], Duration::from_secs(60), &attempt).await;
        assert_eq!(made.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
