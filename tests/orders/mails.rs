//! The mails of an account go out once the mail system takes them: after an outage, and after a crash at any point.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{PgPool, migrate::Migrator};
use stepwise_engine::{Engine, Saga, Start, Status, inspect, testing::Trial};
use stepwise_tests::House;
use stepwise_workflows::{
    Config, Shop,
    customer::{
        password,
        register::{self, VerifyRefusal, prepare, register_customer},
    },
    sagas::{
        Steps,
        account_mail::{AccountMail, request_password_reset, reset_password},
        register_customer::{
            self as proving, RegisterCustomer, VerifyError, resend_verification,
            verify_customer_email,
        },
        verify_email::VerifyEmail,
    },
    shop::{Actor, Cause, Context, reaction::Reactions},
};
use uuid::Uuid;

use crate::{
    crashes::survives,
    trials::{Placements, of_the_shop, started},
    unwinding::{PAST_ITS_PIVOT, unwinds},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Registers somebody; answers the customer.
async fn registers(shop: &Shop, engine: &Engine, email: &str) -> Uuid {
    let command = register::RegisterCustomer {
        email: email.to_owned(),
        password: "a long enough passphrase".to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Byron".to_owned(),
    };
    let prepared = prepare(shop, command).await.expect("acceptable");
    let mut tx = engine.begin().await.expect("begin");
    let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
    let mut ctx = Context::new(shop, engine, &mut tx, cause);
    let registered = register_customer(&mut ctx, prepared).await.expect("registered");
    tx.commit().await.expect("commit");
    registered.customer.customer_id
}

/// The latest saga of this kind about a customer.
async fn latest<S: Saga>(engine: &Engine, customer: Uuid) -> Uuid {
    started::<S>(&mut engine.begin().await.expect("begin"), customer).await
}

/// The tokens of the mails to an address.
fn tokens(folder: &Path, email: &str) -> Vec<String> {
    let files = fs::read_dir(folder).expect("the folder is there");
    let mails = files.map(|file| file.expect("it can be listed").path());
    let mails = mails.filter(|path| path.extension().is_some_and(|end| end == "eml"));
    mails
        .map(|path| fs::read_to_string(path).expect("it can be read"))
        .filter(|mail| mail.starts_with(&format!("To: {email}\r\n")))
        .filter_map(|mail| {
            let (_, rest) = mail.split_once("token: ")?;
            rest.split_whitespace().next().map(str::to_owned)
        })
        .collect()
}

/// Fault: outside: mail cannot be sent when a customer registers (the mail folder cannot be written)
/// Customer: the registration is 201; the mail comes when mail can be sent again, with a token that is valid then
/// Operator: `stepwise saga list` shows `register-customer` waiting on `retry` with the error; a notice `slow` after an hour
/// Within: 1 s
/// Ends: by itself, within the longest retry delay (5 minutes) of the mail system's return
#[tokio::test]
async fn a_mail_that_could_not_be_sent_comes_later_with_a_token_that_is_valid_then() {
    let house = House::open(Duration::from_secs(5)).await;
    let (mail, away) = (house.mail(), house.mail().with_extension("away"));
    fs::rename(&mail, &away).expect("ours");
    fs::write(&mail, "not a folder").expect("ours");
    let customer = registers(&house.shop, &house.engine, "ada@example.com").await;
    let id = latest::<RegisterCustomer>(&house.engine, customer).await;
    let tried = |seen: &inspect::Summary| seen.attempt > 1;
    house.until(id, "tried again", tried).await;
    fs::remove_file(&mail).expect("ours");
    fs::rename(&away, &mail).expect("ours");
    // Of the token's day four hours would be left.
    house.later(20 * HOUR).await;
    house.until(id, "sent", waits_for_the_customer).await;
    let [token] = &tokens(&mail, "ada@example.com")[..] else { panic!("one mail") };
    house.later(19 * HOUR).await;
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Anyone);
    let verified = verify_customer_email(&mut ctx, token).await.expect("valid");
    assert!(verified.email_verified);
    let again = verify_customer_email(&mut ctx, token).await;
    let again = again.expect_err("it works once");
    assert!(matches!(again, VerifyError::Refused(VerifyRefusal::InvalidToken)), "{again:?}");
    tx.commit().await.expect("commit");
    assert_eq!(house.end(id).await.status, Status::Completed);
    assert_eq!(tokens(&mail, "ada@example.com").len(), 1, "nobody is reminded of what is done");
    house.close().await;
}

fn waits_for_the_customer(seen: &inspect::Summary) -> bool {
    seen.pending.pointer("/timer").is_some()
}

