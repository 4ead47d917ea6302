//! What every socket gets, and what the process may open.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Sends small messages at once, and finds out about peers that vanished without a word.
pub(crate) fn prepare(stream: &TcpStream) {
    // The worst of a refusal is a late byte, or a later discovery.
    stream.set_nodelay(true).ok();
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)).ok();
}

/// Out of ports, of files, of memory: our own trouble, and not the other side's.
pub(crate) fn is_of_our_own(error: &io::Error) -> bool {
    let exhausted = [Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}

/// Lets the process open as many files as it is allowed to; the usual limit is far below.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Without it there are fewer connections, and the log says when they run out.
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    }
}
