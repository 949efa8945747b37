//! Orders that are placed at the same moment share one transaction.
//!
//! Each statement of placeOrder then serves all of these orders, and they share one commit. Requests that come while such a transaction runs share the
//! next one ([`Gather`]). A request that comes alone has a transaction of its own, and waits for nobody.
//!
//! Nobody waits there for a row that another transaction has locked. An order that would have to wait is left out, and shares the next transaction of those
//! that wait for stock, such as that of a product which everybody orders. If it is left out there too, it has a transaction of its own ([`Door::command`]): another
//! transaction has locked its customer, its cart or its key, an earlier one of the same customer or key is in the same transaction, or it is paid by PayPal. So is
//! each of the orders if their transaction fails, unless the database is away. So nothing that happens to one order shows in the answer to another.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::try_join_all};
use poem::http::StatusCode;
use stepwise_engine::{
    Transaction,
    database::{self, Condition},
};
use stepwise_workflows::{
    order::place::{self, Locks},
    sagas::place_order::{self, Placed, place_order, place_together},
    shop::{Cause, Context},
};
use uuid::Uuid;

use super::operations::OperationShape;
use crate::door::{
    Ask, Door,
    caller::Caller,
    gather::Gather,
    idempotency::{self, Scope},
    problem::Problem,
    reply::Reply,
};

/// The most orders of one transaction: it holds the rows of all of them until the last one is written.
const MOST: usize = 32;

/// How long a transaction holds up the next one. One that waits for the database or for stock is overtaken.
const PATIENCE: Duration = Duration::from_millis(250);

/// The time of a transaction. Its requests are given up before (`Edge`).
const WHOLE: Duration = Duration::from_secs(15);

/// The answer to a request.
type Accepted = Result<Reply<202, OperationShape>, Problem>;

/// Orders that share transactions.
type Together = Gather<Arc<Request>, Accepted>;

/// The orders that are being placed in this process.
pub(super) struct Placements {
    /// Orders that wait for nobody.
    free: Together,
    /// Orders that wait for stock.
    waiting: Together,
    /// The number of the next request.
    next: AtomicU64,
}

/// A request for an order. No two are equal, whatever they ask for.
struct Request {
    /// Its place among the requests of this process.
    number: u64,
    door: Arc<Door>,
    caller: Caller,
    scope: Scope,
    asked: place::Asked,
}

