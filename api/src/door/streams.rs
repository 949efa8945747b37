//! Event streams: how many of them a caller may have open, and when one ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::BoxStream};
use poem::http::StatusCode;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Door, caller::Caller, problem::Problem, tokens::Callers};

/// The interval between two lookups of an open stream's token.
const LOOK: Duration = Duration::from_secs(1);

/// Counts the open streams of each caller, in this process.
pub struct Streams {
    /// The most streams of one caller. Zero switches the limit off.
    per_caller: u32,
    open: Arc<Mutex<HashMap<String, u32>>>,
    /// The lookups of all streams happen at the same moments after this one, so that they share round trips.
    since: Instant,
}

/// The place of an open stream. Dropping it gives the place back.
struct Place {
    open: Arc<Mutex<HashMap<String, u32>>>,
    caller: String,
}

impl Streams {
    /// No stream is open.
    pub fn new(per_caller: u32) -> Self {
        Self { per_caller, open: Arc::default(), since: Instant::now() }
    }

    fn admit(&self, caller: &Caller) -> Result<Place, Problem> {
        let caller = caller.key();
        let mut open = self.open.lock().expect("nothing panics while holding it");
        let of_caller = open.entry(caller.clone()).or_default();
        if self.per_caller > 0 && *of_caller >= self.per_caller {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_streams",
                "This caller has too many event streams open; close one first.",
            )
            .retry_after_s(5));
        }
        *of_caller += 1;
        Ok(Place { open: Arc::clone(&self.open), caller })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().expect("nothing panics while holding it");
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

impl Door {
    /// A stream of these items for the caller. It ends when the server closes, and within two seconds after the caller's token was revoked or has
    /// expired. 429 if the caller has too many streams open. Round trips: 1 per second, which all streams of this process share. An open stream
    /// counts as a use of its session.
    pub fn stream<T: Send + 'static>(
        &self,
        caller: &Caller,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> Result<BoxStream<'static, T>, Problem> {
        let place = self.streams.admit(caller)?;
        let over = token_is_over(self.callers.clone(), caller.token_hash, self.streams.since);
        let stop = self.stop.clone().cancelled_owned();
        let ended = async move {
            tokio::select! {
                () = stop => {}
                () = over => {}
            }
        };
        let items = items.map(move |item| {
            let _held = &place;
            item
        });
        Ok(items.take_until(Box::pin(ended)).boxed())
    }
}

/// Waits until the token is no longer valid. While the database does not answer, nothing is known of the token, and the stream goes on.
async fn token_is_over(callers: Callers, token_hash: [u8; 32], since: Instant) {
    let mut looks = interval_at(since, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        looks.tick().await;
        if callers.is_over(token_hash).await {
            return;
        }
    }
}
