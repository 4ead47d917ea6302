//! [`ClosedDoor`], an upstream that accepts no connection.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::origin::{Origin, OriginConnection};
use crate::wait::eventually;

/// An upstream that does not answer the door.
#[derive(Debug)]
pub struct ClosedDoor {
    socket: Socket,
    _visitors: Vec<Socket>,
}

impl ClosedDoor {
    /// A port that is taken, so that nobody else gets it, but where nobody listens: connections are
    /// refused.
    pub fn refusing() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::at(address).expect("a port")
    }

    /// The same where an origin was, which has gone.
    pub fn in_place_of(origin: Origin) -> Self {
        let address = origin.address();
        drop(origin);
        eventually("the port of an origin that has gone", || Self::at(address).ok())
    }

    fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Connections that have ended keep the port for a while.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(Self { socket, _visitors: Vec::new() })
    }

    /// One whose queue is full: connections are not made.
    pub fn full() -> Self {
        let mut door = Self::refusing();
        door.socket.listen(0).expect("it listens");
        let address = door.socket.local_addr().expect("an address");
        // The system rounds up; what it takes no longer, it takes for none of us.
        while door._visitors.len() < 16 {
            let visitor = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let made = visitor.connect_timeout(&address, Duration::from_millis(200)).is_ok();
            if !made {
                return door;
            }
            door._visitors.push(visitor);
        }
        panic!("its queue does not get full");
    }

    /// Somebody moves in.
    pub fn opened(self, serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static) -> Origin {
        self.socket.listen(16).expect("it listens");
        Origin::on(self.socket.into(), serve)
    }
}

impl fmt::Display for ClosedDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self
            .socket
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket())
            .expect("an address");
        write!(f, "http://{address}")
    }
}
