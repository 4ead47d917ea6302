//! Options of all sockets, and the limit of open files.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// The time without traffic after which the kernel probes whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Turns off delays for small messages, and turns on keep-alive probes to detect lost peers.
pub(crate) fn prepare(stream: &TcpStream) {
    set_options(&SockRef::from(stream));
}

fn set_options(socket: &SockRef<'_>) {
    // Errors are ignored: without these options, traffic is only slower or a lost peer is noticed
    // later.
    socket.set_tcp_nodelay(true).ok();
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)).ok();
}

/// How much the kernel takes for a client before it can send it. Without a bound that may be
/// megabytes, of which a third has to go before it takes more: minutes for a slow reader, who would
/// seem to take nothing. It asks for more when half of it has gone.
const UNSENT: u32 = 128 * 1024;

/// Sets what the connections of a listener take over from it. On Linux that is all, and so costs no
/// connection a call; elsewhere each is [prepared](prepare).
pub(crate) fn prepare_listener(listener: &TcpListener) {
    let listener = SockRef::from(listener);
    set_options(&listener);
    #[cfg(target_os = "linux")]
    listener.set_tcp_notsent_lowat(UNSENT).ok();
}

/// When a shortage was seen last, by any thread.
static LAST_SHORTAGE: Mutex<Option<Instant>> = Mutex::new(None);

/// For so long it explains what has no better explanation.
const RECENT: Duration = Duration::from_secs(1);

/// Whether an error is a shortage in this process or system (ports, files, memory) rather than a
/// problem of the peer.
pub(crate) fn is_of_our_own(error: &io::Error) -> bool {
    let exhausted = [Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let is_shortage = error
        .raw_os_error()
        .is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code));
    if is_shortage {
        *last_shortage() = Some(Instant::now());
    }
    is_shortage
}

/// So many files may be open while a name is looked up.
const FILES_OF_A_LOOKUP: usize = 4;

/// Whether a name can't be looked up for want of files. The system does not always say so: a name
/// is not known if the file that it is in can't be opened.
pub(crate) fn is_out_of_files() -> bool {
    let files: io::Result<Vec<File>> =
        (0..FILES_OF_A_LOOKUP).map(|_| File::open("/dev/null")).collect();
    // By now others may have given some back.
    files.is_err_and(|error| is_of_our_own(&error))
        || last_shortage().is_some_and(|seen| seen.elapsed() < RECENT)
}

fn last_shortage() -> MutexGuard<'static, Option<Instant>> {
    LAST_SHORTAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors beside those of clients and their requests: listeners, workers, files.
const OTHER_FILES: u64 = 64;

/// How many files may be open, and how many so many connections need, if that is more: each has its
/// client's socket, and one to an upstream.
pub(crate) fn missing_files(max_connections: usize) -> Option<(u64, u64)> {
    let needed = 2 * max_connections as u64 + OTHER_FILES;
    // Without a limit there are enough.
    let limit = getrlimit(Resource::Nofile).current?;
    (limit < needed).then_some((limit, needed))
}

/// Raises the limit of open files to the allowed maximum. The usual limit is far below.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // On an error there are fewer connections, and the log reports when files run out.
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_take_the_options_of_their_listener_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        prepare_listener(&listener);
        let client = TcpStream::connect(listener.local_addr().expect("its address"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_client, (stream, _)) = (client.expect("a client"), accepted.expect("a connection"));
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_nodelay().ok(), Some(true));
        assert_eq!(socket.keepalive().ok(), Some(true));
        assert_eq!(socket.tcp_keepalive_time().ok(), Some(KEEPALIVE));
        assert_eq!(socket.tcp_notsent_lowat().ok(), Some(UNSENT));
    }
}
