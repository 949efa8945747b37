//! A customer's access to the account: mails with tokens, passwords and sessions.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use stepwise_workflows::{
    customer::{
        UnknownCustomer, attempts, mailed, password,
        session::{self, SessionView, UnknownSession},
    },
    sagas::{
        account_mail::{
            AskError, ChangePasswordError, ResetError, change_password, request_password_reset,
            reset_password,
        },
        register_customer::resend_verification,
    },
};
use uuid::Uuid;

use super::{Group, answer::answer};
use crate::door::{
    Ask,
    caller::{Anyone, By, CustomerOnly},
    idempotency::OptionalKey,
    json::Body,
    limits::too_many,
    page::{self, Page},
    problem::Problem,
    refuses::Refuses,
    reply::{Done, Gone},
};

/// The operations about access to an account.
pub struct Accounts;

/// The address to which a mail is to be sent.
#[derive(Debug, Object)]
struct MailRequest {
    email: String,
}

/// A new password, and the token of the mail.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ResetPassword {
    reset_token: String,
    /// 15 to 128 characters, any Unicode.
    password: String,
}

/// The current password and a new one.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ChangePassword {
    current_password: String,
    /// 15 to 128 characters, any Unicode.
    new_password: String,
}

answer! {
    /// One of a customer's sessions.
    #[oai(rename = "OpenSession", rename_all = "camelCase", skip_serializing_if_is_none)]
    struct OpenSessionShape from session: SessionView {
        id: Uuid = session.session_id,
        /// When the customer logged in.
        created_at: DateTime<Utc>,
        /// When it was last used, to within ten minutes.
        last_used_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        /// The program that logged in, as it named itself.
        agent: Option<String>,
        /// The network from which the customer logged in: the first part of the address.
        network: Option<String>,
        /// Whether it is the session of this request.
        current: bool = session.is_current,
    }
}

/// A mail that anyone may ask for.
#[derive(Clone, Copy)]
enum Wanted {
    Verification,
    Reset,
}

/// Sends a mail to an address, whether or not it has an account. Counts the request, and refuses too many.
async fn send_mail(
    by: &Anyone,
    key: &OptionalKey,
    body: &Body<MailRequest>,
    wanted: Wanted,
) -> Result<Gone, Refuses<AskError>> {
    let (operation, scope) = match wanted {
        Wanted::Verification => ("resendVerification", "verification mail"),
        Wanted::Reset => ("requestPasswordReset", "reset mail"),
    };
    by.door.limits.attempt("mail", by.address).await?;
    let email = body.value.email.as_str();
    let scope = by.door.limits.mail_scope(scope, email);
    let ask = Ask::by_anyone(email, operation, key).with(body);
    by.door
        .command(ask, async |ctx| {
            if let Some(scope) = scope
                && let Some(wait) = mailed::count(ctx, &scope).await?
            {
                return Err(too_many(wait));
            }
            match wanted {
                Wanted::Verification => resend_verification(ctx, email).await?,
                Wanted::Reset => request_password_reset(ctx, email).await?,
            }
            Ok(Gone::gone())
        })
        .await
}

#[OpenApi(prefix_path = "/v1/customers", tag = "Group::Customers")]
impl Accounts {
    /// Send another verification mail. Its token takes the place of the earlier one. The answer is the same whether or not the address has an
    /// account that waits for its verification. At most three mails an hour go to one address.
    #[oai(path = "/verification-mails", method = "post", operation_id = "resendVerification")]
    async fn resend_verification(
        &self,
        by: Anyone,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<MailRequest>,
    ) -> Result<Gone, Refuses<AskError>> {
        send_mail(&by, &key, &body, Wanted::Verification).await
    }

    /// Send a mail with a token that resets the password within 15 minutes. It takes the place of an earlier one. The answer is the same whether or
    /// not the address has an account. At most three mails an hour go to one address.
    #[oai(path = "/password-resets", method = "post", operation_id = "requestPasswordReset")]
    async fn request_reset(
        &self,
        by: Anyone,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<MailRequest>,
    ) -> Result<Gone, Refuses<AskError>> {
        send_mail(&by, &key, &body, Wanted::Reset).await
    }

