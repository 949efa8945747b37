//! The commands of an account that start a saga or send it a signal: the mails that follow from them are sent by sagas.

use stepwise_engine::{SignalError, Start, StartError};
use uuid::Uuid;

use super::{
    account_mail::{AccountMail, Letter, Post},
    register_customer::{Input, Proof, RegisterCustomer, Signal},
};
use crate::{
    customer::{
        CustomerView,
        mailed::{AskRefusal, account_or_nobody},
        password::{self, ChangePasswordRefusal, PreparedChange, PreparedReset, ResetRefusal},
        register::{self, VerifyRefusal},
    },
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why an address is not verified.
    #[derive(Debug, thiserror::Error)]
    pub enum VerifyError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] VerifyRefusal),
        /// The saga could not be signalled.
        #[error(transparent)]
        Signal(#[from] SignalError),
    }
}

/// Marks the address as verified, and ends the sagas that wait for it. 4 round trips, and 1 for each of these sagas.
pub async fn verify_customer_email(
    ctx: &mut Context<'_>,
    token: &str,
) -> Result<CustomerView, VerifyError> {
    let customer = register::verify_customer_email(ctx, token).await?;
    let (engine, subject) = (ctx.engine, customer.customer_id.to_string());
    engine.signal_all::<RegisterCustomer>(ctx, &subject, "verified", Signal::Verified).await?;
    Ok(customer)
}

refusals! {
    /// Why no mail is sent.
    #[derive(Debug, thiserror::Error)]
    pub enum AskError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] AskRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Asks for another verification mail with a new token. It does the same for every address, so that its time does not tell which ones have an
/// account: the saga finds out. 2 round trips.
pub async fn resend_verification(ctx: &mut Context<'_>, email: &str) -> Result<(), AskError> {
    let (customer, token) = (account_or_nobody(ctx, email).await?, Uuid::now_v7());
    let input = Input::AskedAgain(Proof { customer, token });
    let start = Start::new(customer.to_string(), input).key(token.to_string());
    ctx.start::<RegisterCustomer>(start).await?;
    Ok(())
}

/// Asks for a mail with a token that resets the password. It does the same for every address, as [`resend_verification`] does. 2 round trips.
pub async fn request_password_reset(ctx: &mut Context<'_>, email: &str) -> Result<(), AskError> {
    let customer = account_or_nobody(ctx, email).await?;
    Ok(post(ctx, customer, Letter::ResetPassword(Uuid::now_v7())).await?)
}

refusals! {
    /// Why a password is not reset.
    #[derive(Debug, thiserror::Error)]
    pub enum ResetError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] ResetRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Replaces a forgotten password, ends all sessions, and has a mail say so. 3 round trips.
pub async fn reset_password(
    ctx: &mut Context<'_>,
    prepared: PreparedReset,
) -> Result<(), ResetError> {
    let customer = password::reset(ctx, prepared).await?;
    Ok(post(ctx, customer, Letter::PasswordChanged).await?)
}

refusals! {
    /// Why a password is not changed.
    #[derive(Debug, thiserror::Error)]
    pub enum ChangePasswordError {
        /// The command is refused.
        #[error(transparent)]
        Refused(#[from] ChangePasswordRefusal),
        /// The saga could not be started.
        #[error(transparent)]
        Start(#[from] StartError),
    }
}

/// Replaces the password of somebody who knows it, ends their other sessions, and has a mail say so. 2 round trips.
pub async fn change_password(
    ctx: &mut Context<'_>,
    prepared: PreparedChange,
    own_token_hash: &[u8],
) -> Result<(), ChangePasswordError> {
    let customer = password::change(ctx, prepared, own_token_hash).await?;
    Ok(post(ctx, customer, Letter::PasswordChanged).await?)
}

/// Starts the saga that sends a mail. A customer may have several under way.
async fn post(ctx: &mut Context<'_>, customer: Uuid, letter: Letter) -> Result<(), StartError> {
    let start = Start::new(customer.to_string(), Post { customer, letter });
    ctx.start::<AccountMail>(start.key(Uuid::now_v7().to_string())).await?;
    Ok(())
}
