//! A TCP proxy that behaves as a broken network or a broken server does.
//!
//! Put it between a process and what that process depends on (Postgres, RabbitMQ, the payment gateway), then [`Proxy::set`] what
//! goes wrong. A change applies at once, to connections that are open and to those that come.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It carries everything.
    Whole,
    /// Connections stay open, new ones are accepted, and nothing is carried. Bytes sent meanwhile are lost.
    Silent,
    /// As [`Network::Silent`] for the connections that are open now, until the network is whole again; new ones work.
    OldSilent,
    /// Open connections are closed, new ones are closed as soon as they are accepted.
    Cut,
    /// As [`Network::Cut`], with a reset (RST) instead of an orderly close.
    Reset,
    /// The next bytes of the server are swallowed and the connection is reset: the server has acted, its answer is lost.
    ResetAnswer,
    /// Nobody listens: new connections are refused, open ones are reset.
    Refused,
    /// Every HTTP request is answered with this status and an empty body, and never reaches the server.
    Status(u16),
    /// The same for requests that write (`POST`); others are carried.
    WriteStatus(u16),
    /// As a server that is busy with log-ins: it takes new connections one after the other, so many milliseconds each, also those of clients
    /// that have gone meanwhile.
    SlowLogin(u64),
}

/// The proxy. It ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    forwarded: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `server`, which carries everything.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let network = Arc::new(watch::Sender::new(Network::Whole));
        let (connections, requests) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let forwarded = <Arc<AtomicUsize>>::default();
        let route = Route {
            server,
            network: Arc::clone(&network),
            connections: Arc::clone(&connections),
            requests: Arc::clone(&requests),
            forwarded: Arc::clone(&forwarded),
            logins: Arc::default(),
        };
        let task = tokio::spawn(accept(listener, address, route));
        Self { address, network, connections, requests, forwarded, task }
    }

    /// A proxy before the server of this URL, and the URL that leads through the proxy.
    ///
    /// # Panics
    /// Where the URL has no host that resolves.
    pub async fn before_url(url: &str) -> (Self, String) {
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        let authority = authority.expect("the URL has an authority");
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let server = tokio::net::lookup_host(host)
            .await
            .expect("host and port resolve")
            .find(SocketAddr::is_ipv4)
            .expect("it has an address");
        let proxy = Self::before(server).await;
        let through = url.replacen(host, &proxy.address.to_string(), 1);
        (proxy, through)
    }

    /// From now on the network does this.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many HTTP requests were carried to the server so far.
    pub fn forwarded(&self) -> usize {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// How many requests were answered with [`Network::Status`] or [`Network::WriteStatus`] so far.
    pub fn answered(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.network.send_replace(Network::Cut);
    }
}

#[derive(Clone)]
struct Route {
    server: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    forwarded: Arc<AtomicUsize>,
    logins: Arc<tokio::sync::Mutex<()>>,
}

/// Does an HTTP request begin with these bytes?
fn begins_request(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GET ") || bytes.starts_with(b"POST ")
}

async fn accept(mut listener: TcpListener, address: SocketAddr, route: Route) {
    let mut network = route.network.subscribe();
    loop {
        let now = *network.borrow_and_update();
        if now == Network::Refused {
            // The port is closed while nobody is to listen, and bound again afterwards.
            drop(listener);
            if network.wait_for(|now| *now != Network::Refused).await.is_err() {
                return;
            }
            listener = rebind(address).await;
            continue;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    route.connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(client, route.clone()));
                }
                Err(_) => tokio::task::yield_now().await,
            },
            changed = network.changed() => if changed.is_err() { return },
        }
    }
}

async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let _ = socket.set_reuseaddr(true);
        if socket.bind(address).is_ok()
            && let Ok(listener) = socket.listen(1024)
        {
            return listener;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn serve(mut client: TcpStream, route: Route) {
    match *route.network.borrow() {
        Network::Cut => return,
        Network::Reset | Network::Refused => return reset(&client),
        _ => {}
    }
    let now = *route.network.borrow();
    if let Network::SlowLogin(ms) = now {
        let _turn = route.logins.lock().await;
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }
    let Ok(mut server) = TcpStream::connect(route.server).await else { return reset(&client) };
    if carry(&mut client, &mut server, &route).await == End::Reset {
        reset(&client);
        reset(&server);
    }
}

/// Closing with a linger time of zero sends RST.
fn reset(stream: &TcpStream) {
    // Fails only where the connection is gone already.
    let _ = stream.set_zero_linger();
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// Carries both directions until one of them or the network ends it.
async fn carry(client: &mut TcpStream, server: &mut TcpStream, route: &Route) -> End {
    let mut network = route.network.subscribe();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut request = vec![0; 64 * 1024];
    let mut answer = vec![0; 64 * 1024];
    // Connections that were open when the network began to lose old ones carry nothing until it is whole again.
    let mut is_old = false;
    loop {
        let now = *network.borrow_and_update();
        match now {
            Network::Cut => return End::Close,
            Network::Reset | Network::Refused => return End::Reset,
            Network::Whole => is_old = false,
            _ => {}
        }
        let carried = tokio::select! {
            biased;
            changed = network.changed() => {
                if changed.is_err() {
                    return End::Close;
                }
                is_old |= *network.borrow() == Network::OldSilent;
                continue;
            }
            read = from_client.read(&mut request) => {
                let Ok(count @ 1..) = read else { return End::Close };
                match now {
                    Network::Silent => continue,
                    Network::Status(status) | Network::WriteStatus(status)
                        if now == Network::Status(status) || request.starts_with(b"POST ") =>
                    {
                        route.requests.fetch_add(1, Ordering::Relaxed);
                        let text = format!(
                            "HTTP/1.1 {status} Trouble\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        );
                        // The client may be gone already.
                        let _ = to_client.write_all(text.as_bytes()).await;
                        return End::Close;
                    }
                    _ if is_old => continue,
                    _ => {
                        let begun = usize::from(begins_request(&request[..count]));
                        route.forwarded.fetch_add(begun, Ordering::Relaxed);
                        to_server.write_all(&request[..count]).await
                    }
                }
            }
            read = from_server.read(&mut answer) => {
                let Ok(count @ 1..) = read else { return End::Close };
                match now {
                    Network::Silent => continue,
                    Network::ResetAnswer => return End::Reset,
                    _ if is_old => continue,
                    _ => to_client.write_all(&answer[..count]).await,
                }
            }
        };
        if carried.is_err() {
            return End::Close;
        }
    }
}