#[tokio::test]
async fn a_customer_is_reminded_once_and_asks_again_after_the_token_has_expired() {
    let house = House::open(Duration::from_secs(5)).await;
    let (mail, email) = (house.mail(), "ada@example.com");
    let customer = registers(&house.shop, &house.engine, email).await;
    let first = latest::<RegisterCustomer>(&house.engine, customer).await;
    house.until(first, "sent", |_| tokens(&mail, email).len() == 1).await;
    house.until(first, "sent", waits_for_the_customer).await;
    house.later(20 * HOUR).await;
    house.until(first, "reminded", |_| tokens(&mail, email).len() == 2).await;
    let sent = tokens(&mail, email);
    assert_eq!(sent[0], sent[1], "the reminder has the same token");
    house.until(first, "reminded", waits_for_the_customer).await;
    house.later(5 * HOUR).await;
    assert_eq!(house.end(first).await.status, Status::Completed);
    assert_eq!(tokens(&mail, email).len(), 2);
    let verify = async |token: &str| {
        let mut tx = house.engine.begin().await.expect("begin");
        let verified =
            verify_customer_email(&mut house.context(&mut tx, Actor::Anyone), token).await;
        tx.commit().await.expect("commit");
        verified
    };
    let late = verify(&sent[0]).await.expect_err("it has expired");
    assert!(matches!(late, VerifyError::Refused(VerifyRefusal::TokenExpired)), "{late:?}");

    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Anyone);
    resend_verification(&mut ctx, email).await.expect("counted elsewhere");
    tx.commit().await.expect("commit");
    let second = latest::<RegisterCustomer>(&house.engine, customer).await;
    house.until(second, "sent", |_| tokens(&mail, email).len() == 3).await;
    house.until(second, "sent", waits_for_the_customer).await;
    let fresh = tokens(&mail, email).into_iter().find(|token| *token != sent[0]);
    let fresh = fresh.expect("a new token");
    let old = verify(&sent[0]).await.expect_err("the new token has voided it");
    assert!(matches!(old, VerifyError::Refused(VerifyRefusal::InvalidToken)), "{old:?}");
    assert!(verify(&fresh).await.expect("valid").email_verified);
    assert_eq!(house.end(second).await.status, Status::Completed);

    // Now there is nothing to be verified, nor is there for an address that has no account.
    let before = tokens(&mail, email).len();
    for address in [email, "nobody@example.com"] {
        let mut tx = house.engine.begin().await.expect("begin");
        let mut ctx = house.context(&mut tx, Actor::Anyone);
        resend_verification(&mut ctx, address).await.expect("counted elsewhere");
        tx.commit().await.expect("commit");
    }
    let third = latest::<RegisterCustomer>(&house.engine, customer).await;
    assert_eq!(house.end(third).await.status, Status::Completed);
    let count = "select count(*) from saga.instance where name = $1 and status <> 'completed'";
    let open = async || -> i64 {
        let open = sqlx::query_scalar(count).bind(RegisterCustomer::NAME);
        open.fetch_one(house.pool()).await.expect("readable")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while open().await > 0 {
        assert!(Instant::now() < deadline, "a saga without an account goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(tokens(&mail, email).len(), before);
    assert!(tokens(&mail, "nobody@example.com").is_empty());
    house.close().await;
}

fn address(run: usize) -> String {
    let name: String =
        run.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
    format!("{name}@example.org")
}

/// The address of the customer whom an instance is about.
async fn address_of(engine: &Engine, id: Uuid) -> Result<String, String> {
    let customer = inspect::summary(engine.pool(), id).await.map_err(|e| e.to_string())?;
    let customer = customer.ok_or("the saga is gone")?.subject;
    sqlx::query_scalar("select email from shop.customer where customer_id = $1::uuid")
        .bind(customer)
        .fetch_one(engine.pool())
        .await
        .map_err(|e| e.to_string())
}

/// Nothing follows from an event: the trial starts its saga itself.
const NOTHING: Reactions = |_| Vec::new();

/// Registrations of one customer after the other, as an earlier release has left them.
struct EarlierRegistrations(Placements);

impl Trial for EarlierRegistrations {
    of_the_shop!(VerifyEmail);

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let shop = self.0.shop_with(Config::default(), NOTHING);
        let customer = registers(&shop, engine, &address(run)).await;
        let mut tx = engine.begin().await.expect("begin");
        let start = Start::new(customer.to_string(), customer);
        let started = engine.start::<VerifyEmail>(&mut tx, start).await.expect("it starts");
        tx.commit().await.expect("commit");
        started.id
    }

    /// Each customer has one mail, whose token proves the address.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let tokens = tokens(&self.0.mail(), &address_of(engine, id).await?);
        let [token] = &tokens[..] else { return Err(format!("{} mails", tokens.len())) };
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.map_err(|e| e.to_string())?);
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        register::verify_customer_email(&mut ctx, token).await.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())
    }
}

