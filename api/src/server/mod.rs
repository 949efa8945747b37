//! The HTTP server: listens, serves HTTP/1.1, and shuts down gracefully.
//!
//! Each connection is a task with time limits for the client (`socket`). The number of open connections is limited
//! (`connections`). When the process is told to stop, `/readyz` answers 503 at once, the listener closes after
//! [`ServerSettings::stop_delay`] (so that a load balancer can stop sending requests first), and running
//! requests get 10 s to end.

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
use stepwise_workflows::{
    customer::attempts,
    erasure::tax::{self, TaxRecordRefusal},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{connections::ConnectionLimits, socket::TimeLimits};
use self::{
    connections::{Connections, Place},
    socket::{Socket, Turns},
};
use crate::{door::Door, routes};

/// How long requests may run once the listener is closed.
const GRACE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes. A longer one gets 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// The wait after a connection could not be accepted; it doubles up to [`LONGEST_WAIT`].
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// The longest wait after a connection could not be accepted.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a request waits for a connection to the database before it gets 503, in milliseconds.
const ACQUIRE_MS: u64 = 1_500;

/// The answer to a connection over the limit.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\
    retry-after: 1\r\nconnection: close\r\n\r\n";

/// The settings of the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerSettings {
    /// The limits of open connections.
    pub connections: ConnectionLimits,
    /// The time limits for clients.
    pub times: TimeLimits,
    /// How long requests are still accepted after `/readyz` has begun to answer 503.
    pub stop_delay: Duration,
}

/// Opens the front door's pool.
pub fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    database::pool(options, Waits::USUAL, connections, Duration::from_millis(ACQUIRE_MS))
}

/// Serves the front door on `listener` until the process is told to stop, then lets running
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
    // Streams end now, and requests that wait for an operation's end are answered.
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
    /// When cancelled, each connection closes after its current request.
    closing: CancellationToken,
    /// When cancelled, all connections close at once.
    ending: CancellationToken,
    running: TaskTracker,
}

impl<E: Endpoint<Output = Response> + 'static> Server<E> {
    /// Accepts connections; never returns.
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

    /// Serves a new connection, or refuses it if it is over the limit.
    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let place = match self.connections.admit(from.ip()) {
            Ok(place) => place,
            Err(too_many) => {
                let reason = too_many.reason();
                metrics::counter!("http_connections_refused_total", "reason" => reason)
                    .increment(1);
                // Best effort: the server does not wait for this client.
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
        // An answer is written in one piece, so waiting for more bytes to send would only delay it.
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
            tracing::warn!(left, "requests were still running; their connections are closed");
            self.ending.cancel();
            self.running.wait().await;
        }
    }
}

/// Exists from the arrival of a request's head until hyper has taken the whole answer.
struct Answering(Turns);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.turn();
    }
}

/// The body of an answer, which is dropped when hyper has taken its last part.
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

/// A period in which no connection can be accepted, for example because the process is out of file descriptors.
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
            // This error is about one connection, not about the listener.
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

/// Once a minute, deletes expired answers, old counts of log-in attempts and counts of quiet callers, and destroys the keys of tax records whose
/// statutory time is over.
async fn sweep(door: Arc<Door>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    let answers = Failing::new("cannot delete expired answers");
    let counts = Failing::new("cannot delete old counts of log-in attempts");
    let records = Failing::new("cannot destroy the keys of tax records whose time is over");
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
        match tax::end_retention(&door.db, &*door.shop.keys).await {
            Ok(_) => records.end(),
            Err(TaxRecordRefusal::Database(error)) => records.begin_with(&error),
            Err(error) => records.begin(&error),
        }
    }
}
