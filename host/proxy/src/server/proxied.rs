//! The header of the PROXY protocol, in which a load balancer says whose connection it hands on.
//!
//! Versions 1 and 2 of <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>. Not a byte
//! behind the header is read: it is TLS, or HTTP.

use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::time::{Instant, timeout_at};

use super::socket::Socket;

/// The longest header. Addresses need 52 bytes; what else there is says of TLS and of clouds.
const LONGEST: usize = 4096;

/// Why no connection comes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// What came is none.
    Wrong,
    /// It was not whole in time.
    Slow,
    /// Whoever it was has left.
    Left,
}

/// Reads a header, until `end` at the latest. `None`: whoever connects does so of its own, to see
/// whether somebody is there.
pub(super) async fn address(socket: &mut Socket, end: Instant) -> Result<Option<IpAddr>, NoHeader> {
    timeout_at(end, read(socket)).await.unwrap_or(Err(NoHeader::Slow))
}

async fn read(socket: &mut Socket) -> Result<Option<IpAddr>, NoHeader> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let mut bytes = Vec::with_capacity(128);
    loop {
        let known = bytes.len();
        let more = socket.look(&mut bytes, LONGEST - known).await.ok().filter(|&more| more > 0);
        let more = more.ok_or(NoHeader::Left)?;
        let (address, length) = match ProxyHeader::parse(&bytes, config) {
            Ok((header, length)) => {
                let address = header.proxied_address().map(|addresses| addresses.source.ip());
                (Some(address), length)
            }
            Err(Error::BufferTooShort) if bytes.len() < LONGEST && !is_whole(&bytes) => {
                (None, known + more)
            }
            Err(_) => return Err(NoHeader::Wrong),
        };
        // All that was seen of it, and nothing behind it.
        socket.skip(length - known).await.map_err(|_| NoHeader::Left)?;
        if let Some(address) = address {
            return Ok(address.map(|address| address.to_canonical()));
        }
        bytes.truncate(length);
    }
}

/// Whether a header of version 2 is as long as it says: what it lacks then never comes.
fn is_whole(bytes: &[u8]) -> bool {
    let length = bytes.get(14..16).map(|length| u16::from_be_bytes([length[0], length[1]]));
    bytes.starts_with(b"\r\n")
        && length.is_some_and(|length| bytes.len() >= 16 + usize::from(length))
}
