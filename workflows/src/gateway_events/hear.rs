//! How the saga that authorizes a payment hears of an event: the placement, or an authorization of its own.

use sqlx::PgConnection;
use stepwise_engine::{
    Engine, Saga as _, SignalError, Status, WaitingOn, inbox,
    inspect::{self, Summary},
};

use super::{Reception, books::Known};
use crate::{
    payment::gateway::{GatewayEvent, GatewayEventKind},
    sagas::{
        authorize_payment::{self, AuthorizePayment},
        place_order::{PlaceOrder, Signal},
    },
};

/// How the saga that authorizes a payment learns of a change at the gateway.
pub(super) struct Hearing {
    /// The saga, if it is to be told of the event.
    listener: Option<Summary>,
    /// Whether the saga may end without booking the change: then the event is to come again.
    is_early: bool,
}

impl Hearing {
    /// The saga learns of the change by its own call.
    pub(super) fn is_needless(&self) -> bool {
        self.listener.is_none() && !self.is_early
    }
}

/// Looks at the saga that authorizes the payment: the placement, or an authorization of its own. 1 round trip.
pub(super) async fn hearing(
    tx: &mut PgConnection,
    known: &Known,
    kind: GatewayEventKind,
) -> Result<Hearing, sqlx::Error> {
    use GatewayEventKind as K;

    let name = if known.is_placing() { PlaceOrder::NAME } else { AuthorizePayment::NAME };
    let saga = inspect::latest_about(tx, name, &known.order_id.to_string()).await?;
    let is_early = saga.as_ref().is_some_and(|saga| match kind {
        // The saga books what it knows, and the gateway may have answered it before this happened.
        K::Captured | K::Refunded => true,
        // While the saga unwinds, the authorization is cancelled by its undo, or the undo finds it cancelled.
        K::Cancelled => saga.status != Status::Unwinding,
        K::Authorized | K::Declined | K::ApprovalRequired | K::Other => false,
    });
    // A saga that waits for an operator keeps the signal. So does one that is asking the gateway already: the answer on its way may be older than this
    // event. In any other state it gets the gateway's answer by itself, or asks for it.
    let listener = saga.filter(|saga| {
        matches!(saga.waiting_on, Some(WaitingOn::Signal | WaitingOn::Operator))
            || saga.pending.pointer("/call/activity/Ask").is_some()
    });
    Ok(Hearing { listener, is_early })
}

/// Signals the saga that authorizes the payment, if it listens. Answers whether the event is to come again.
pub(super) async fn tell(
    engine: &Engine,
    tx: &mut PgConnection,
    event: &GatewayEvent,
    known: &Known,
    kind: GatewayEventKind,
) -> Result<Reception, SignalError> {
    let Hearing { listener, is_early } = hearing(tx, known, kind).await?;
    let heard = |reception| if is_early { Reception::Later } else { reception };
    let Some(saga) = listener else { return Ok(heard(Reception::Nothing)) };
    if !inbox::first_time(tx, "gateway", &event.id).await? {
        return Ok(heard(Reception::Nothing));
    }
    let id = saga.saga_id;
    match known.is_placing() {
        true => engine.signal::<PlaceOrder>(tx, id, &event.id, Signal::GatewayReported).await?,
        false => {
            let reported = authorize_payment::Signal::GatewayReported;
            engine.signal::<AuthorizePayment>(tx, id, &event.id, reported).await?
        }
    };
    Ok(heard(Reception::Signalled))
}
