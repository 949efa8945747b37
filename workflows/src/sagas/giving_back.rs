//! Giving taken money back at the gateway: a cancellation and a refund do it in the same way.

use std::time::Duration;

use stepwise_engine::{Key, Outcome, Terms};

use super::calling::time_for;
use crate::{
    money::Money,
    payment::gateway::{
        AuthorizationStatus, GatewayError, PaymentGateway, Reason, Reference, Refund,
    },
};

/// How long the gateway knows a key of ours. Under a key it knows, the same call acts once; later a repeated call could act a second time. So
/// taking money and giving it back are tried for as long as that, and then a person decides.
pub(super) const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Operators are told of money that could not be given back for so long.
const TELL_AFTER: Duration = Duration::from_secs(3_600);

/// The terms of a step that gives `amount` back. It may make two calls: if the gateway refuses, it is asked how much is left.
pub(super) fn moving(kind: &'static str, amount: Money) -> Terms {
    let terms = Terms::effect(kind).amount(amount);
    Terms { within: KEY_LIFETIME, slow_after: TELL_AFTER, timeout: time_for(2), ..terms }
}

/// Refunds `amount`. `event` gets the refunded amount, the gateway's reference of the refund and our key.
///
/// # Errors
/// The gateway's reason why it does not refund under this key.
pub(super) async fn refund<E>(
    gateway: &dyn PaymentGateway,
    key: &Key,
    reference: &Reference,
    amount: Money,
    event: impl FnOnce(Money, String, String) -> E,
) -> Result<Outcome<E>, Reason> {
    let key = key.to_string();
    match gateway.refund(&key, reference, amount).await {
        // The gateway completes a pending refund. If that fails, its webhook corrects the books.
        Ok(Refund::Refunded { reference, amount } | Refund::Pending { reference, amount }) => {
            let event = event(amount, reference.0.clone(), key);
            Ok(Outcome::confirmed(event, reference.0))
        }
        Ok(Refund::Refused(why)) => Err(why),
        Err(error) => Ok(error.into()),
    }
}

/// Money that was taken, as the gateway knows it.
pub(super) struct Taken {
    /// How much was taken.
    pub(super) captured: Money,
    /// How much of it is not given back yet.
    pub(super) left: Money,
}

/// Asks how much was taken and is left. `None`: the gateway does not say that anything was taken. Changes nothing.
pub(super) async fn taken(
    gateway: &dyn PaymentGateway,
    reference: &Reference,
) -> Result<Option<Taken>, GatewayError> {
    let found = gateway.find(reference).await?;
    Ok(match found.map(|found| found.status) {
        Some(AuthorizationStatus::Captured { captured, refunded }) => {
            let left = captured.minus(refunded).unwrap_or(Money::zero(captured.currency()));
            Some(Taken { captured, left })
        }
        _ => None,
    })
}
