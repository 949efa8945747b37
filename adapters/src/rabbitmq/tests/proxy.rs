//! A wire that can be cut: a TCP proxy in front of the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// Carries everything.
    Whole,
    /// Closes what is open and what comes.
    Cut,
    /// Stays open and carries nothing.
    Silent,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    wire: Arc<watch::Sender<Wire>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn before(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let wire = Arc::new(watch::Sender::new(Wire::Whole));
        let shared = Arc::clone(&wire);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *shared.borrow() == Wire::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(broker).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, shared.subscribe()));
                tokio::spawn(carry(from_server, to_client, shared.subscribe()));
            }
        });
        Self { port, wire, task }
    }

    pub(super) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            _ = wire.wait_for(|wire| *wire == Wire::Cut) => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(bytes @ 1..) = read else { return };
        // What a silent wire has swallowed is gone, also when it is whole again.
        let silent = *wire.borrow() == Wire::Silent;
        if !silent && to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
