//! Customers' accounts: registration, verification, log-in and log-out.

use chrono::{DateTime, Utc};
use poem_openapi::{Object, OpenApi};
use stepwise_workflows::{
    cart::{self, MergeGuestCart, MergeRefusal, MergedCart},
    customer::{
        self, CustomerView, UnknownCustomer,
        attempts::{self, Scopes},
        register::{self, RegisterRefusal},
        session::{self, Device, LogInRefusal, LoggedIn},
    },
    refusal::{Refusal as _, Refused},
    sagas::register_customer::{VerifyError, verify_customer_email},
    shop::{Actor, password::PoolError},
};
use uuid::Uuid;

use super::{Group, answer::answer};
use crate::door::{
    Ask, Door,
    caller::{Anyone, By, CustomerOnly},
    idempotency::OptionalKey,
    json::Body,
    limits::too_many,
    origin,
    problem::Problem,
    refuses::Refuses,
    reply::{Created, Done, Gone},
};

/// The operations about customers.
pub struct Customers;

/// A new account.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RegisterCustomer {
    /// The address for the verification mail, and the name for logging in.
    email: String,
    /// 15 to 128 characters, any Unicode.
    password: String,
    first_name: String,
    last_name: String,
}

/// The token of the verification mail.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct VerifyCustomerEmail {
    verification_token: String,
}

/// Email and password.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LogIn {
    email: String,
    password: String,
    /// A guest cart whose items go into the customer's cart.
    #[oai(nullable)]
    guest_cart_id: Option<Uuid>,
    /// The token that createGuestCart answered for that cart. Without it the cart is not found.
    #[oai(nullable)]
    guest_token: Option<String>,
}

answer! {
    /// A customer's own account.
    #[oai(rename = "Customer", rename_all = "camelCase")]
    struct CustomerShape from customer: CustomerView {
        id: Uuid = customer.customer_id,
        email: String,
        first_name: String,
        last_name: String,
        /// Whether the email address is verified. The customer can place orders only after that.
        email_verified: bool,
        created_at: DateTime<Utc>,
    }
}

/// A session.
#[derive(Debug, Object)]
#[oai(rename = "Session", rename_all = "camelCase", skip_serializing_if_is_none)]
struct SessionShape {
    id: Uuid,
    /// Send it as `Authorization: Bearer`. It cannot be shown again.
    token: String,
    customer_id: Uuid,
    expires_at: DateTime<Utc>,
    /// What became of the guest cart. Absent if the request named none.
    guest_cart: Option<GuestCartOutcome>,
}

/// What became of the guest cart that a log-in named. A cart that cannot be merged never prevents the log-in.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct GuestCartOutcome {
    /// Whether its items lie in the customer's cart now. If not, the guest cart stays as it was, and mergeGuestCart can merge it later.
    merged: bool,
    /// If it was merged: whether fewer were taken over than lay in it.
    capped: Option<bool>,
    /// If it was not merged: `guest_cart_not_found` or `checkout_in_progress`.
    code: Option<String>,
    /// If it was not merged: the reason in one sentence.
    detail: Option<String>,
}

/// Takes back a try whose password was not compared, and counts one that was wrong.
async fn count_refused(
    door: &Door,
    refusal: &LogInRefusal,
    scopes: Option<&Scopes>,
) -> Result<(), Problem> {
    match (refusal, scopes) {
        (LogInRefusal::Passwords(PoolError::Busy), Some(scopes)) => {
            let _turn = door.turn_to_log_in().await?;
            attempts::uncount(&door.db, scopes).await?;
        }
        (LogInRefusal::InvalidCredentials, _) => {
            let _turn = door.turn_to_log_in().await?;
            attempts::count_wrong(&door.db).await?;
        }
        _ => {}
    }
    Ok(())
}

#[OpenApi(prefix_path = "/v1", tag = "Group::Customers")]
impl Customers {
    /// Open an account. The customer gets a mail with a verification token.
    #[oai(path = "/customers", method = "post", operation_id = "registerCustomer")]
    async fn register(
        &self,
        by: Anyone,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<RegisterCustomer>,
    ) -> Result<Created<CustomerShape>, Refuses<RegisterRefusal>> {
        by.door.limits.attempt("register", by.address).await?;
        let RegisterCustomer { email, password, first_name, last_name } = &body.value;
        let command = register::RegisterCustomer {
            email: email.clone(),
            password: password.clone(),
            first_name: first_name.clone(),
            last_name: last_name.clone(),
        };
        let shop = &by.door.shop;
        // Hash the password before taking a connection.
        let prepared = register::prepare(shop, command).await?;
        let ask = Ask::by_anyone(prepared.email(), "registerCustomer", &key).with(&body);
        let ask = ask.with_password(&shop.passwords, password).await?;
        by.door
            .command(ask, async |ctx| {
                let registering = register::register_customer(ctx, prepared);
                let customer = registering.await?.customer;
                let customer_id = customer.customer_id;
                let reply = Created::new(&CustomerShape::from(customer));
                Ok(reply.at("/v1/me".to_owned()).about(customer_id))
            })
            .await
    }

