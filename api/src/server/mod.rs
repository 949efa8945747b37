//! The HTTP server: listens, serves HTTP/1.1, and ends in good order.
//!
//! Each connection is a task with time limits on what the client must do (`socket`), and has a place
//! among those that may be open at once (`connections`). When the process is told to stop, `/readyz`
//! answers 503 at once, the listener closes after [`ServerSettings::stop_delay`] (so that a load
//! balancer can look elsewhere first), and running requests get 10 s to end.

mod connections;
mod socket;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use poem::{
    Addr, Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use sqlx::{PgPool, postgres::PgConnectOptions};
use stepwise_engine::{
    Trouble as Failing,
    database::{self, Waits, in_time},
};
use stepwise_workflows::customer::attempts;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{connections::ConnectionLimits, socket::TimeLimits};
use self::{
    connections::{Connections, Place},
    socket::{Socket, Turns},
};
use crate::{door::Door, routes};

/// How long requests may still run once the listener is closed.
const GRACE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes; a longer one is a 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// The wait after a connection could not be accepted; it doubles up to [`LONGEST_WAIT`].
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// The longest wait after a connection could not be accepted.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a request waits for a connection to the database before it is a 503. Milliseconds.
const ACQUIRE_MS: u64 = 1_500;

/// The answer to a connection that is one too many.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n";

/// What whoever runs the server decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerSettings {
    /// The most connections at once.
    pub connections: ConnectionLimits,
    /// How long a client may take.
    pub times: TimeLimits,
    /// How long requests are still taken after `/readyz` has begun to answer 503.
    pub stop_delay: Duration,
}

/// The front door's pool.
pub fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    database::pool(options, Waits::USUAL, connections, Duration::from_millis(ACQUIRE_MS))
}

/// Serves the front door on `listener` until the door's process is told to stop, then lets running
/// requests end.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    settings: ServerSettings,
) -> io::Result<()> {
    crate::door::measure::start();
    let sweeper = tokio::spawn(sweep(Arc::clone(&door)));
    let server = Server {
        app: Arc::new(routes::app(Arc::clone(&door))),
        local: Addr::SocketAddr(listener.local_addr()?),
        settings,
        connections: Connections::new(settings.connections),
        closing: CancellationToken::new(),
        ending: CancellationToken::new(),
        running: TaskTracker::new(),
    };
    let stopping = async {
        door.stopping.cancelled().await;
        tokio::time::sleep(settings.stop_delay).await;
    };
    tokio::select! {
        () = server.accept_all(&listener) => {}
        () = stopping => {}
    }
    drop(listener);
    // Streams end, and whoever waits for an operation's end is answered.
    door.stop.cancel();
    server.close().await;
    sweeper.abort();
    Ok(())
}

/// Serves connections with `app`.
struct Server<E> {
    app: Arc<E>,
    local: Addr,
    settings: ServerSettings,
    connections: Connections,
    /// Connections close after the request that they are at.
    closing: CancellationToken,
    /// Connections close at once.
    ending: CancellationToken,
    running: TaskTracker,
}

impl<E: Endpoint<Output = Response> + 'static> Server<E> {
    /// Accepts connections for ever.
    async fn accept_all(&self, listener: &TcpListener) {
        let mut trouble = Trouble::default();
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    trouble.end();
                    self.admit(stream, from);
                }
                Err(error) => trouble.wait_out(&error).await,
            }
        }
    }

    /// Serves a new connection, unless it is one too many.
    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let place = match self.connections.admit(from.ip()) {
            Ok(place) => place,
            Err(too_many) => {
                let reason = too_many.reason();
                metrics::counter!("http_connections_refused_total", "reason" => reason)
                    .increment(1);
                // As good as it can be done without waiting for this client.
                let _ = stream.try_write(REFUSAL);
                return;
            }
        };
        let closing = self.closing.clone();
        let served = self.serve_connection(stream, from, place, closing);
        let ending = self.ending.clone();
        self.running.spawn(async move { ending.run_until_cancelled(served).await });
    }

    /// Serves the requests of one connection, one after the other.
    fn serve_connection(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        place: Place,
        closing: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<E> {
        let (app, local) = (Arc::clone(&self.app), self.local.clone());
        let turns = Turns::default();
        // Answers are written whole: waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, self.settings.times, turns.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            turns.turn();
            let answering = Answering(turns.clone());
            let app = Arc::clone(&app);
            let (local, from) = (LocalAddr(local.clone()), RemoteAddr(Addr::SocketAddr(from)));
            async move {
                let request = Request::from((request, local, from, Scheme::HTTP));
                let response: hyper::Response<_> = app.get_response(request).await.into();
                Ok::<_, Infallible>(response.map(|body| AnswerBody { body, _answering: answering }))
            }
        });
        async move {
            let _place = place;
            let mut http = http1::Builder::new();
            http.header_read_timeout(None).max_buf_size(HEAD_LIMIT);
            let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }

    /// Lets running requests end, for [`GRACE`] at most.
    async fn close(self) {
        self.closing.cancel();
        self.running.close();
        if tokio::time::timeout(GRACE, self.running.wait()).await.is_err() {
            let left = self.running.len();
            tracing::warn!(left, "requests were still running and are cut off");
            self.ending.cancel();
            self.running.wait().await;
        }
    }
}

/// Lasts from the arrival of a request's head until its answer has been handed over whole.
struct Answering(Turns);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.turn();
    }
}

/// The body of an answer; it is dropped when the last of it was handed over.
struct AnswerBody<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A time in which no connection can be accepted, as when the process is out of file descriptors.
/// It is logged when it begins and when it ends.
#[derive(Default)]
struct Trouble {
    since: Option<tokio::time::Instant>,
    wait: Duration,
}

impl Trouble {
    async fn wait_out(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            // About the one connection, not about the listener.
            return;
        }
        if self.since.is_none() {
            self.since = Some(tokio::time::Instant::now());
            tracing::error!(%error, "no connection can be accepted; trying again");
        }
        self.wait = (self.wait * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        tokio::time::sleep(self.wait).await;
    }

    fn end(&mut self) {
        self.wait = Duration::ZERO;
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(seconds, "connections are accepted again");
        }
    }
}

/// Drops expired answers, old counts and quiet callers, once a minute.
async fn sweep(door: Arc<Door>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    let answers = Failing::new("expired answers cannot be dropped");
    let counts = Failing::new("old counts of log-in attempts cannot be dropped");
    while door.stop.run_until_cancelled(minute.tick()).await.is_some() {
        door.limits.tidy();
        match in_time(crate::door::idempotency::purge(&door.db)).await {
            Ok(_) => answers.end(),
            Err(error) => answers.begin_with(&error),
        }
        match in_time(attempts::purge(&door.db)).await {
            Ok(_) => counts.end(),
            Err(error) => counts.begin_with(&error),
        }
    }
}