impl PartialEq for Request {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Request {}

impl Hash for Request {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Default for Placements {
    fn default() -> Self {
        let together =
            |locks| Gather::new(MOST, PATIENCE, move |requests| place_all(requests, locks).boxed());
        let (free, waiting) = (together(Locks::Skip), together(Locks::WaitForStock));
        Self { free, waiting, next: AtomicU64::new(0) }
    }
}

impl Placements {
    /// Places an order. 7 round trips besides begin and commit, which the orders that come meanwhile share: 2 for the keys, 5 for the command and its
    /// saga. An order that is left out takes up to 3 of these again for each further transaction.
    pub(super) async fn place(
        &self,
        door: &Arc<Door>,
        caller: &Caller,
        ask: Ask<'_>,
        command: place::PlaceOrder,
    ) -> Accepted {
        let Some(scope) = ask.scope() else { return alone(door, caller, ask, &command).await };
        let request = Arc::new(Request {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            door: Arc::clone(door),
            caller: caller.clone(),
            scope,
            asked: place::Asked { cause: ask.cause().clone(), command: command.clone() },
        });
        for together in [&self.free, &self.waiting] {
            // While the database is away, each request finds that out for itself, at the same time as the others.
            if database::condition() != Condition::Good {
                break;
            }
            match together.get(Arc::clone(&request)).await {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(problem) if problem.is_lost_race() => {
                    return alone(door, caller, ask.after_lost_race(), &command).await;
                }
                Err(_) => break,
            }
        }
        alone(door, caller, ask, &command).await
    }
}

/// Places an order in a transaction of its own. It may wait for others, and is run again if it loses a race.
async fn alone(
    door: &Door,
    caller: &Caller,
    ask: Ask<'_>,
    command: &place::PlaceOrder,
) -> Accepted {
    let place = async |ctx: &mut Context<'_>| {
        let placed = place_order(ctx, command).await?;
        Ok(accepted(caller, &placed))
    };
    door.command(ask, place).await
}

fn accepted(caller: &Caller, placed: &Placed) -> Reply<202, OperationShape> {
    let Placed { order, operation_id } = placed;
    let begun = OperationShape::begun::<place_order::PlaceOrder>(*operation_id, order.order_id);
    begun.accepted(caller)
}

/// Answers these requests in one transaction. Those that are left out get no answer.
async fn place_all(
    mut requests: Vec<Arc<Request>>,
    locks: Locks,
) -> Result<HashMap<Arc<Request>, Accepted>, Problem> {
    // Of two that want the last item, the one that came first gets it.
    requests.sort_unstable_by_key(|request| request.number);
    let (mut customers, mut keys) = (HashSet::new(), HashSet::new());
    requests.retain(|request| {
        customers.insert(request.asked.command.customer_id) && keys.insert(request.scope.id())
    });
    match database::within(WHOLE, in_one_transaction(&requests, locks)).await {
        Ok(answers) => {
            let answered = requests.into_iter().zip(answers);
            Ok(answered.filter_map(|(request, answer)| Some((request, answer?))).collect())
        }
        // Each of them alone would be told the same, later. It may be unknown whether the transaction was committed.
        Err(problem) if problem.is_outage() => {
            let told = |request| (request, Err(problem.clone()));
            Ok(requests.into_iter().map(told).collect())
        }
        Err(problem) => Err(problem),
    }
}

async fn in_one_transaction(
    requests: &[Arc<Request>],
    locks: Locks,
) -> Result<Vec<Option<Accepted>>, Problem> {
    let Some(Request { door, .. }) = requests.first().map(|first| &**first) else {
        return Ok(Vec::new());
    };
    let mut tx = door.begin().await?;
    match answers(door, &mut tx, requests, locks).await {
        Ok(answers) => tx.commit().await.map(|()| answers).map_err(Problem::from),
        Err(problem) => {
            // Roll back now: the keys are to be free when the requests are run alone.
            let _gone = tx.rollback().await;
            Err(problem)
        }
    }
}

/// The answers to these requests, in their order. `None`: it is left out. Customers and keys must differ.
async fn answers(
    door: &Door,
    tx: &mut Transaction,
    requests: &[Arc<Request>],
    locks: Locks,
) -> Result<Vec<Option<Accepted>>, Problem> {
    let mut ctx = door.context(tx, Cause::of_system(Uuid::now_v7()));
    let (mut answers, fresh) = repeated(&mut ctx, requests).await?;
    if fresh.is_empty() {
        return Ok(answers);
    }
    let asked: Vec<place::Asked> = fresh.iter().map(|n| requests[*n].asked.clone()).collect();
    let outcomes = place_together(&mut ctx, &asked, locks).await?;
    let mut placed = Vec::new();
    for (n, outcome) in fresh.into_iter().zip(outcomes) {
        let request = &requests[n];
        answers[n] = match outcome {
            Some(Ok(order)) => {
                let reply = accepted(&request.caller, &order);
                placed.push((request, reply.answer.clone()));
                Some(Ok(reply))
            }
            Some(Err(refusal)) => refused(refusal.into()),
            None => None,
        };
    }
    keep(&mut ctx, placed).await?;
    Ok(answers)
}

/// Takes the keys of the requests. Returns the answers to those that were answered or refused by their key, and the places of the others, which
/// are to be placed.
async fn repeated(
    ctx: &mut Context<'_>,
    requests: &[Arc<Request>],
) -> Result<(Vec<Option<Accepted>>, Vec<usize>), Problem> {
    let scopes: Vec<&Scope> = requests.iter().map(|request| &request.scope).collect();
    let taken = idempotency::take_all(ctx, &scopes).await?;
    let (mut answers, mut fresh) = (Vec::with_capacity(requests.len()), Vec::new());
    for (n, taken) in taken.into_iter().enumerate() {
        answers.push(match taken {
            Ok(None) => {
                fresh.push(n);
                None
            }
            Ok(Some(kept)) => match idempotency::unseal(&*ctx.shop.keys, kept).await {
                Ok(kept) => Some(Ok(Reply::replayed(kept))),
                Err(problem) => refused(problem),
            },
            // Alone it waits for the other request, if its client wants it to.
            Err(problem) if problem.code() == idempotency::IN_FLIGHT => None,
            Err(problem) => refused(problem),
        });
    }
    Ok((answers, fresh))
}

/// The answer to a refused request. A failure of the server is logged under the id of its request, so the request finds it again alone.
fn refused(problem: Problem) -> Option<Accepted> {
    (problem.status() < StatusCode::INTERNAL_SERVER_ERROR).then_some(Err(problem))
}

/// Stores the answers to these requests. 1 round trip, and one to the store of keys for each customer.
async fn keep(
    ctx: &mut Context<'_>,
    placed: Vec<(&Arc<Request>, idempotency::Answer)>,
) -> Result<(), Problem> {
    if placed.is_empty() {
        return Ok(());
    }
    let keys = &*ctx.shop.keys;
    let sealed = placed.into_iter().map(|(request, answer)| async move {
        let kept = idempotency::seal(keys, answer.owned_by(&request.asked.cause.actor)).await?;
        Ok::<_, Problem>((&request.scope, kept))
    });
    let sealed = try_join_all(sealed).await?;
    let kept: Vec<_> = sealed.iter().map(|(scope, answer)| (*scope, answer)).collect();
    idempotency::store_all(ctx, &kept).await
}
