//! The verification mail goes out once the mail system takes it: after an outage, and after a crash at any point.

use std::{fs, path::Path, time::Duration};

use sqlx::{PgPool, migrate::Migrator};
use stepwise_engine::{
    Engine, Saga as _, Status, inspect,
    testing::{Trial, survives_every_crash, unwinds_from_every_step},
};
use stepwise_tests::House;
use stepwise_workflows::{
    Shop,
    customer::register::{
        RegisterCustomer, VerifyRefusal, prepare, register_customer, verify_customer_email,
    },
    sagas::verify_email::{self, VerifyEmail},
    shop::{Actor, Cause, Context},
};
use uuid::Uuid;

use crate::trials::Placements;

const HOUR: Duration = Duration::from_secs(3_600);

/// Registers somebody; answers the saga that sends the mail.
async fn registers(shop: &Shop, engine: &Engine, email: &str) -> Uuid {
    let command = RegisterCustomer {
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
    let subject = registered.customer.customer_id.to_string();
    let mail = inspect::latest_about(&mut tx, VerifyEmail::NAME, &subject).await.expect("readable");
    tx.commit().await.expect("commit");
    mail.expect("it sends the mail").saga_id
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
/// Operator: `stepwise saga list` shows `verify-email` waiting on `retry` with the error; `stuck` with a notice after a week
/// Within: 1 s
/// Ends: by itself, within the longest retry delay (5 minutes) of the mail system's return
#[tokio::test]
async fn a_mail_that_could_not_be_sent_comes_later_with_a_token_that_is_valid_then() {
    let house = House::open(Duration::from_secs(5)).await;
    let (mail, away) = (house.mail(), house.mail().with_extension("away"));
    fs::rename(&mail, &away).expect("ours");
    fs::write(&mail, "not a folder").expect("ours");
    let id = registers(&house.shop, &house.engine, "ada@example.com").await;
    let tried = |seen: &inspect::Summary| seen.attempt > 1;
    house.until(id, "tried again", tried).await;
    fs::remove_file(&mail).expect("ours");
    fs::rename(&away, &mail).expect("ours");
    // Of the token's day four hours would be left.
    house.later(20 * HOUR).await;
    assert_eq!(house.end(id).await.status, Status::Completed);
    let [token] = &tokens(&mail, "ada@example.com")[..] else { panic!("one mail") };
    house.later(20 * HOUR).await;
    let mut tx = house.engine.begin().await.expect("begin");
    let mut ctx = house.context(&mut tx, Actor::Anyone);
    let verified = verify_customer_email(&mut ctx, token).await.expect("valid");
    assert!(verified.email_verified);
    let again = verify_customer_email(&mut ctx, token).await;
    assert!(matches!(again, Err(VerifyRefusal::InvalidToken)), "it works once: {again:?}");
    drop(tx);
    house.close().await;
}

/// Registrations of one customer after the other.
struct Registrations(Placements);

fn address(run: usize) -> String {
    let name: String =
        run.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
    format!("{name}@example.org")
}

impl Trial for Registrations {
    type Saga = VerifyEmail;
    type Services = verify_email::steps::Steps;

    fn migrations(&self) -> Vec<Migrator> {
        self.0.migrations()
    }

    fn services(&self, pool: PgPool) -> verify_email::steps::Steps {
        verify_email::steps::Steps::new(self.0.shop(), pool)
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        registers(&self.0.shop(), engine, &address(run)).await
    }

    /// Each customer has one mail, whose token proves the address.
    async fn balances(&self, engine: &Engine, id: Uuid, _: Status) -> Result<(), String> {
        let customer = inspect::summary(engine.pool(), id).await.map_err(|e| e.to_string())?;
        let customer = customer.ok_or("the saga is gone")?.subject;
        let email: String =
            sqlx::query_scalar("select email from shop.customer where customer_id = $1::uuid")
                .bind(customer)
                .fetch_one(engine.pool())
                .await
                .map_err(|e| e.to_string())?;
        let tokens = tokens(&self.0.mail(), &email);
        let [token] = &tokens[..] else { return Err(format!("{} mails", tokens.len())) };
        let (shop, mut tx) = (self.0.shop(), engine.begin().await.map_err(|e| e.to_string())?);
        let cause = Cause::of_request(Actor::Anyone, Uuid::now_v7(), None);
        let mut ctx = Context::new(&shop, engine, &mut tx, cause);
        verify_customer_email(&mut ctx, token).await.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())
    }
}

#[test]
pub(crate) fn a_verification_mail_has_no_way_back_and_may_be_repeated() {
    let unwound = unwinds_from_every_step(&Registrations(Placements::paid_by("ok")));
    assert_eq!(unwound.points, Vec::<String>::new(), "it is past its pivot when it starts");
    assert_eq!(unwound.repeated, ["Send repeated"]);
}

#[test]
pub(crate) fn a_verification_mail_survives_a_crash_at_every_point() {
    let survived = survives_every_crash(&Registrations(Placements::paid_by("ok")));
    assert_eq!(survived.ends, [Status::Completed]);
    let points: usize = survived.at.values().sum();
    assert!(points >= 4, "only {points} crash points: {survived:?}");
}