    /// Choose a new password with the token from the mail. It works once, and ends all sessions.
    #[oai(path = "/reset-password", method = "post", operation_id = "resetPassword")]
    async fn reset(
        &self,
        by: Anyone,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        body: Body<ResetPassword>,
    ) -> Result<Gone, Refuses<ResetError>> {
        by.door.limits.attempt("reset", by.address).await?;
        let (door, shop) = (&by.door, &by.door.shop);
        let ResetPassword { reset_token, password } = &body.value;
        let ask = Ask::by_anyone(reset_token, "resetPassword", &key).with(&body);
        // The token is looked up before anything is hashed: a guess must not keep the threads that hash busy. The faster answer tells nothing, because
        // nobody can guess a token.
        let prepared = password::prepare_reset(shop, &door.db, reset_token, password).await;
        let prepared = prepared.map_err(Problem::from);
        // A repeated request gets its first answer, though its token is used by now.
        if let Err(problem) = &prepared
            && !door.has_answered(&ask).await?
        {
            return Err(problem.clone().into());
        }
        let ask = ask.with_password(&shop.passwords, password).await?;
        door.command(ask, async |ctx| {
            reset_password(ctx, prepared.clone()?).await?;
            Ok(Gone::gone())
        })
        .await
    }

    /// Change the password. All other sessions end, and a mail says so.
    #[oai(path = "/:customerId/password", method = "post", operation_id = "changePassword")]
    async fn change(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        body: Body<ChangePassword>,
    ) -> Result<Gone, Refuses<ChangePasswordError>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let (door, shop) = (&by.door, &by.door.shop);
        let ChangePassword { current_password, new_password } = &body.value;
        // A stolen session must not serve to guess the password, nor to keep the thread that hashes busy: a try is counted before anything is hashed.
        let account = format!("change {customer_id}");
        let tries = door.limits.log_in_scopes(&account, Some(customer_id), None, None);
        if let Some(tries) = &tries
            && let Some(wait) = attempts::count(&door.db, tries).await?
        {
            return Err(too_many(wait).into());
        }
        let ask = Ask::new("changePassword", &by, &key).with(&body);
        let both = format!("{current_password}\0{new_password}");
        let ask = ask.with_password(&shop.passwords, &both).await?;
        let both = (current_password.as_str(), new_password.as_str());
        let prepared = password::prepare_change(shop, &door.db, customer_id, both).await;
        // A refusal waits for the key: a repeated request gets its first answer, though its password is changed by now.
        let prepared = prepared.map_err(Problem::from);
        door.command(ask, async |ctx| {
            change_password(ctx, prepared.clone()?, &by.token_hash).await?;
            if let Some(tries) = &tries {
                attempts::succeed(ctx, tries).await?;
            }
            Ok(Gone::gone())
        })
        .await
    }

    /// List the customer's sessions, newest first.
    #[oai(path = "/:customerId/sessions", method = "get", operation_id = "listSessions")]
    async fn sessions(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Done<Page<OpenSessionShape>>, Refuses<UnknownCustomer>> {
        let customer_id = by.acts_for(customer_id.0)?;
        let (door, limit) = (&by.door, page::limit(limit.0)?);
        let list = format!("sessions/{customer_id}");
        let after = door.cursors.open(&list, cursor.0.as_deref())?;
        let (of, count) = ((customer_id, &by.token_hash[..]), page::fetch_count(limit));
        let mut db = door.db.acquire().await?;
        let rows = session::list(&door.shop, &mut db, of, after, count).await?;
        let key = |row: &SessionView| (row.created_at, row.session_id);
        Ok(Done::new(&door.cursors.page(&list, limit, rows, key, Into::into)))
    }

    /// End one of the customer's sessions. Within a second its token is refused everywhere.
    #[oai(
        path = "/:customerId/sessions/:sessionId",
        method = "delete",
        operation_id = "endSession"
    )]
    async fn end_session(
        &self,
        by: By<CustomerOnly>,
        #[oai(name = "Idempotency-Key")] key: OptionalKey,
        #[oai(name = "customerId")] customer_id: Path<Uuid>,
        #[oai(name = "sessionId")] session_id: Path<Uuid>,
    ) -> Result<Gone, Refuses<(UnknownCustomer, UnknownSession)>> {
        let customer_id = by.acts_for(customer_id.0)?;
        by.door
            .command(Ask::new("endSession", &by, &key), async |ctx| {
                session::end_one(ctx, customer_id, session_id.0).await?;
                Ok(Gone::gone())
            })
            .await
    }
}
