use std::sync::Arc;

use super::{
    address::{
        AddShippingAddress, AddressRefusal, add_shipping_address, list_addresses, remove_address,
    },
    method::{
        AddPaymentMethod, PaymentMethodRefusal, add_payment_method, list_payment_methods, remove,
    },
    password::{ChangePasswordRefusal, ResetRefusal},
    register::{
        self, RegisterCustomer, RegisterRefusal, Registered, VerifyRefusal, verify_customer_email,
    },
    session::{self, LogInRefusal, LoggedIn},
    verification::Occasion,
    *,
};
use crate::{
    payment::gateway::MethodToken,
    shop::password::InvalidPassword,
    testing::{ctx, database, pass, shop, story},
};

const PASSWORD: &str = "violet tram over nine bridges";
const HOUR: f64 = 3600.0;

fn ada() -> RegisterCustomer {
    RegisterCustomer {
        email: "Ada@Example.org".to_owned(),
        password: PASSWORD.to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
    }
}

async fn register_customer(
    shop: &crate::shop::Shop,
    tx: &mut PgConnection,
    command: RegisterCustomer,
) -> Result<Registered, RegisterRefusal> {
    let prepared = register::prepare(shop, command).await?;
    register::register_customer(&mut ctx(shop, tx), prepared).await
}

async fn log_in(
    shop: &crate::shop::Shop,
    tx: &mut PgConnection,
    address: &str,
    password: &str,
) -> Result<LoggedIn, LogInRefusal> {
    let account = session::look_up(&mut *tx, address, None).await?;
    let proven = account.check(shop, password).await?;
    session::open(shop, tx, proven, &session::Device::default()).await
}

