//! Drains the part of a request's body that the handler has not read.
//!
//! A request that is refused early (401, 403, 404) is answered before its body is read. HTTP/1 cannot continue
//! after an unread body: the connection would be closed without notice, and the client's next request on it
//! would fail. So the edge reads and drops the rest of a small body before it sends the answer. If the rest is
//! too large or takes too long, the answer has `Connection: close`.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use poem::{Body, Request, http::header};

use super::json::BODY_LIMIT;

/// How long the rest of a body may take to arrive.
const PATIENCE: Duration = Duration::from_millis(500);

type Chunk = Result<bytes::Bytes, std::io::Error>;

/// A request's body, shared between the handler that reads it and the edge that reads the rest.
#[derive(Clone)]
pub struct Unread(Arc<Mutex<Rest>>);

struct Rest {
    stream: BoxStream<'static, Chunk>,
    /// Whether the client sends its body only when asked for it (`Expect: 100-continue`).
    is_held_back: bool,
    /// Whether the body comes in chunks. A proxy may see its end in another place, so what follows it on the connection is not believed.
    in_chunks: bool,
    ended: bool,
}

impl Unread {
    /// Shares the body of this request. `None` if the request has no body.
    pub fn share(request: &mut Request) -> Option<Self> {
        let headers = request.headers();
        let in_chunks = headers.contains_key(header::TRANSFER_ENCODING);
        let has_body =
            in_chunks || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        if !has_body {
            return None;
        }
        let is_held_back = headers.contains_key(header::EXPECT);
        let stream = request.take_body().into_bytes_stream().boxed();
        let unread =
            Self(Arc::new(Mutex::new(Rest { stream, is_held_back, in_chunks, ended: false })));
        let reader = unread.clone();
        let chunks = stream::poll_fn(move |context| reader.poll_chunk(context));
        request.set_body(Body::from_bytes_stream(chunks));
        Some(unread)
    }

    /// Reads and drops the rest. False if there is too much of it or if it comes in chunks, so the connection must be closed
    /// after the answer.
    pub async fn drop_rest(self) -> bool {
        if self.0.lock().expect("nothing panics while holding it").is_held_back {
            return false;
        }
        let in_chunks = self.0.lock().expect("nothing panics while holding it").in_chunks;
        let mut left = BODY_LIMIT;
        let rest = async {
            while let Some(chunk) = stream::poll_fn(|context| self.poll_chunk(context)).next().await
            {
                match left.checked_sub(chunk.map_or(usize::MAX, |bytes| bytes.len())) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, rest).await.unwrap_or(false) && !in_chunks
    }

    fn poll_chunk(&self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let mut rest = self.0.lock().expect("nothing panics while holding it");
        if rest.ended {
            return Poll::Ready(None);
        }
        rest.is_held_back = false;
        let polled = Pin::new(&mut rest.stream).poll_next(context);
        rest.ended = matches!(polled, Poll::Ready(None));
        polled
    }
}
