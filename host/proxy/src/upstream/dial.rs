//! Making a connection to an endpoint: its addresses, and which of them answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fusebox_resilience::{Attempt, Error, ErrorKind};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::EndpointUrl;
use crate::sockets;

/// A connection to one of the endpoint's addresses.
///
/// # Errors
/// None takes it within `limit`.
pub(super) async fn dial(
    endpoint: &EndpointUrl,
    limit: Duration,
    attempt: &Attempt<'_>,
) -> Result<(TcpStream, SocketAddr), Error> {
    match timeout(limit, try_all(endpoint, limit, attempt)).await {
        Ok(connection) => connection,
        Err(_) => Err(ErrorKind::ConnectionTimeout.into()),
    }
}

/// Tries the addresses in order, each for its share of the limit, so that an address that does not
/// respond does not block the others.
async fn try_all(
    endpoint: &EndpointUrl,
    limit: Duration,
    attempt: &Attempt<'_>,
) -> Result<(TcpStream, SocketAddr), Error> {
    let addresses = resolve(endpoint).await?;
    let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = Error::from(ErrorKind::DnsError);
    for address in addresses {
        attempt.reaches(address);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                sockets::prepare(&stream);
                return Ok((stream, address));
            }
            Ok(Err(error)) => last = connect_error(error),
            Err(_) => last = ErrorKind::ConnectionTimeout.into(),
        }
    }
    Err(last)
}

/// The addresses to try, in order.
async fn resolve(endpoint: &EndpointUrl) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, endpoint.port)]);
    }
    let dns_error = |source| match sockets::is_of_our_own(&source) || sockets::is_out_of_files() {
        true => exhausted(source),
        false => Error::new(ErrorKind::DnsError).with_source(source),
    };
    let addresses: Vec<_> =
        lookup_host((&*endpoint.host, endpoint.port)).await.map_err(dns_error)?.collect();
    if addresses.is_empty() { Err(ErrorKind::DnsError.into()) } else { Ok(addresses) }
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

/// Other calls may end, and give back what they use, in the next moment.
fn exhausted(source: io::Error) -> Error {
    Error::new(ErrorKind::Exhausted)
        .with_retry_after(Some(Duration::from_secs(1)))
        .with_source(source)
}
