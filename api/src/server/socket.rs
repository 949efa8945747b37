//! A connection's socket, which gives up on a silent peer.
//!
//! hyper reads and writes through this; what takes too long is an I/O error, which ends the
//! connection. While a request is being answered nothing is timed here but writing: the handler has
//! time limits of its own.

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

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the first byte of a request to the end of its headers. A new connection must send a whole
    /// head within the same time.
    pub head: Duration,
    /// From an answer to the first byte of the next request.
    pub idle: Duration,
    /// How long the peer may take nothing of an answer.
    pub write: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        let [head, idle, write] = [10, 75, 30].map(Duration::from_secs);
        Self { head, idle, write }
    }
}

/// How long what the peer still sends is read and dropped after our side is closed, so that the
/// answer arrives: closing a socket with unread bytes resets it.
const LINGER: Duration = Duration::from_millis(500);
/// The most bytes that are read and dropped.
const LINGER_BYTES: usize = 1024 * 1024;

/// Counts the requests of one connection as they begin and end: an odd number while one is being
/// answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    count: AtomicU64,
    /// Woken at each turn: hyper does not read again before there is something to read, so the clock
    /// of the next request would not start.
    reader: AtomicWaker,
}

impl Turns {
    /// A request's head has arrived, or its answer is complete.
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
    /// The first byte of the next request is there.
    head_begun: bool,
    read_by: Pin<Box<Sleep>>,
    /// Set while the peer takes nothing.
    write_by: Option<Pin<Box<Sleep>>>,
    /// Set once our side is closed: bytes that may still be dropped, and until when.
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

    /// Starts the clock of the next request once the last one is answered.
    fn notice_turn(&mut self) {
        let turn = self.turns.now();
        if turn != self.turn {
            self.turn = turn;
            self.head_begun = false;
            self.read_by.as_mut().reset(Instant::now() + self.limits.idle);
        }
    }

    /// Starts the clock when the peer takes nothing, stops it when the peer takes something.
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
                // The peer has closed its side too, or is gone.
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
