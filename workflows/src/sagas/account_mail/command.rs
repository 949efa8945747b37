//! The commands requestPasswordReset, resetPassword and changePassword. A mail follows from each.

use stepwise_engine::{Start, StartError};
use uuid::Uuid;

use super::{AccountMail, Letter, Post};
use crate::{
    customer::{
        mailed::{AskRefusal, account_or_nobody},
        password::{self, ChangePasswordRefusal, PreparedChange, PreparedReset, ResetRefusal},
    },
    refusal::refusals,
    shop::Context,
};

refusals! {
    /// Why a mail that anyone may ask for is not sent.
    pub enum AskError = Refused(AskRefusal) | Start(StartError);
}

/// Asks for a mail with a token that resets the password. It does the same for every address, so that its time does not tell which ones have an
/// account: the saga finds out. 2 round trips.
pub async fn request_password_reset(ctx: &mut Context<'_>, email: &str) -> Result<(), AskError> {
    let customer = account_or_nobody(ctx, email).await?;
    Ok(post(ctx, customer, Letter::ResetPassword(Uuid::now_v7())).await?)
}

refusals! {
    /// Why a password is not reset.
    pub enum ResetError = Refused(ResetRefusal) | Start(StartError);
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
    pub enum ChangePasswordError = Refused(ChangePasswordRefusal) | Start(StartError);
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
