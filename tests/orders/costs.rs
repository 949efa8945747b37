//! The statements of an order, a shipment and a refund, counted from the command to the end of its saga.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgConnection;
use stepwise_adapters::sandbox::SandboxMethod as Method;
use stepwise_engine::{Status, testing::Statements};
use stepwise_tests::House;
use stepwise_workflows::{
    money::{Currency, Money},
    order::{confirm_order, refund::RefundPayment, ship::ShipOrder},
    sagas::{place_order::place_order, refund_payment::refund_payment, ship_order::ship_order},
    shop::{Actor, Context, cause::KeyRole},
};
use uuid::Uuid;

const ADMIN: Actor = Actor::Key(KeyRole::Admin, Uuid::nil());

/// The beginnings of statements that belong to nothing in particular: they are sent now and then, or by this test.
const NOT_COUNTED: [&str; 17] = [
    "-- name: awaited",
    "-- name: claim due",
    "-- name: commit select",
    "-- name: database takes",
    "-- name: decide ticks",
    "-- name: inspect summary",
    "-- name: listener lives",
    "-- name: look around",
    "-- name: mark",
    "-- name: next wake",
    "-- name: owned for",
    "-- name: renew lease",
    "-- name: testing",
    "-- test",
    "begin",
    "commit",
    "select pg_type.oid",
];

/// The statements that the driver has reported, by their first words.
static SENT: LazyLock<Mutex<BTreeMap<String, usize>>> = LazyLock::new(Mutex::default);

fn sent() -> MutexGuard<'static, BTreeMap<String, usize>> {
    SENT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(text: &str) {
    let words = text.to_lowercase();
    if !NOT_COUNTED.iter().any(|other| words.starts_with(other)) {
        *sent().entry(text.to_owned()).or_default() += 1;
    }
}

/// The rows that the session has inserted, updated or deleted and not reported yet, those of this transaction included.
async fn row_operations(tx: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "-- test: row operations
        select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_xact_user_tables",
    )
    .fetch_one(tx)
    .await
    .expect("readable")
}

/// How often each thing is done after the first time, which prepares statements and asks for the names of types: enough to tell what belongs to it.
const TIMES: usize = 6;

/// The cost of one run.
struct Cost {
    /// The statements from the command to the end of the saga, and how often each is sent.
    statements: Vec<(String, usize)>,
    /// The rows that the command's transaction writes.
    rows: i64,
}

impl Cost {
    /// The cost of a run, after [`TIMES`] of them. A statement that was sent for less than half of the runs belongs to none.
    fn of_each(rows: i64) -> Self {
        let all = std::mem::take(&mut *sent());
        let each = all.into_iter().map(|(text, count)| (text, (count + TIMES / 2) / TIMES));
        Self { statements: each.filter(|(_, count)| *count > 0).collect(), rows }
    }

    /// The number of statements, and of the rows.
    fn sums(&self) -> (usize, i64) {
        (self.statements.iter().map(|(_, count)| count).sum(), self.rows)
    }
}

/// Gives a command to the shop, counted from its second time on, and waits for the end of its saga.
async fn run<T>(
    house: &House,
    (n, actor): (usize, Actor),
    command: impl AsyncFnOnce(&mut Context<'_>) -> (T, Uuid),
) -> (T, i64) {
    if n == 1 {
        sent().clear();
    }
    let mut tx = house.engine.begin().await.expect("begin");
    let before = row_operations(&mut tx).await;
    let (done, operation) = command(&mut house.context(&mut tx, actor)).await;
    let rows = row_operations(&mut tx).await - before;
    tx.commit().await.expect("commit");
    assert_eq!(house.end(operation).await.status, Status::Completed);
    (done, rows)
}

async fn confirm(house: &House, order: Uuid) {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, ADMIN);
    confirm_order(&mut ctx, order).await.expect("it can be confirmed");
    tx.commit().await.expect("commit");
}

#[tokio::test]
async fn an_order_a_shipment_and_a_refund_take_so_many_statements() {
    let house = House::open(Duration::from_secs(5)).await;
    let product = house.product(100).await;
    let mut commands = Vec::new();
    for _ in 0..=TIMES {
        let buyer = house.buyer().await;
        commands.push(house.ordering(buyer, product, 1, Method::Ok).await);
    }
    tracing::subscriber::set_global_default(Statements(count)).expect("no other test listens");
    let (mut orders, mut rows) = (Vec::new(), 0);
    for (n, command) in commands.iter().enumerate() {
        let order;
        let by = Actor::Customer(command.customer_id);
        (order, rows) = run(&house, (n, by), async |ctx| {
            let placed = place_order(ctx, command).await.expect("placing");
            (placed.order.order_id, placed.operation_id)
        })
        .await;
        orders.push(order);
    }
    let placing = Cost::of_each(rows);

    for order in &orders {
        confirm(&house, *order).await;
    }
    for (n, order_id) in orders.iter().copied().enumerate() {
        let (tracking_number, carrier) = ("1Z999".to_owned(), "UPS".to_owned());
        let command = ShipOrder { order_id, tracking_number, carrier };
        (_, rows) = run(&house, (n, ADMIN), async |ctx| {
            ((), ship_order(ctx, &command).await.expect("it can be shipped"))
        })
        .await;
    }
    let shipping = Cost::of_each(rows);

    for (n, order_id) in orders.iter().copied().enumerate() {
        let amount = Money::from_minor(100, Currency::USD).expect("a dollar");
        let command = RefundPayment { order_id, amount };
        (_, rows) = run(&house, (n, ADMIN), async |ctx| {
            ((), refund_payment(ctx, &command).await.expect("it can be refunded"))
        })
        .await;
    }
    let refunding = Cost::of_each(rows);

    // The request adds two statements: to take its idempotency key, and to store the answer.
    let sums = [placing.sums(), shipping.sums(), refunding.sums()];
    let all = [placing.statements, shipping.statements, refunding.statements];
    assert_eq!(sums, [(11, 12), (10, 5), (10, 4)], "{all:#?}");
    house.close().await;
}
