//! After an erasure no file of the installation holds anything of the person: the proof by searching.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use sqlx::PgPool;
use stepwise_adapters::{
    gateway::webhook::{SIGNATURE_HEADER, sign},
    keystore::FileKeyStore,
    postgres::program,
};
use stepwise_engine::testing::Clock;
use stepwise_tests::rabbit::{Node, Partner};
use stepwise_workflows::privacy::KeyStore as _;
use tokio::process::Command;
use uuid::Uuid;

use crate::site::{Site, Up, eventually};

/// How many customers there are. Every second one is erased.
const PEOPLE: usize = 6;

const PASSWORD: &str = "a lantern hums over wet slate";

/// Somebody whose every personal field has a text of its own.
struct Person {
    /// The texts: email address, names, street, city, reason of a cancellation.
    canaries: Vec<String>,
    id: String,
    token: String,
    /// The delivered order.
    order: Option<String>,
}

/// A text that occurs nowhere else: letters only.
fn canary(field: &str) -> String {
    let letters = Uuid::now_v7().simple().to_string();
    let letter = |nibble: char| nibble.to_digit(16).and_then(|n| char::from_digit(n + 10, 36));
    format!("{field}{}", letters.chars().filter_map(letter).skip(4).collect::<String>())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

/// Whether a mail to this address lies in the folder.
fn mail_to(folder: &Path, address: &str) -> Option<String> {
    let files = fs::read_dir(folder).expect("the folder is there");
    let mut texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    texts.find(|mail| mail.starts_with(&format!("To: {address}\r\n")))
}

/// A customer with an address, a payment method, a cancelled and a delivered order, and something in the cart.
async fn somebody(site: &Site, up: &Up) -> Person {
    let email = format!("{}@example.net", canary("mail"));
    let names =
        [canary("first"), canary("last"), canary("street"), canary("city"), canary("reason")];
    let [first, last, street, city, reason] = names.clone();
    let body = json!({"email": email, "password": PASSWORD, "firstName": first, "lastName": last});
    let (status, customer) = up.post("", "/v1/customers", &body).await;
    assert_eq!(status, 201, "{customer}");
    let folder = site.data.join("mail");
    eventually("the mail", async || mail_to(&folder, &email).is_some()).await;
    let mail = mail_to(&folder, &email).expect("it is there");
    let secret = mail.split_once("token: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let (status, verified) =
        up.post("", "/v1/customers/verify-email", &json!({ "verificationToken": secret })).await;
    assert_eq!(status, 200, "{verified}");
    let (_, session) =
        up.post("", "/v1/sessions", &json!({"email": email, "password": PASSWORD})).await;
    let (id, token) = (text(&session["customerId"]), text(&session["token"]));
    let canaries = names.into_iter().chain([email]).collect();
    let mut person = Person { canaries, id, token, order: None };
    let home = json!({
        "recipientName": format!("{first} {last}"), "street": street, "city": city, "state": "CA",
        "postalCode": "94103", "country": "US",
    });
    let of = |what: &str| format!("/v1/customers/{}/{what}", person.id);
    let (status, home) = up.post(&person.token, &of("addresses"), &home).await;
    assert_eq!(status, 201, "{home}");
    let card = json!({"token": "pm_sandbox_ok", "brand": "visa", "last4": "4242"});
    let (status, method) = up.post(&person.token, &of("payment-methods"), &card).await;
    assert_eq!(status, 201, "{method}");
    let (address, method) = (first_id(&home, "addressId"), first_id(&method, "paymentMethodId"));
    for ends in ["cancelled", "delivered"] {
        put_into_cart(up, &person).await;
        let order = json!({
            "customerId": person.id, "shippingAddressId": address, "paymentMethodId": method,
        });
        let (status, begun) = up.post(&person.token, "/v1/orders", &order).await;
        assert_eq!(status, 202, "{begun}");
        up.succeeded(&person.token, &text(&begun["id"])).await;
        let order = text(&begun["subject"]);
        end(up, &person, &order, ends, &reason).await;
        person.order = Some(order);
    }
    put_into_cart(up, &person).await;
    person
}

/// Logs in again, and answers the token.
async fn logged_in(up: &Up, person: &Person) -> String {
    let email = person.canaries.last().expect("the last is the address");
    let (_, session) =
        up.post("", "/v1/sessions", &json!({"email": email, "password": PASSWORD})).await;
    text(&session["token"])
}

/// Makes the folder of mails a file that takes no mail, or a folder again.
fn mail_works(site: &Site, works: bool) {
    let (mail, away) = (site.data.join("mail"), site.data.join("mail.away"));
    if works && away.exists() {
        fs::remove_file(&mail).expect("ours");
        fs::rename(&away, &mail).expect("ours");
    } else if !works {
        fs::rename(&mail, &away).expect("ours");
        fs::write(&mail, "not a folder").expect("ours");
    }
}

/// A customer whose verification mail cannot be sent: its saga tries it again and again. Mail works again when somebody is erased.
async fn without_mail(site: &Site, up: &Up) -> Person {
    mail_works(site, false);
    let email = format!("{}@example.net", canary("mail"));
    let [first, last] = [canary("first"), canary("last")];
    let body = json!({"email": email, "password": PASSWORD, "firstName": first, "lastName": last});
    let (status, customer) = up.post("", "/v1/customers", &body).await;
    assert_eq!(status, 201, "{customer}");
    let (_, session) =
        up.post("", "/v1/sessions", &json!({"email": email, "password": PASSWORD})).await;
    let (id, token) = (text(&session["customerId"]), text(&session["token"]));
    Person { canaries: vec![email, first, last], id, token, order: None }
}

/// The id under the name of the resource, or under `id`.
fn first_id(answer: &Value, name: &str) -> String {
    text(answer.get(name).unwrap_or(&answer["id"]))
}

async fn put_into_cart(up: &Up, person: &Person) {
    let item = json!({ "productId": up.demo["productIds"][0], "quantity": 1 });
    let path = format!("/v1/customers/{}/cart/items", person.id);
    let (status, cart) = up.post(&person.token, &path, &item).await;
    assert!(status < 300, "{cart}");
}

/// Cancels the order for this reason, or delivers it.
async fn end(up: &Up, person: &Person, order: &str, ends: &str, reason: &str) {
    let path = format!("/v1/orders/{order}");
    if ends == "cancelled" {
        let body = json!({ "reason": reason });
        let (status, begun) = up.post(&person.token, &format!("{path}/cancel"), &body).await;
        assert!(status < 300, "{begun}");
        up.succeeded(&person.token, &text(&begun["id"])).await;
        return;
    }
    let admin = up.token("admin");
    let (status, confirmed) = up.post(&admin, &format!("{path}/confirm"), &Value::Null).await;
    assert_eq!(status, 200, "{confirmed}");
    let parcel = json!({ "trackingNumber": "1Z999", "carrier": "UPS" });
    let (status, begun) = up.post(&admin, &format!("{path}/ship"), &parcel).await;
    assert!(status < 300, "{begun}");
    up.succeeded(&admin, &text(&begun["id"])).await;
    let (status, delivered) = up.post(&admin, &format!("{path}/deliver"), &Value::Null).await;
    assert_eq!(status, 200, "{delivered}");
}

/// What waits for an operator: an event of the gateway that fits no payment, a message that the broker does not take, and the saga of a mail that is stuck.
async fn await_an_operator(site: &Site, up: &Up, db: &PgPool, person: &Person, stuck: &Person) {
    let [first, last, street, _, reason, email] = &person.canaries[..] else { panic!("six texts") };
    let event = json!({
        "id": "evt_erased", "object": "event", "created": 1_795_000_000, "type": "payment_intent.canceled",
        "data": {"object": {
            "id": "pi_erased", "object": "payment_intent", "amount": 1000, "currency": "usd", "created": 1_795_000_000,
            "status": "canceled", "metadata": {"orderId": person.order, "order_id": person.order}, "receipt_email": email,
            "shipping": {"name": format!("{first} {last}"), "address": {"line1": street}}, "description": reason,
        }},
    })
    .to_string();
    let secrets = fs::read(site.data.join("secrets.json")).expect("it was written");
    let secrets: Value = serde_json::from_slice(&secrets).expect("whole JSON");
    let signature =
        sign(event.as_bytes(), &[text(&secrets["webhookSecret"]).into()], SystemTime::now().into());
    let told = reqwest::Client::new()
        .post(format!("{}/v1/webhooks/gateway", up.base))
        .header(SIGNATURE_HEADER, signature)
        .body(event);
    assert!(told.send().await.expect("it answers").status().is_success());
    for statement in [
        "insert into saga.outbox (shard, subject, sequence, message_id, kind, routing_key, source, data, sealed_for, happened_at)
         select shard, subject, 1000, gen_random_uuid(), kind, repeat('k', 291), source, data, sealed_for, happened_at
         from saga.feed where kind = 'shop.customer.registered.v1' and subject = $1",
        "update saga.instance set status = 'stuck', waiting_on = 'operator', owner = null, wake_at = null, seq = seq + 1
         where name = 'register-customer' and status = 'running' and subject = $1",
    ] {
        let of = if statement.starts_with("insert") { person } else { stuck };
        let done = sqlx::query(statement).bind(&of.id).execute(db).await.expect("written");
        assert_eq!(done.rows_affected(), 1, "{statement}");
    }
    eventually("the message to be refused", async || {
        let tried =
            "select exists (select from saga.outbox where subject = $1 and error is not null)";
        sqlx::query_scalar(tried).bind(&person.id).fetch_one(db).await.expect("readable")
    })
    .await;
    let parked = "select count(*) from shop.parked_gateway_event where ended_at is null and order_id::text = $1";
    let parked: i64 =
        sqlx::query_scalar(parked).bind(&person.order).fetch_one(db).await.expect("readable");
    assert_eq!(parked, 1, "the event waits for an operator");
}

/// The folder that is not searched: the log of the database's writes has plain rows until it is rotated.
const ROTATED: &str = "pg_wal";

/// The files below a folder that contain one of these texts.
fn files_with(folder: &Path, texts: &[String], found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != ROTATED {
                files_with(&path, texts, found);
            }
            continue;
        }
        let content = fs::read(&path).unwrap_or_default();
        for text in texts.iter().filter(|text| contains(&content, text.as_bytes())) {
            found.push((path.display().to_string(), text.clone()));
        }
    }
}