#[tokio::test]
async fn a_customer_registers_unverified_and_only_once_for_an_address() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let new = register_customer(&shop, &mut db, ada()).await.expect("registered");
    assert_eq!(new.customer.email, "ada@example.org");
    assert!(!new.customer.email_verified);
    let id = new.customer.customer_id;
    assert!(shop.keys.get(id).await.expect("readable").is_some());
    assert_eq!(get_customer(&mut db, id).await.expect("read"), Some(new.customer));
    let other_case = RegisterCustomer { email: "ADA@EXAMPLE.ORG".to_owned(), ..ada() };
    let refused = register_customer(&shop, &mut db, other_case).await;
    assert!(matches!(refused, Err(RegisterRefusal::EmailAlreadyRegistered)));
    let bad = RegisterCustomer { email: "ada".to_owned(), ..ada() };
    let refused = register_customer(&shop, &mut db, bad).await;
    assert!(matches!(refused, Err(RegisterRefusal::InvalidEmail(_))));
    let bad = RegisterCustomer { password: "passwordpassword".to_owned(), ..ada() };
    let refused = register_customer(&shop, &mut db, bad).await;
    assert!(matches!(refused, Err(RegisterRefusal::InvalidPassword(InvalidPassword::Guessable))));
    let bad = RegisterCustomer { first_name: " ".to_owned(), ..ada() };
    let refused = register_customer(&shop, &mut db, bad).await;
    assert!(matches!(refused, Err(RegisterRefusal::InvalidName(bad)) if bad.field == "firstName"));
    assert_eq!(story(&mut db, id).await, ["CustomerRegistered"]);
    let told = crate::events::of_aggregate(&mut db, id).await.expect("read");
    let payload = told[0].payload.to_string().to_lowercase();
    // Not "ada" alone: three letters stand in an id or a ciphertext by chance.
    for personal in ["\"ada\"", "ada@", "example.org", "lovelace"] {
        assert!(!payload.contains(personal), "{payload}");
    }
    let stored: String = sqlx::query_scalar("select password_hash from shop.customer")
        .fetch_one(&mut *db)
        .await
        .expect("read");
    assert!(stored.starts_with("$argon2id$"));
    drop(db);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registrations_of_one_address_at_once_make_one_account() {
    let (database, shop) = (database().await, Arc::new(shop()));
    let running: Vec<_> = (0..4)
        .map(|_| {
            let (shop, pool) = (shop.clone(), database.pool().clone());
            tokio::spawn(async move {
                let mut tx = pool.begin().await?;
                register_customer(&shop, &mut tx, ada()).await?;
                Ok::<_, RegisterRefusal>(tx.commit().await?)
            })
        })
        .collect();
    let mut registered = 0;
    for one in running {
        match one.await.expect("no panic") {
            Ok(()) => registered += 1,
            Err(RegisterRefusal::EmailAlreadyRegistered) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(registered, 1);
    database.close().await;
}

#[tokio::test]
async fn the_token_from_the_mail_verifies_the_address_once_within_a_day() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let id = id.customer_id;
    let letter = verification::letter(&shop, &mut *db, (id, id), Occasion::Asked).await;
    let mail = letter.expect("read").expect("unproved").mail;
    assert_eq!(mail.to, "ada@example.org");
    let token = mail
        .text
        .lines()
        .find_map(|line| line.strip_prefix("Your verification token: "))
        .expect("the mail has it")
        .to_owned();
    let mut off = token.clone().into_bytes();
    off[0] ^= 1;
    let off = String::from_utf8_lossy(&off).into_owned();
    let refused = verify_customer_email(&mut ctx(&shop, &mut db), &off).await;
    assert!(matches!(refused, Err(VerifyRefusal::InvalidToken)), "{refused:?}");
    pass(&mut db, 23.9 * HOUR).await;
    let verified = verify_customer_email(&mut ctx(&shop, &mut db), &token).await.expect("verified");
    assert!(verified.email_verified);
    let letter = verification::letter(&shop, &mut *db, (id, id), Occasion::Reminder).await;
    assert!(letter.expect("read").is_none(), "proved");
    let refused = verify_customer_email(&mut ctx(&shop, &mut db), &token).await;
    assert!(matches!(refused, Err(VerifyRefusal::InvalidToken)), "it works once");
    let events = story(&mut db, verified.customer_id).await;
    assert_eq!(events, ["CustomerRegistered", "CustomerEmailVerified"]);

    let grace = RegisterCustomer { email: "grace@example.org".to_owned(), ..ada() };
    let late = register_customer(&shop, &mut db, grace).await.expect("registered");
    pass(&mut db, 24.0 * HOUR).await;
    let refused =
        verify_customer_email(&mut ctx(&shop, &mut db), late.verification_token.expose()).await;
    assert!(matches!(refused, Err(VerifyRefusal::TokenExpired)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_session_opens_with_the_password_only_and_ends_once() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    register_customer(&shop, &mut db, ada()).await.expect("registered");
    for (address, password) in
        [("ada@example.org", "wrong password"), ("nobody@example.org", PASSWORD), ("x", "")]
    {
        let refused = log_in(&shop, &mut db, address, password).await;
        assert!(matches!(refused, Err(LogInRefusal::InvalidCredentials)), "{refused:?}");
    }
    let open = log_in(&shop, &mut db, " ADA@example.org", PASSWORD).await.expect("let in");
    assert!(session::end(&mut db, &open.token.hash()).await.expect("ended"));
    assert!(!session::end(&mut db, &open.token.hash()).await.expect("asked"));

    sqlx::query("update shop.customer set frozen_at = saga.now()")
        .execute(&mut *db)
        .await
        .expect("frozen");
    let refused = log_in(&shop, &mut db, "ada@example.org", PASSWORD).await;
    assert!(matches!(refused, Err(LogInRefusal::InvalidCredentials)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_log_in_with_the_old_password_opens_no_session_once_it_is_changed() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let id = id.customer_id;
    let own = log_in(&shop, &mut db, "ada@example.org", PASSWORD).await.expect("let in");
    // The old password is compared before the change, the session is opened after it.
    let account = session::look_up(&mut *db, "ada@example.org", None).await.expect("read");
    let proven = account.check(&shop, PASSWORD).await.expect("right");
    let both = (PASSWORD, "seven herons stand in cold rain");
    let prepared = password::prepare_change(&shop, &mut *db, id, both).await.expect("right");
    let changed = password::change(&mut db, prepared.clone(), &own.token.hash()).await;
    assert_eq!(changed.expect("changed"), id);
    let refused = session::open(&shop, &mut db, proven, &session::Device::default()).await;
    assert!(matches!(refused, Err(LogInRefusal::InvalidCredentials)), "{refused:?}");
    // Another change that was prepared with the old password comes too late.
    let refused = password::change(&mut db, prepared, &own.token.hash()).await;
    assert!(matches!(refused, Err(ChangePasswordRefusal::WrongPassword)), "{refused:?}");
    let sessions: i64 = sqlx::query_scalar("select count(*) from shop.session")
        .fetch_one(&mut *db)
        .await
        .expect("read");
    assert_eq!(sessions, 1, "the session of the change goes on");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_new_password_voids_a_token_that_would_reset_it() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let (id, token_id, new) = (id.customer_id, Uuid::now_v7(), "seven herons stand in cold rain");
    assert!(password::issue_reset(&shop, &mut db, id, token_id).await.expect("issued"));
    let nobody = password::issue_reset(&shop, &mut db, Uuid::now_v7(), token_id).await;
    assert!(!nobody.expect("asked"), "there is no such customer");
    let key = shop.keys.get(id).await.expect("it answers").expect("a customer has a key");
    let token = password::reset_token(&key, token_id);
    let stored: Vec<u8> = sqlx::query_scalar("select token_hash from shop.password_reset")
        .fetch_one(&mut *db)
        .await
        .expect("read");
    assert_eq!(stored, token.hash());
    let reset = password::prepare_reset(&shop, &mut *db, token.expose(), new).await;
    let reset = reset.expect("valid");
    let change = password::prepare_change(&shop, &mut *db, id, (PASSWORD, new)).await;
    password::change(&mut db, change.expect("right"), &[]).await.expect("changed");
    let refused = password::reset(&mut db, reset).await;
    assert!(matches!(refused, Err(ResetRefusal::InvalidToken)), "{refused:?}");
    drop(db);
    database.close().await;
}

fn address(customer_id: Uuid) -> AddShippingAddress {
    AddShippingAddress {
        customer_id,
        street: "1 Market Street".to_owned(),
        city: "San Francisco".to_owned(),
        state: "ca".to_owned(),
        postal_code: "94103".to_owned(),
        country: "us".to_owned(),
        recipient_name: "Ada Lovelace".to_owned(),
    }
}

#[tokio::test]
async fn addresses_are_domestic_and_belong_to_their_customer() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let id = id.customer_id;
    let saved = add_shipping_address(&mut ctx(&shop, &mut db), &address(id)).await.expect("saved");
    assert_eq!((saved.state.as_str(), saved.country.as_str()), ("CA", "US"));
    assert_eq!(
        list_addresses(&mut db, id, None, 100).await.expect("read"),
        std::slice::from_ref(&saved)
    );
    let long = AddShippingAddress { postal_code: "94103-1234".to_owned(), ..address(id) };
    add_shipping_address(&mut ctx(&shop, &mut db), &long).await.expect("saved");

    for postal_code in ["9410", "94103-12", "ABCDE", "94103 1234", "٩٤١٠٣"] {
        let bad = AddShippingAddress { postal_code: postal_code.to_owned(), ..address(id) };
        let refused = add_shipping_address(&mut ctx(&shop, &mut db), &bad).await;
        assert!(matches!(refused, Err(AddressRefusal::InvalidPostalCode)), "{refused:?}");
    }
    let bad = AddShippingAddress { country: "DE".to_owned(), ..address(id) };
    let refused = add_shipping_address(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(AddressRefusal::CountryNotSupported(_))), "{refused:?}");
    let bad = AddShippingAddress { state: "ZZ".to_owned(), ..address(id) };
    let refused = add_shipping_address(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(AddressRefusal::InvalidState)), "{refused:?}");
    let bad = AddShippingAddress { city: String::new(), ..address(id) };
    let refused = add_shipping_address(&mut ctx(&shop, &mut db), &bad).await;
    assert!(
        matches!(&refused, Err(AddressRefusal::InvalidField(bad)) if bad.field == "city"),
        "{refused:?}"
    );
    let refused = add_shipping_address(&mut ctx(&shop, &mut db), &address(Uuid::now_v7())).await;
    assert!(matches!(refused, Err(AddressRefusal::CustomerNotFound)), "{refused:?}");

    let events = story(&mut db, id).await;
    assert_eq!(events, ["CustomerRegistered", "ShippingAddressAdded", "ShippingAddressAdded"]);
    let stranger = RegisterCustomer { email: "grace@example.org".to_owned(), ..ada() };
    let stranger = register_customer(&shop, &mut db, stranger).await.expect("registered");
    let refused =
        remove_address(&mut ctx(&shop, &mut db), stranger.customer.customer_id, saved.address_id)
            .await;
    assert!(matches!(refused, Err(AddressRefusal::AddressNotFound)), "{refused:?}");
    remove_address(&mut ctx(&shop, &mut db), id, saved.address_id).await.expect("removed");
    assert_eq!(list_addresses(&mut db, id, None, 100).await.expect("read").len(), 1);
    let refused = remove_address(&mut ctx(&shop, &mut db), id, saved.address_id).await;
    assert!(matches!(refused, Err(AddressRefusal::AddressNotFound)), "{refused:?}");
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_payment_method_is_a_token_and_never_a_card_number() {
    let (database, shop) = (database().await, shop());
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let id = id.customer_id;
    let method = AddPaymentMethod {
        customer_id: id,
        token: MethodToken("pm_sandbox_ok".to_owned()),
        brand: "visa".to_owned(),
        last4: "4242".to_owned(),
    };
    let saved = add_payment_method(&mut ctx(&shop, &mut db), &method).await.expect("saved");
    assert_eq!((saved.kind.as_str(), saved.last4.as_deref()), ("card", Some("4242")));
    assert_eq!(
        list_payment_methods(&mut db, id, None, 100).await.expect("read"),
        std::slice::from_ref(&saved)
    );
    let card = MethodToken("4242424242424242".to_owned());
    let bad = AddPaymentMethod { token: card, ..method.clone() };
    let refused = add_payment_method(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(PaymentMethodRefusal::InvalidField(_))), "{refused:?}");
    let bad = AddPaymentMethod { token: MethodToken("pm x".to_owned()), ..method.clone() };
    let refused = add_payment_method(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(PaymentMethodRefusal::InvalidToken)), "{refused:?}");
    for last4 in ["424", "42424", "abcd"] {
        let bad = AddPaymentMethod { last4: last4.to_owned(), ..method.clone() };
        let refused = add_payment_method(&mut ctx(&shop, &mut db), &bad).await;
        assert!(matches!(refused, Err(PaymentMethodRefusal::InvalidLast4)), "{refused:?}");
    }
    let bad = AddPaymentMethod { brand: "Visa!".to_owned(), ..method.clone() };
    let refused = add_payment_method(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(PaymentMethodRefusal::InvalidBrand)), "{refused:?}");
    let bad = AddPaymentMethod { customer_id: Uuid::now_v7(), ..method };
    let refused = add_payment_method(&mut ctx(&shop, &mut db), &bad).await;
    assert!(matches!(refused, Err(PaymentMethodRefusal::CustomerNotFound)), "{refused:?}");
    remove(&mut ctx(&shop, &mut db), id, saved.payment_method_id).await.expect("removed");
    assert!(list_payment_methods(&mut db, id, None, 100).await.expect("read").is_empty());
    drop(db);
    database.close().await;
}

