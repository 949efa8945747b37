//! Work that requests share: those that come while a piece of it is being done are answered together by the next one. That may be a read in one
//! round trip, or one transaction for commands of many callers.
//!
//! Nothing is cached. A request is answered by work that began after the request had come, so a read sees everything that was committed
//! before. The more requests come at once, the less each of them costs. Keys get their turn in the order in which they were first asked for, and at most
//! so many at once that the work ends in time, however many are waiting.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use stepwise_engine::database::in_time;
use tokio::sync::oneshot;

use super::problem::Problem;

/// Finds or makes the values of many keys. A key without a value is left out.
type Work<K, V> =
    Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, Problem>> + Send + Sync>;

type Answer<V> = oneshot::Sender<Result<Option<V>, Problem>>;
type Asked<K, V> = HashMap<K, Vec<Answer<V>>>;

/// Requests for values of the type `V`, by their keys.
pub struct Gather<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    /// The maximum number of keys of one piece of work.
    most: usize,
    /// How long a piece of work holds up the next one.
    patience: Duration,
    work: Work<K, V>,
    waiting: Mutex<Waiting<K, V>>,
}

struct Waiting<K, V> {
    asked: Asked<K, V>,
    /// The keys of `asked`, in the order in which they came.
    turns: VecDeque<K>,
    /// A task is at work, and will work for these next.
    under_way: bool,
}

impl<K, V> Gather<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Answers requests by this read, which gets at most `most` keys at once (at least 1). One read runs at a time. It is given up if it takes too
    /// long ([`in_time`]).
    pub fn reads(
        most: usize,
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, sqlx::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::new(most, Duration::MAX, move |keys| {
            let read = in_time(read(keys));
            async move { Ok(read.await?) }.boxed()
        })
    }

    /// Answers requests by this work, which gets at most `most` keys at once (at least 1), and ends by itself. Beside a piece of work that takes longer than
    /// `patience` the next one begins.
    pub fn new(
        most: usize,
        patience: Duration,
        work: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, Problem>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let (asked, turns) = (HashMap::new(), VecDeque::new());
        let waiting = Mutex::new(Waiting { asked, turns, under_way: false });
        Self(Arc::new(Inner { most, patience, work: Box::new(work), waiting }))
    }

    /// The value of this key. One piece of work, which simultaneous requests share, after those for the keys that came before. If it fails or panics,
    /// the requests that it was to answer fail. It is done to its end even if these requests are cancelled meanwhile.
    pub async fn get(&self, key: K) -> Result<Option<V>, Problem> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.0.locked();
            if !waiting.asked.contains_key(&key) {
                waiting.turns.push_back(key.clone());
            }
            waiting.asked.entry(key).or_default().push(answer);
            !std::mem::replace(&mut waiting.under_way, true)
        };
        if first {
            // The work is done in a task of its own, because the first request may be cancelled.
            tokio::spawn(Arc::clone(&self.0).work_for_all());
        }
        answered.await.unwrap_or_else(|_| Err(Problem::internal()))
    }
}

