//! The sockets of the admin listener: TCP, or a Unix socket, which only this user can reach.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::AdminAddress;
use crate::stall::Stall;

/// Connections that wait to be accepted: a flood of them gets no other place, and a client that
/// finds none left tries again a second later.
const BACKLOG: i32 = 4096;

/// How long a client may take nothing of an answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A bound socket.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: BoundListener,
    /// `None`: it is no Unix socket.
    pub(super) file: Option<SocketFile>,
}

#[derive(Debug)]
enum BoundListener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// The file of a Unix socket. It is removed when this is dropped, unless another program has put
/// its own in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// `None`: it was gone at once.
    identity: Option<FileIdentity>,
}

/// Device and inode. No other file can have them while the socket is bound.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity(u64, u64);

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|found| Self(found.dev(), found.ino()))
    }
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: FileIdentity::of(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && FileIdentity::of(&self.path) == self.identity {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// As in the file, with the port that was chosen.
impl fmt::Display for AdminSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.listener, &self.file) {
            (_, Some(file)) => write!(f, "unix:{}", file.path.display()),
            (BoundListener::Tcp(listener), None) => {
                listener.local_addr().map_err(|_| fmt::Error)?.fmt(f)
            }
            (BoundListener::Unix(_), None) => f.write_str("unix"),
        }
    }
}

impl AdminSocket {
    /// Binds it; a relative path is below `directory`.
    ///
    /// # Errors
    /// The address or the path is in use or not available.
    pub(crate) fn bind(address: &AdminAddress, directory: &Path) -> anyhow::Result<Self> {
        let bound = match address {
            AdminAddress::Tcp(address) => Self::tcp(*address),
            AdminAddress::Unix(path) => Self::unix(&directory.join(path)),
        };
        bound.with_context(|| format!("admin.listen: can't listen on `{address}`"))
    }

    fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // As the proxy's own listener: a restart need not wait for old connections to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { listener: BoundListener::Tcp(socket.into()), file: None })
    }

    /// Nobody can connect before it listens, and then only this user.
    fn unix(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        // What a process left that did not end well.
        if is_socket && is_nobodys(&address)? {
            fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        let file = Some(SocketFile::new(path));
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { listener: BoundListener::Unix(socket.into()), file })
    }

    /// For the runtime that it is used in.
    pub(super) fn listen(self) -> io::Result<AdminListener> {
        Ok(match self.listener {
            BoundListener::Tcp(listener) => AdminListener::Tcp(TcpListener::from_std(listener)?),
            BoundListener::Unix(listener) => AdminListener::Unix(UnixListener::from_std(listener)?),
        })
    }
}

/// Whether no process listens on a Unix socket.
fn is_nobodys(address: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Else it would wait for a listener whose queue is full, for as long as that hangs.
    socket.set_nonblocking(true)?;
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(socket.connect(address).is_err_and(refused))
}

/// The listener in its runtime.
#[derive(Debug)]
pub(super) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AdminListener {
    /// Whether somebody waits to be accepted.
    pub(super) fn has_visitors(&self) -> bool {
        let listener = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        };
        let mut asked = [PollFd::from_borrowed_fd(listener, PollFlags::IN)];
        poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// A connection, and who made it.
    pub(super) async fn accept(&self) -> io::Result<(AdminStream, AdminPeer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let name = address.ip().to_canonical().to_string().into();
                Ok((
                    AdminStream::new(ClientSocket::Tcp(stream)),
                    AdminPeer { name, is_user: false },
                ))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let name = stream.peer_cred().map_or("unknown".into(), |peer| {
                    let process = peer.pid().map_or(String::new(), |id| format!(", process {id}"));
                    format!("user {}{process}", peer.uid()).into()
                });
                Ok((
                    AdminStream::new(ClientSocket::Unix(stream)),
                    AdminPeer { name, is_user: true },
                ))
            }
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct AdminPeer {
    /// An address, or a user and a process.
    pub(super) name: Arc<str>,
    /// Whether it came by a Unix socket, which no page in a browser does.
    pub(super) is_user: bool,
}

#[derive(Debug)]
enum ClientSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that fails when its client takes nothing for too long.
#[derive(Debug)]
pub(super) struct AdminStream {
    socket: ClientSocket,
    sending: Stall,
}

impl AdminStream {
    fn new(socket: ClientSocket) -> Self {
        Self { socket, sending: Stall::new(SEND_TIMEOUT) }
    }
}

impl AsyncRead for AdminStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.socket {
            ClientSocket::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            ClientSocket::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for AdminStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            ClientSocket::Tcp(stream) => Pin::new(stream).poll_write(cx, buffer),
            ClientSocket::Unix(stream) => Pin::new(stream).poll_write(cx, buffer),
        };
        if written.is_pending() {
            ready!(self.sending.poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.sending.reset();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither kind of socket keeps anything back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            ClientSocket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            ClientSocket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