fn contains(content: &[u8], text: &[u8]) -> bool {
    let first = text[0];
    let mut from = 0;
    while let Some(at) = content[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if content[at..].starts_with(text) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// Waits until the erasure waits for messages that are not published.
async fn until_it_waits_for_the_relay(db: &PgPool, operation: &str) {
    eventually("the erasure to wait for the relay", async || {
        let state = "select state::text from saga.instance where saga_id::text = $1";
        let state: String =
            sqlx::query_scalar(state).bind(operation).fetch_one(db).await.expect("it is there");
        state.contains("AwaitingRelay")
    })
    .await;
}

/// Erases each of them. A message about the last is never published, so time passes: then all sessions are over.
async fn erase(site: &Site, up: &Up, db: &PgPool, people: &[&Person]) {
    let last = people.last().map(|person| &person.id);
    for person in people {
        let path = format!("/v1/customers/{}/erasure", person.id);
        let (status, begun) = up.post(&person.token, &path, &json!({ "confirmation": true })).await;
        assert_eq!(status, 202, "{begun}");
        mail_works(site, true);
        let operation = text(&begun["id"]);
        if Some(&person.id) == last {
            until_it_waits_for_the_relay(db, &operation).await;
            Clock::of(db).advance(Duration::from_secs(25 * 3_600)).await;
        }
        up.succeeded(&up.token("operator"), &operation).await;
        eventually("the session to end", async || up.get(&person.token, "/v1/me").await.0 == 401)
            .await;
    }
}

/// The whole database as text.
async fn dump(url: &str) -> String {
    let pg_dump = program("pg_dump").await.expect("it lies beside the server's programs");
    let url = url.split('?').next().unwrap_or(url);
    let dumped = Command::new(pg_dump).args(["-d", url]).output().await.expect("it runs");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}

#[tokio::test]
async fn no_file_holds_anything_of_an_erased_customer_and_the_others_read_everything() {
    let node = Node::start().await;
    let partner = Partner::connect(&node.url).await;
    let site = Site::new();
    let up = site.up(&["--rate-limit", "0", "--amqp-url", &node.url]).await;
    partner.listen().await;
    let url = text(&up.demo["databaseUrl"]);
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(somebody(&site, &up).await);
    }
    let waiting = without_mail(&site, &up).await;
    let db = PgPool::connect(&url).await.expect("connected");
    await_an_operator(&site, &up, &db, &people[0], &waiting).await;
    let mut erased: Vec<&Person> = people.iter().step_by(2).rev().collect();
    erased.insert(0, &waiting);
    let others: Vec<&Person> = people.iter().skip(1).step_by(2).collect();
    let secrets: Vec<String> = erased.iter().flat_map(|who| who.canaries.clone()).collect();
    let mut before = Vec::new();
    files_with(&site.data, &secrets, &mut before);
    assert!(!before.is_empty(), "the search finds what is there");
    erase(&site, &up, &db, &erased).await;

    let dumped = dump(&url).await;
    for secret in &secrets {
        assert!(!dumped.contains(secret.as_str()), "{secret} is in the dump");
    }
    for person in &others {
        let token = logged_in(&up, person).await;
        let (status, export) = up.get(&token, &format!("/v1/customers/{}/export", person.id)).await;
        assert_eq!(status, 200, "{export}");
        let export = export.to_string();
        for canary in &person.canaries {
            assert!(export.contains(canary.as_str()), "{canary} of another customer is gone");
        }
    }
    for verb in ["scrub", "check"] {
        let done = site.command(&["erasure", verb]).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{verb}: {said}{}", String::from_utf8_lossy(&done.stderr));
    }
    sqlx::query("checkpoint").execute(&db).await.expect("a checkpoint");
    db.close().await;
    let told = erased.iter().filter(|who| partner.subjects().contains(&who.id)).count();
    assert_eq!(told, erased.len(), "partners are told of each erasure");
    let keys = FileKeyStore::open(&site.data.join("keys")).expect("it opens");
    for person in &erased {
        let key = keys.get(person.id.parse().expect("an id")).await.expect("it is known");
        assert!(key.is_none(), "no copy of the database can be read any more");
    }
    let log = site.log();
    assert!(up.stop("TERM").await.success());
    let mut left = Vec::new();
    files_with(&site.data, &secrets, &mut left);
    files_with(node.folder(), &secrets, &mut left);
    assert_eq!(left, [], "files hold what is erased");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
}
