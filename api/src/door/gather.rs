//! Reads that requests share: those that arrive while a read is running are answered together by the next one, in one round trip.
//!
//! Nothing is cached. A request is answered by a read that began after the request had arrived, so it sees everything that was committed
//! before. The more requests come at once, the less each of them costs.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::future::BoxFuture;
use stepwise_engine::database::in_time;
use tokio::sync::oneshot;

use super::problem::Problem;

/// Reads the values of many keys. A key without a value is left out.
type Read<K, V> =
    Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, sqlx::Error>> + Send + Sync>;

type Answer<V> = oneshot::Sender<Result<Option<V>, Problem>>;

/// Requests for values of the type `V`, by their keys.
pub struct Gather<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    read: Read<K, V>,
    waiting: Mutex<Waiting<K, V>>,
}

struct Waiting<K, V> {
    asked: HashMap<K, Vec<Answer<V>>>,
    /// A task is reading, and will read these next.
    under_way: bool,
}

impl<K, V> Gather<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Answers requests by this read.
    pub fn new(
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, sqlx::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let waiting = Mutex::new(Waiting { asked: HashMap::new(), under_way: false });
        Self(Arc::new(Inner { read: Box::new(read), waiting }))
    }

    /// The value of this key. At most one round trip, which simultaneous requests share.
    pub async fn get(&self, key: K) -> Result<Option<V>, Problem> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.0.locked();
            waiting.asked.entry(key).or_default().push(answer);
            !std::mem::replace(&mut waiting.under_way, true)
        };
        if first {
            // The read runs in a task of its own, because the first request may be cancelled.
            tokio::spawn(Arc::clone(&self.0).read_all());
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

    async fn read_all(self: Arc<Self>) {
        loop {
            let asked = {
                let mut waiting = self.locked();
                if waiting.asked.is_empty() {
                    waiting.under_way = false;
                    return;
                }
                std::mem::take(&mut waiting.asked)
            };
            let keys = asked.keys().cloned().collect();
            let read = in_time((self.read)(keys)).await.map_err(Problem::from);
            for (key, answers) in asked {
                for answer in answers {
                    let value = read.as_ref().map(|found| found.get(&key).cloned());
                    // The request that asked may have been cancelled.
                    drop(answer.send(value.map_err(Clone::clone)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn requests_share_reads_and_each_sees_what_was_true_when_it_came() {
        let (reads, truth) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, read) = (Arc::clone(&reads), Arc::clone(&truth));
        let gather = Gather::new(move |keys: Vec<usize>| {
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
}
