//! [`Origin`], an upstream that sends exactly what it is told and remembers what it got.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::ServerConfig;

use crate::message::Message;
use crate::wait::lock;
use crate::wire::Wire;

/// A scripted upstream. What it serves runs in a thread for each connection.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    is_secured: bool,
    shared: Arc<OriginState>,
}

#[derive(Debug, Default)]
struct OriginState {
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    ended: AtomicBool,
}

/// A request that came to an origin.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Among all requests, from 0.
    pub number: usize,
    /// What came, as far as it was read.
    pub request: Message,
}

/// A connection to an origin.
#[derive(Debug)]
pub struct OriginConnection {
    /// The origin's end.
    pub wire: Wire,
    shared: Arc<OriginState>,
}

impl OriginConnection {
    /// The next request, whole, which the origin remembers. None: the proxy has closed the
    /// connection.
    pub fn request(&mut self) -> Option<Seen> {
        let request = self.wire.request()?;
        Some(self.remember(request))
    }

    /// The head of the next request.
    pub fn head(&mut self) -> Option<Seen> {
        let request = self.wire.head()?;
        Some(self.remember(request))
    }

    fn remember(&self, request: Message) -> Seen {
        let mut seen = lock(&self.shared.seen);
        let new = Seen { number: seen.len(), request };
        seen.push(new.clone());
        new
    }
}

impl Origin {
    /// One that serves each connection like this.
    pub fn start(serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), serve)
    }

    /// The same on this socket.
    pub fn on(
        listener: TcpListener,
        serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static,
    ) -> Self {
        Self::listening(listener, None, serve)
    }

    /// The same over TLS. A connection whose handshake fails is not served.
    pub fn secured(
        config: ServerConfig,
        serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config);
        Self::secured_by(move |_| config.clone(), serve)
    }

    /// The same, by the number of the connection, from 0.
    pub fn secured_by(
        config: impl Fn(usize) -> Arc<ServerConfig> + Send + Sync + 'static,
        serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self::listening(listener, Some(Box::new(config)), serve)
    }

    fn listening(
        listener: TcpListener,
        tls: Option<Box<dyn Fn(usize) -> Arc<ServerConfig> + Send + Sync>>,
        serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let origin = Self { address, is_secured: tls.is_some(), shared: Arc::default() };
        let (shared, serve) = (origin.shared.clone(), Arc::new(serve));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                let tls = tls.as_ref().map(|config| config(*lock(&shared.connections)));
                *lock(&shared.connections) += 1;
                let (shared, serve) = (shared.clone(), serve.clone());
                thread::spawn(move || {
                    let wire = Wire::new(stream);
                    let wire = match &tls {
                        Some(tls) => wire.secured(tls).ok(),
                        None => Some(wire),
                    };
                    if let Some(wire) = wire {
                        serve(&mut OriginConnection { wire, shared });
                    }
                });
            }
        });
        origin
    }

    /// Answers each request with the next of these, and with the last one for ever. An empty one:
    /// it closes the connection in place of an answer.
    pub fn answering(answers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        Self::start(move |connection| {
            while let Some(seen) = connection.request() {
                let answer = answers.get(seen.number).or(answers.last()).expect("an answer");
                if answer.is_empty() || connection.wire.try_send(answer).is_err() {
                    return;
                }
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Message {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].request.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secured { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        TcpStream::connect(self.address).ok();
    }
}