#[tokio::test]
async fn a_token_that_is_saved_twice_is_one_method() {
    let (database, mut shop) = (database().await, shop());
    shop.config.most_saved = 2;
    let mut db = database.pool().acquire().await.expect("a connection");
    let id = register_customer(&shop, &mut db, ada()).await.expect("registered").customer;
    let id = id.customer_id;
    let method = AddPaymentMethod {
        customer_id: id,
        token: MethodToken("pm_1N8f".to_owned()),
        brand: "visa".to_owned(),
        last4: "4242".to_owned(),
    };
    let saved = add_payment_method(&mut ctx(&shop, &mut db), &method).await.expect("saved");
    let again = add_payment_method(&mut ctx(&shop, &mut db), &method).await.expect("known");
    assert_eq!(again, saved);
    let other = AddPaymentMethod { token: MethodToken("pm_2".to_owned()), ..method.clone() };
    let other = add_payment_method(&mut ctx(&shop, &mut db), &other).await.expect("saved");
    // The limit is for new ones.
    let again = add_payment_method(&mut ctx(&shop, &mut db), &method).await.expect("known");
    assert_eq!(again, saved);
    let listed = list_payment_methods(&mut db, id, None, 100).await.expect("read");
    assert_eq!(listed, [saved.clone(), other]);
    // A token that the gateway has refused, one that was removed, and one of another customer are new.
    sqlx::query("update shop.payment_method set attachment = 'refused' where token = 'pm_2'")
        .execute(&mut *db)
        .await
        .expect("refused");
    let refused = AddPaymentMethod { token: MethodToken("pm_2".to_owned()), ..method.clone() };
    let full = add_payment_method(&mut ctx(&shop, &mut db), &refused).await;
    assert!(matches!(full, Err(PaymentMethodRefusal::TooMany)), "{full:?}");
    remove(&mut ctx(&shop, &mut db), id, saved.payment_method_id).await.expect("removed");
    let anew = add_payment_method(&mut ctx(&shop, &mut db), &method).await.expect("saved");
    assert_ne!(anew.payment_method_id, saved.payment_method_id);
    let grace = RegisterCustomer { email: "grace@example.org".to_owned(), ..ada() };
    let grace = register_customer(&shop, &mut db, grace).await.expect("registered").customer;
    let theirs = AddPaymentMethod { customer_id: grace.customer_id, ..method };
    let theirs = add_payment_method(&mut ctx(&shop, &mut db), &theirs).await.expect("saved");
    assert_eq!(theirs.customer_id, grace.customer_id);
    drop(db);
    database.close().await;
}
