//! Commands in any order, legal and illegal: each order ends as the model says, while workers die and the gateway misbehaves.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use rand::{RngExt as _, rngs::StdRng};
use sqlx::postgres::PgPoolOptions;
use stepwise_adapters::sandbox::{SandboxMethod as Method, ledger::Op};
use stepwise_engine::{WorkerConfig, testing::Seed};
use stepwise_tests::{House, money};
use stepwise_workflows::{
    money::{Currency, Money},
    order::{
        cancel::CancelOrder, confirm_order, deliver_order, refund::RefundPayment, ship::ShipOrder,
    },
    payment::gateway::MethodToken,
    refusal::Refusal,
    sagas::{
        self, cancel_order::cancel_order, refund_payment::refund_payment, ship_order::ship_order,
    },
    shop::{Actor, cause::KeyRole},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_millis(600);
const ADMIN: Actor = Actor::Key(KeyRole::Admin, Uuid::nil());
const QUANTITY: i32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Confirm,
    Ship,
    Deliver,
    Cancel,
    Refund(i64),
}

/// The model: the status of an order and the cents that it may still give back, after a command; or the code of the refusal. `taken`: the
/// cents that the gateway lets the shop take.
fn model(
    (status, left): (&'static str, i64),
    command: Command,
    taken: i64,
) -> Result<(&'static str, i64), &'static str> {
    match (status, command) {
        ("pending", Command::Confirm) => Ok(("confirmed", 0)),
        ("confirmed", Command::Ship) if taken == 0 => Ok(("confirmed", 0)),
        ("confirmed", Command::Ship) => Ok(("shipped", taken)),
        ("shipped", Command::Deliver) => Ok(("delivered", left)),
        ("pending" | "confirmed" | "cancelled", Command::Cancel) => Ok(("cancelled", 0)),
        ("shipped" | "delivered", Command::Cancel) => Err("already_shipped"),
        ("shipped" | "delivered", Command::Refund(cents)) if cents > left => {
            Err("refund_exceeds_payment")
        }
        ("shipped" | "delivered", Command::Refund(cents)) => Ok((status, left - cents)),
        (_, Command::Refund(_)) => Err("payment_not_captured"),
        _ => Err("invalid_status_transition"),
    }
}

/// 3 pieces at 10.00, 5.99 for shipping, and the tax of California.
const TOTAL: i64 = 3_817;

/// Ways of the gateway to behave: on one operation, the status with which the placement ends then, and the cents that can be taken.
fn behaviours() -> Vec<(MethodToken, &'static str, i64)> {
    let on = |method: Method, op| MethodToken(method.token_on(op).expect("it can behave so"));
    vec![
        (MethodToken(Method::Ok.token()), "pending", TOTAL),
        (on(Method::Declined, Op::Confirm), "failed", 0),
        (on(Method::TimeoutAfter, Op::Confirm), "pending", TOTAL),
        (on(Method::TimeoutAfter, Op::Capture), "pending", TOTAL),
        (on(Method::ActsLate, Op::Capture), "pending", TOTAL),
        (on(Method::Declined, Op::Capture), "pending", 0),
        (on(Method::TimeoutAfter, Op::Cancel), "pending", TOTAL),
        (on(Method::Slow, Op::Cancel), "pending", TOTAL),
        (on(Method::TimeoutAfter, Op::Refund), "pending", TOTAL),
    ]
}

/// A worker with a runtime of its own, as a process has: nothing of it outlives its death.
struct Worker(Runtime);

impl Worker {
    fn new(house: &House, number: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a machine that runs tests has threads");
        let (options, shop) = (house.db.options(), Arc::clone(&house.shop));
        let config = WorkerConfig {
            name: format!("worker {number}"),
            lease: Duration::from_secs(1),
            poll: Duration::from_millis(100),
            ..WorkerConfig::default()
        };
        runtime.spawn(async move {
            let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(options);
            stepwise_engine::work(sagas::engine(&shop, pool), config, std::future::pending()).await
        });
        Self(runtime)
    }

    fn die(self) {
        self.0.shutdown_background();
    }
}

/// Gives a command; answers the operation, if it has one, or the code of the refusal.
async fn give(house: &House, order: Uuid, command: Command) -> Result<Option<Uuid>, &'static str> {
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, ADMIN);
    let ship = ShipOrder {
        order_id: order,
        tracking_number: "1Z-999".to_owned(),
        carrier: "UPS".to_owned(),
    };
    let cancel =
        CancelOrder { order_id: order, reason: "changed my mind".to_owned(), customer_id: None };
    let given = match command {
        Command::Confirm => confirm_order(&mut ctx, order).await.map(|()| None).map_err(code),
        Command::Deliver => deliver_order(&mut ctx, order).await.map(|()| None).map_err(code),
        Command::Ship => ship_order(&mut ctx, &ship).await.map(Some).map_err(code),
        Command::Cancel => cancel_order(&mut ctx, &cancel).await.map(Some).map_err(code),
        Command::Refund(cents) => {
            let amount = Money::from_minor(cents, Currency::USD).expect("money");
            let refund = RefundPayment { order_id: order, amount };
            refund_payment(&mut ctx, &refund).await.map(Some).map_err(code)
        }
    };
    match &given {
        Ok(_) => tx.commit().await.expect("commit"),
        Err(_) => tx.rollback().await.expect("rollback"),
    }
    given
}