    /// Verify the email address with the token from the mail.
    #[oai(path = "/customers/verify-email", method = "post", operation_id = "verifyCustomerEmail")]
    async fn verify_email(
        &self,
        by: Anyone,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<VerifyCustomerEmail>,
    ) -> Result<Done<CustomerShape>, Refuses<VerifyError>> {
        by.door.limits.attempt("verify", by.address).await?;
        let token = &body.value.verification_token;
        let ask = Ask::by_anyone(token, "verifyCustomerEmail", &key).with(&body);
        by.door
            .command(ask, async |ctx| {
                let verified = verify_customer_email(ctx, token);
                let customer = verified.await?;
                let customer_id = customer.customer_id;
                Ok(Done::new(&CustomerShape::from(customer)).about(customer_id))
            })
            .await
    }

    /// Log in. A customer has 20 sessions at most; one more ends the oldest. Takes no idempotency key, because a token is never stored; a repeated request starts another
    /// session. A client that still has the token of an earlier session, however old, should send
    /// it: then failed attempts of others on its network do not slow it down.
    #[oai(path = "/sessions", method = "post", operation_id = "logIn")]
    async fn log_in(
        &self,
        by: Anyone,
        body: Body<LogIn>,
    ) -> Result<Created<SessionShape>, Refuses<LogInRefusal>> {
        let LogIn { email, password, guest_cart_id, guest_token } = &body.value;
        let (door, shop) = (&by.door, &by.door.shop);
        door.limits.attempt("log in", by.address).await?;
        let turn = door.turn_to_log_in().await?;
        let earlier = by.token_hash;
        let account =
            session::look_up(&door.db, email, earlier.as_ref().map(|hash| &hash[..])).await?;
        let earlier = earlier.filter(|_| account.is_own_device);
        let scopes = door.limits.log_in_scopes(email, account.customer_id(), by.address, earlier);
        if let Some(scopes) = &scopes
            && let Some(wait) = attempts::count(&door.db, scopes).await?
        {
            return Err(too_many(wait).into());
        }
        // Compare the password without holding a connection or a turn.
        drop(turn);
        let proven = match account.check(shop, password).await {
            Ok(proven) => proven,
            Err(refusal) => {
                count_refused(door, &refusal, scopes.as_ref()).await?;
                return Err(refusal.into());
            }
        };
        let _turn = door.turn_to_log_in().await?;
        let mut tx = door.begin().await?;
        let device = Device { agent: by.agent, network: by.address.map(origin::network) };
        let opened = session::open(shop, &mut tx, proven, &device).await;
        let LoggedIn { customer_id, session_id: id, token, expires_at } = opened?;
        let mut guest_cart = None;
        if let Some(guest_cart_id) = *guest_cart_id {
            let cause = by.incoming.cause(Actor::Customer(customer_id));
            let command =
                MergeGuestCart { guest_cart_id, guest_token: guest_token.clone(), customer_id };
            let merged = cart::merge_guest_cart(&mut door.context(&mut tx, cause), &command).await;
            guest_cart = Some(outcome(merged)?);
        }
        if let Some(scopes) = &scopes {
            attempts::succeed(&mut tx, scopes).await?;
        }
        tx.commit().await?;
        let token = token.expose().to_owned();
        let session = SessionShape { id, token, customer_id, expires_at, guest_cart };
        Ok(Created::new(&session).at("/v1/me".to_owned()))
    }

    /// Log out: end the session.
    #[oai(path = "/sessions/current", method = "delete", operation_id = "logOut")]
    async fn log_out(&self, by: By<CustomerOnly>) -> Result<Gone, Problem> {
        let mut db = by.door.db.acquire().await?;
        session::end(&mut db, &by.token_hash).await?;
        by.door.callers.forget(&by.token_hash);
        Ok(Gone::gone())
    }

    /// Get the caller's own account.
    #[oai(path = "/me", method = "get", operation_id = "getMe")]
    async fn me(
        &self,
        by: By<CustomerOnly>,
    ) -> Result<Done<CustomerShape>, Refuses<UnknownCustomer>> {
        let mut db = by.door.db.acquire().await?;
        let customer = customer::get_customer(&mut db, by.id).await?;
        Ok(Done::new(&customer.ok_or(UnknownCustomer::NotFound)?.into()))
    }
}

/// A refused merge as a part of the answer. A surprise stays an error.
fn outcome(merged: Result<MergedCart, MergeRefusal>) -> Result<GuestCartOutcome, Problem> {
    let refusal = match merged {
        Ok(MergedCart { capped, .. }) => {
            let capped = Some(capped);
            return Ok(GuestCartOutcome { merged: true, capped, code: None, detail: None });
        }
        Err(refusal) => refusal,
    };
    match refusal.refused() {
        Ok(Refused { code, detail, .. }) => {
            let (code, detail) = (Some(code.to_owned()), Some(detail));
            Ok(GuestCartOutcome { merged: false, capped: None, code, detail })
        }
        surprise => Err(Problem::of(surprise)),
    }
}
