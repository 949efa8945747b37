//! The socket of a connection, with time limits for the peer.
//!
//! hyper reads and writes through this socket. A read or write that takes too long is an I/O error, which ends the
//! connection. While a request is being answered only writes have a limit here: the handler has time limits of
//! its own.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// The time limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// The time from the first byte of a request to the end of its headers. A new connection must send its first
    /// head within this time, too.
    pub head: Duration,
    /// The time from an answer to the first byte of the next request.
    pub idle: Duration,
    /// How long the peer may accept no bytes of an answer.
    pub write: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        let [head, idle, write] = [10, 75, 30].map(Duration::from_secs);
        Self { head, idle, write }
    }
}

/// How long the server reads and drops bytes of the peer after it has closed its own side. Without this the answer might
/// not arrive: closing a socket with unread bytes resets the connection.
const LINGER: Duration = Duration::from_millis(500);
/// The maximum number of bytes that are read and dropped.
const LINGER_BYTES: usize = 1024 * 1024;

/// Counts the beginnings and ends of a connection's requests. The count is odd while a request is being
/// answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    count: AtomicU64,
    /// The task to wake at each turn. Without a wake-up hyper would not read before there are bytes to read, and the
    /// time limit of the next request would not start.
    reader: AtomicWaker,
}

impl Turns {
    /// Counts a turn: a request's head has arrived, or its answer is complete.
    pub(super) fn turn(&self) {
        self.0.count.fetch_add(1, Ordering::Release);
        self.0.reader.wake();
    }

    fn now(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }
}

/// The socket of one connection.
pub(super) struct Socket {
    stream: TcpStream,
    limits: TimeLimits,
    turns: Turns,
    /// The turn that `read_by` belongs to.
    turn: u64,
    /// Whether the first byte of the next request has arrived.
    head_begun: bool,
    read_by: Pin<Box<Sleep>>,
    /// The time limit of the peer; set while the peer accepts no bytes.
    write_by: Option<Pin<Box<Sleep>>>,
    /// Set once the server has closed its side: the number of bytes that may still be dropped, and the time limit.
    lingering: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, limits: TimeLimits, turns: Turns) -> Self {
        let read_by = Box::pin(tokio::time::sleep(limits.head));
        let turn = turns.now();
        let head_begun = true;
        Self { stream, limits, turns, turn, head_begun, read_by, write_by: None, lingering: None }
    }

    fn is_answering(&self) -> bool {
        self.turn % 2 == 1
    }

    /// Starts the time limit of the next request once the last one is answered.
    fn notice_turn(&mut self) {
        let turn = self.turns.now();
        if turn != self.turn {
            self.turn = turn;
            self.head_begun = false;
            self.read_by.as_mut().reset(Instant::now() + self.limits.idle);
        }
    }

    /// Starts the time limit for writes when the peer accepts no bytes, and ends it when the peer accepts some.
    fn timed<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_by = None;
            return polled;
        }
        let limit = self.limits.write;
        let by = self.write_by.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(by.as_mut().poll(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.turns.0.reader.register(context.waker());
        this.notice_turn();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.is_answering() {
            return polled;
        }
        if polled.is_ready() {
            if !this.head_begun {
                this.head_begun = true;
                this.read_by.as_mut().reset(Instant::now() + this.limits.head);
            }
            return polled;
        }
        ready!(this.read_by.as_mut().poll(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.timed(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let (left, until) = this
            .lingering
            .get_or_insert_with(|| (LINGER_BYTES, Box::pin(tokio::time::sleep(LINGER))));
        while *left > 0 {
            let mut dropped = [0; 8192];
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                // The peer has closed its side too, or has gone away.
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(until.as_mut().poll(context));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
