//! TLS over a socket, for both sides.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, CommonState, ServerConfig, ServerConnection, Stream};

/// One side of TLS.
#[derive(Debug)]
pub enum Session {
    /// A client.
    Client(Box<ClientConnection>),
    /// A server.
    Server(Box<ServerConnection>),
}

impl Session {
    pub(crate) fn client(
        config: &Arc<ClientConfig>,
        name: &str,
        stream: &mut TcpStream,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut session = Self::Client(Box::new(session));
        session.handshake(stream)?;
        Ok(session)
    }

    pub(crate) fn server(config: &Arc<ServerConfig>, stream: &mut TcpStream) -> io::Result<Self> {
        let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        let mut session = Self::Server(Box::new(session));
        session.handshake(stream)?;
        Ok(session)
    }

    fn handshake(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.state().is_handshaking() {
            match self {
                Self::Client(session) => session.complete_io(stream)?,
                Self::Server(session) => session.complete_io(stream)?,
            };
        }
        Ok(())
    }

    /// What both sides have agreed on.
    pub fn state(&self) -> &CommonState {
        match self {
            Self::Client(session) => session,
            Self::Server(session) => session,
        }
    }

    /// Sends a message of TLS itself that carries nothing.
    pub(crate) fn refresh(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Client(session) => {
                session.refresh_traffic_keys().map_err(io::Error::other)?;
                session.complete_io(stream)?;
            }
            Self::Server(session) => {
                session.refresh_traffic_keys().map_err(io::Error::other)?;
                session.complete_io(stream)?;
            }
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8], stream: &mut TcpStream) -> io::Result<usize> {
        match self {
            Self::Client(session) => Stream::new(&mut **session, stream).read(buffer),
            Self::Server(session) => Stream::new(&mut **session, stream).read(buffer),
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8], stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Client(session) => Stream::new(&mut **session, stream).write_all(bytes),
            Self::Server(session) => Stream::new(&mut **session, stream).write_all(bytes),
        }
    }

    pub(crate) fn finish(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Client(session) => {
                session.send_close_notify();
                session.complete_io(stream)?;
            }
            Self::Server(session) => {
                session.send_close_notify();
                session.complete_io(stream)?;
            }
        }
        Ok(())
    }
}
