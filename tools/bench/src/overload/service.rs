//! A service of fixed capacity, with a line in front of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::plan::{SERVERS, SERVICE_TIME};

/// A service that runs until it is dropped.
#[derive(Debug)]
pub(super) struct LimitedService {
    pub(super) address: SocketAddr,
    /// Requests that have come to it.
    pub(super) asked: Arc<AtomicU64>,
    _ends: oneshot::Sender<()>,
}

impl LimitedService {
    /// Starts it on a thread of its own.
    pub(super) fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let asked = Arc::<AtomicU64>::default();
        let (ends, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let seen = asked.clone();
        std::thread::Builder::new().name("limited service".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = accept(listener, seen) => {}
                }
            });
        })?;
        Ok(Self { address, asked, _ends: ends })
    }
}

async fn accept(listener: std::net::TcpListener, asked: Arc<AtomicU64>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let servers = Arc::new(Semaphore::new(SERVERS));
    loop {
        let (stream, _) = listener.accept().await?;
        Handle::current().spawn(serve(stream, servers.clone(), asked.clone()));
    }
}

/// Works on what is asked, whether or not anybody still waits for it.
async fn serve(
    mut stream: TcpStream,
    servers: Arc<Semaphore>,
    asked: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await? > 0 {
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        asked.fetch_add(1, Ordering::Relaxed);
        let Ok(server) = servers.acquire().await else { break };
        tokio::time::sleep(SERVICE_TIME).await;
        drop(server);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    }
    Ok(())
}