fn code(refusal: impl Refusal) -> &'static str {
    refusal.refused().expect("it is no surprise").code
}

/// Places an order and gives it all commands, one after the other. Answers its product and how it must have ended.
async fn live(
    house: &House,
    method: usize,
    commands: &[Command],
) -> (Uuid, Uuid, (&'static str, i64)) {
    let (product, buyer) = (house.product(10).await, house.buyer().await);
    let (token, status, taken) = behaviours().swap_remove(method);
    let mut now = (status, 0);
    let (order, placement) = house.place(buyer, product, QUANTITY, token).await;
    house.end(placement).await;
    for (nth, &command) in commands.iter().enumerate() {
        let context = || format!("method {method}, {nth} of {commands:?}");
        assert_eq!(house.status(order).await, now.0, "before {}", context());
        let expected = model(now, command, taken);
        let given = give(house, order, command).await;
        assert_eq!(given.map(|_| ()), expected.map(|_| ()), "{}, {now:?}", context());
        if let Ok(Some(operation)) = given {
            house.end(operation).await;
        }
        now = expected.unwrap_or(now);
    }
    (product, order, now)
}

fn drawn(random: &mut StdRng) -> Vec<Command> {
    use Command::{Cancel, Confirm, Deliver, Refund, Ship};
    const LIKELY: [Command; 11] = [
        Confirm,
        Confirm,
        Confirm,
        Ship,
        Ship,
        Ship,
        Deliver,
        Cancel,
        Refund(1),
        Refund(1_500),
        Refund(TOTAL),
    ];
    (0..random.random_range(5..11)).map(|_| LIKELY[random.random_range(0..LIKELY.len())]).collect()
}

/// Twenty-seven orders at once, three for each way of the gateway to behave, while workers are killed and the gateway goes down and comes up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_commands_ends_as_the_model_says_whatever_dies() {
    let mut house = House::open(PATIENCE).await;
    house.dismiss_worker().await;
    let house = house;
    let mut random = Seed::new().rng();
    let plan: Vec<_> = (0..27).map(|nth| (nth % behaviours().len(), drawn(&mut random))).collect();
    let lives = join_all(plan.iter().map(|(method, commands)| live(&house, *method, commands)));
    let trouble = async {
        let mut worker = Worker::new(&house, 0);
        for number in 1..=8 {
            tokio::time::sleep(Duration::from_millis(random.random_range(200..1_800))).await;
            match number % 3 {
                0 => house.switch("down").await,
                1 => house.switch("up").await,
                _ => {}
            }
            std::mem::replace(&mut worker, Worker::new(&house, number)).die();
        }
        house.switch("up").await;
        worker
    };
    let (ended, worker) = tokio::join!(lives, trouble);
    for (product, order, (status, left)) in ended {
        assert_eq!(house.status(order).await, status);
        let reserved = matches!(status, "pending" | "confirmed");
        assert_eq!(house.live(order), usize::from(reserved || left > 0), "{status}, {left} left");
        let gone = if matches!(status, "shipped" | "delivered") { QUANTITY } else { 0 };
        let stock = (10 - gone, if reserved { QUANTITY } else { 0 });
        assert_eq!(house.stock(product).await, stock, "{status}");
    }
    money::agrees(house.pool(), &house.ledger()).await.expect("the books of money agree");
    worker.die();
    house.close().await;
}