#[test]
pub(crate) fn a_verification_mail_has_no_way_back_and_may_be_repeated() {
    unwinds(&EarlierRegistrations(Placements::paid_by("ok")), &PAST_ITS_PIVOT, &["Send repeated"]);
}

#[test]
pub(crate) fn a_verification_mail_survives_a_crash_at_every_point() {
    survives(&EarlierRegistrations(Placements::paid_by("ok")), Status::Completed, 4);
}

/// Customers who have asked for another mail, and verify their address after the reminder, which comes soon.
struct Registrations(Placements);

impl Registrations {
    fn hasty() -> Config {
        Config { verification_reminder: Duration::from_millis(300), ..Config::default() }
    }
}

impl Trial for Registrations {
    type Saga = RegisterCustomer;
    type Services = Steps;

    fn migrations(&self) -> Vec<Migrator> {
        self.0.migrations()
    }

    fn services(&self, pool: PgPool) -> Steps {
        Steps::new(self.0.shop_with(Self::hasty(), NOTHING), pool)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let shop = self.0.shop_with(Self::hasty(), NOTHING);
        let email = address(run);
        let customer = registers(&shop, engine, &email).await;
        let mut tx = engine.begin().await.expect("begin");
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        resend_verification(&mut ctx, &email).await.expect("it starts");
        tx.commit().await.expect("commit");
        latest::<RegisterCustomer>(engine, customer).await
    }

    async fn play(&self, engine: &Engine, id: Uuid) {
        let begun = Instant::now();
        let look = "select state -> 'AwaitingVerification' is not null, status <> 'running'
            from saga.instance where saga_id = $1";
        loop {
            let seen: (bool, bool) =
                sqlx::query_as(look).bind(id).fetch_one(engine.pool()).await.expect("readable");
            match seen {
                (_, true) => return,
                (true, false) => break,
                _ => assert!(begun.elapsed() < Duration::from_secs(20), "{id} reminds nobody"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut tx = engine.begin().await.expect("begin");
        let verified = proving::Signal::Verified;
        let told = engine.signal::<RegisterCustomer>(&mut tx, id, "verified", verified).await;
        told.expect("it is there");
        tx.commit().await.expect("commit");
    }

    /// Each customer has a mail and a reminder, both with the token that is in force.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let tokens = tokens(&self.0.mail(), &address_of(engine, id).await?);
        let [token, reminded] = &tokens[..] else { return Err(format!("{} mails", tokens.len())) };
        if token != reminded {
            return Err("the reminder has another token".to_owned());
        }
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.map_err(|e| e.to_string())?);
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        register::verify_customer_email(&mut ctx, token).await.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())
    }
}

#[test]
pub(crate) fn proving_an_address_has_no_way_back_and_may_be_repeated() {
    unwinds(
        &Registrations(Placements::paid_by("ok")),
        &PAST_ITS_PIVOT,
        &["Issue repeated", "Send repeated", "Remind repeated"],
    );
}

#[test]
pub(crate) fn proving_an_address_survives_a_crash_at_every_point() {
    survives(&Registrations(Placements::paid_by("ok")), Status::Completed, 8);
}

/// Customers who have forgotten their passwords.
struct Forgotten(Placements);

impl Trial for Forgotten {
    of_the_shop!(AccountMail);

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let shop = self.0.shop_with(Config::default(), NOTHING);
        let email = address(run);
        let customer = registers(&shop, engine, &email).await;
        let mut tx = engine.begin().await.expect("begin");
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        request_password_reset(&mut ctx, &email).await.expect("it starts");
        tx.commit().await.expect("commit");
        latest::<AccountMail>(engine, customer).await
    }

    /// Each customer has one mail, whose token resets the password once.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let tokens = tokens(&self.0.mail(), &address_of(engine, id).await?);
        let [token] = &tokens[..] else { return Err(format!("{} mails", tokens.len())) };
        let (shop, new) = (self.0.shop(), "a heron stands in cold rain");
        let prepared = password::prepare_reset(&shop, engine.pool(), token, new).await;
        let prepared = prepared.map_err(|e| e.to_string())?;
        let mut tx = engine.begin().await.map_err(|e| e.to_string())?;
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        reset_password(&mut ctx, prepared.clone()).await.map_err(|e| e.to_string())?;
        match reset_password(&mut ctx, prepared).await {
            Ok(()) => Err("the token works twice".to_owned()),
            Err(_) => Ok(()),
        }
    }
}

#[test]
pub(crate) fn a_reset_mail_has_no_way_back_and_may_be_repeated() {
    unwinds(
        &Forgotten(Placements::paid_by("ok")),
        &PAST_ITS_PIVOT,
        &["Issue repeated", "Send repeated"],
    );
}

#[test]
pub(crate) fn a_reset_mail_survives_a_crash_at_every_point() {
    survives(&Forgotten(Placements::paid_by("ok")), Status::Completed, 4);
}