impl<K, V> Inner<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn locked(&self) -> MutexGuard<'_, Waiting<K, V>> {
        self.waiting.lock().expect("nothing panics while holding it")
    }

    async fn work_for_all(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            // A panic drops the senders of this batch, which fails its requests. The others get their turn.
            let answering = tokio::spawn(Arc::clone(&self).answer(batch));
            let _ended_or_slow = tokio::time::timeout(self.patience, answering).await;
        }
    }

    /// The requests that are answered next. `None` if nobody waits: then the next request begins.
    fn next_batch(&self) -> Option<Asked<K, V>> {
        let mut waiting = self.locked();
        let mut batch = HashMap::new();
        while batch.len() < self.most {
            let Some(key) = waiting.turns.pop_front() else { break };
            let mut answers = waiting.asked.remove(&key).unwrap_or_default();
            // Nothing is done for requests that were cancelled meanwhile.
            answers.retain(|answer| !answer.is_closed());
            if !answers.is_empty() {
                batch.insert(key, answers);
            }
        }
        waiting.under_way = !batch.is_empty();
        waiting.under_way.then_some(batch)
    }

    async fn answer(self: Arc<Self>, batch: Asked<K, V>) {
        let keys = batch.keys().cloned().collect();
        let done = (self.work)(keys).await;
        for (key, answers) in batch {
            for answer in answers {
                let value = done.as_ref().map(|found| found.get(&key).cloned());
                // The request that asked may have been cancelled.
                drop(answer.send(value.map_err(Clone::clone)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn requests_share_reads_and_each_sees_what_was_true_when_it_came() {
        let (reads, truth) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, read) = (Arc::clone(&reads), Arc::clone(&truth));
        let gather = Gather::reads(16, move |keys: Vec<usize>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let now = read.load(Ordering::SeqCst);
            let even = keys.into_iter().filter(|key| key % 2 == 0);
            let found = even.map(|key| (key, key + now)).collect();
            async move {
                tokio::task::yield_now().await;
                Ok(found)
            }
            .boxed()
        });
        let answers = join_all((0..100).map(|n| gather.get(n % 10))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let key = n % 10;
            let expected = (key % 2 == 0).then_some(key);
            assert_eq!(answer.ok().flatten(), expected);
        }
        assert!(reads.load(Ordering::SeqCst) <= 2, "{reads:?} reads for 100 requests");
        truth.store(1_000, Ordering::SeqCst);
        assert_eq!(gather.get(4).await.ok().flatten(), Some(1_004));
    }

    #[tokio::test]
    async fn a_read_that_panics_fails_its_requests_and_the_next_ones_are_read() {
        let reads = Arc::new(AtomicUsize::new(0));
        let gather = Gather::reads(1, move |keys: Vec<usize>| {
            let read = reads.fetch_add(1, Ordering::SeqCst);
            assert!(read != 0, "the first read panics before it begins");
            async move {
                tokio::task::yield_now().await;
                assert!(read != 1, "the second one panics on its way");
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
            .boxed()
        });
        let asked = async {
            let together = join_all((0..4).map(|key| gather.get(key))).await;
            (together, gather.get(7).await)
        };
        let (together, later) =
            tokio::time::timeout(Duration::from_secs(10), asked).await.expect("nobody hangs");
        let found: Vec<_> = together.into_iter().map(Result::ok).collect();
        assert_eq!(found, [None, None, Some(Some(2)), Some(Some(3))]);
        assert_eq!(later.ok(), Some(Some(7)));
    }

    #[tokio::test]
    async fn more_keys_than_a_read_takes_are_read_one_batch_after_the_other() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&batches);
        let gather = Gather::reads(16, move |mut keys: Vec<usize>| {
            keys.sort_unstable();
            seen.lock().expect("no panic").push(keys.clone());
            async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) }.boxed()
        });
        let answers = join_all((0..80).map(|n| gather.get(n % 40))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.ok(), Some(Some(n % 40)));
        }
        let expected: [Vec<usize>; 3] = [(0..16).collect(), (16..32).collect(), (32..40).collect()];
        assert_eq!(*batches.lock().expect("no panic"), expected);
    }

    #[tokio::test]
    async fn nothing_is_read_for_requests_that_were_cancelled() {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let gather = Gather::reads(1, move |keys: Vec<usize>| {
            counted.fetch_add(keys.len(), Ordering::SeqCst);
            async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) }.boxed()
        });
        // Each is polled once, and then dropped.
        assert!(join_all((0..9).map(|key| gather.get(key))).now_or_never().is_none());
        assert_eq!(gather.get(9).await.ok(), Some(Some(9)));
        assert_eq!(read.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_that_hangs_holds_up_nobody_else() {
        let gather = Gather::new(1, Duration::from_millis(1), |keys: Vec<usize>| {
            async move {
                if keys.contains(&0) {
                    std::future::pending::<()>().await;
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
            .boxed()
        });
        let hanging = gather.get(0);
        let answered = async {
            let others = join_all((1..9).map(|key| gather.get(key))).await;
            others.into_iter().map(Result::ok).collect::<Vec<_>>()
        };
        let found = tokio::select! {
            biased;
            _ = hanging => unreachable!("it hangs"),
            found = answered => found,
        };
        assert_eq!(found, (1..9).map(|key| Some(Some(key))).collect::<Vec<_>>());
    }
}
