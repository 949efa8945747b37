//! Events that the gateway sends on its own: hints to ask the gateway, never the last word.
//!
//! No event is dropped. It is applied, or parked with its reason for an operator, or counted as of no concern. [`look`] decides which by one
//! read of our books:
//! - The most common event is the echo of a call that was answered anyway. The books say the same already, so nothing is written.
//! - A saga that authorizes a payment and waits for the customer's approval, or for an operator, gets a signal, once per event id, and asks the gateway itself.
//! - If somebody has cancelled, taken or refunded the money of such a payment, the saga may end without knowing it. The gateway is to send the event again,
//!   until the books have the payment.
//! - If the books say something else, the caller asks the gateway, outside any transaction, and [`conclude`] applies the answer to the payment. So
//!   copies of an event and events in a wrong order change nothing.

pub mod echo;
pub mod retry;

use rust_decimal::Decimal;
use sqlx::PgConnection;
use stepwise_engine::{
    Engine, Saga as _, SignalError, Status, WaitingOn, inbox,
    inspect::{self, Summary},
};
use uuid::Uuid;

use super::{PlaceOrder, Signal};
use crate::{
    order::outside::{self, Applied, Disputed, Disputing, Truth},
    payment::{
        PaymentState,
        gateway::{
            AuthorizationStatus, GatewayError, GatewayEvent, GatewayEventKind, MadeRefund, News,
            PaymentGateway, Reference, RefundStatus,
        },
        parked::{self, Misfit, Parked, plain},
    },
    sagas::{
        authorize_payment::{self, AuthorizePayment},
        paypal_approval::webhook::report,
    },
    shop::Context,
};

/// The maximum number of kinds of events that are counted separately.
const KINDS_AT_MOST: i64 = 500;

/// The result of an event whose signature is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// The saga that authorizes the payment got a signal.
    Signalled,
    /// The payment was brought into agreement with the gateway.
    Applied,
    /// The event says nothing new, or a copy of it was received before.
    Nothing,
    /// A saga is about to book this payment or a move of it, and the event says more than that: the gateway is to send it again.
    Later,
    /// The event concerns no payment of this shop. It is counted.
    NoConcern,
    /// The event is kept for an operator.
    Parked(Misfit),
    /// The event should be parked, but [`parked::AT_MOST`] events wait for an operator already. Nothing was stored.
    Full,
}

/// The next thing to do about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is done.
    Done(Reception),
    /// Ask the gateway about this payment ([`ask`]), then [`conclude`].
    Ask(Question),
}

/// A payment about which the gateway and our books may disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    order: Uuid,
    reference: Reference,
    /// Whether our books have a payment with this authorization that holds or held money of the order.
    is_booked: bool,
}

/// The payment of an event, as our books have it.
#[derive(sqlx::FromRow)]
struct Known {
    order_id: Uuid,
    status: String,
    is_in_force: bool,
    authorization_id: Option<String>,
    #[sqlx(try_from = "String")]
    state: PaymentState,
    amount: Decimal,
    currency: String,
    refunded_amount: Decimal,
    /// The kinds of moves that a saga has asked for and not settled yet.
    asked: Vec<String>,
    /// The state of the refund that the event is about.
    refund_state: Option<String>,
}

/// Compares an event with our books, in the caller's transaction. Round trips: 1 for an echo, 2 to count or to ask, 3 to park, 6 to signal.
///
/// # Errors
/// The database's or the engine's; the gateway sends the event again.
pub async fn look(
    engine: &Engine,
    tx: &mut PgConnection,
    event: &GatewayEvent,
) -> Result<Look, SignalError> {
    let (reference, order_id) = match &event.news {
        News::NoConcern => return Ok(Look::Done(count(tx, event).await?)),
        News::Approval { reference, .. } => {
            let told = report(engine, tx, &plain(&reference.0), &event.id).await?;
            return Ok(Look::Done(match told {
                None => count(tx, event).await?,
                Some(true) => Reception::Signalled,
                Some(false) => Reception::Nothing,
            }));
        }
        News::Unreadable => {
            return Ok(Look::Done(park(tx, event, Misfit::Unreadable, None).await?));
        }
        News::Authorization(_, found) => (&found.reference, found.order_id),
        News::Refund { authorization, .. } | News::Dispute { authorization, .. } => {
            (authorization, None)
        }
    };
    let Some(known) = read(tx, reference, order_id, &event.news).await? else {
        let reception = match order_id {
            Some(_) => park(tx, event, Misfit::UnknownPayment, None).await?,
            // Neither our reference nor our metadata: another shop's payment.
            None => count(tx, event).await?,
        };
        return Ok(Look::Done(reception));
    };
    let order = known.order_id;
    Ok(Look::Done(match decide(&known, &event.news) {
        Decision::Nothing => Reception::Nothing,
        Decision::Later => Reception::Later,
        Decision::Signal(kind) => tell(engine, tx, event, &known, kind).await?,
        Decision::Park(why) => park(tx, event, why, Some(order)).await?,
        Decision::Ask => {
            let is_booked = known.pays_with(reference);
            return Ok(Look::Ask(Question { order, reference: reference.clone(), is_booked }));
        }
        Decision::BookDispute => dispute(tx, event, order).await?,
    }))
}

/// Asks the gateway about the payment. Outside any transaction.
///
/// # Errors
/// The gateway's; it sends the event again.
pub async fn ask(gateway: &dyn PaymentGateway, question: &Question) -> Result<Truth, GatewayError> {
    outside::ask(gateway, &question.reference).await
}

/// Applies the gateway's answer to the payment. Round trips: 3 to 7.
///
/// # Errors
/// The database's; the gateway sends the event again.
pub async fn conclude(
    ctx: &mut Context<'_>,
    event: &GatewayEvent,
    question: &Question,
    truth: &Truth,
) -> Result<Reception, sqlx::Error> {
    let order = Some(question.order);
    let contradicts = Misfit::ContradictsOurBooks;
    if !question.is_booked {
        return match holds_money(truth) {
            true => park(ctx, event, contradicts, order).await,
            false => Ok(Reception::Nothing),
        };
    }
    let applied = outside::apply(ctx, question.order, truth).await?;
    match applied {
        Some(Applied::Later) => Ok(Reception::Later),
        None | Some(Applied::Contradicts) => park(ctx, event, contradicts, order).await,
        Some(Applied::RefundFailed(_)) => park(ctx, event, Misfit::RefundFailed, order).await,
        Some(Applied::Corrected) => Ok(Reception::Applied),
        Some(Applied::Agrees) if is_confirmed(&event.news, truth) => Ok(Reception::Nothing),
        Some(Applied::Agrees) => park(ctx, event, contradicts, order).await,
    }
}

impl Known {
    fn pays_with(&self, reference: &Reference) -> bool {
        // A payment that was given up is not in force. It has money to book only if somebody had taken that money.
        let has_money = self.is_in_force
            || !matches!(self.state, PaymentState::Voided | PaymentState::Declined);
        has_money && self.authorization_id.as_deref() == Some(&*reference.0)
    }

    fn is_placing(&self) -> bool {
        self.status == "placing"
    }

    fn asks_for(&self, kind: &str) -> bool {
        self.asked.iter().any(|asked| asked == kind)
    }
}

enum Decision {
    Nothing,
    Later,
    /// The saga that authorizes the payment is to hear of this kind of change, if it listens.
    Signal(GatewayEventKind),
    Ask,
    BookDispute,
    Park(Misfit),
}

/// Whether an event says something that our books do not say. Pure.
fn decide(known: &Known, news: &News) -> Decision {
    use AuthorizationStatus as A;
    use GatewayEventKind as K;
    use PaymentState as P;

    let (kind, found) = match news {
        News::Authorization(kind, found) => (kind, found),
        News::Refund { refund, .. } => return decide_refund(known, refund),
        News::Dispute { .. } => return Decision::BookDispute,
        News::Approval { .. } | News::NoConcern | News::Unreadable => return Decision::Nothing,
    };
    if found.amount.amount() != known.amount || found.amount.currency().code() != known.currency {
        return Decision::Park(Misfit::OtherAmount);
    }
    if known.state == P::Authorizing {
        return match kind {
            K::Authorized | K::Declined | K::Cancelled | K::Captured | K::Refunded => {
                Decision::Signal(*kind)
            }
            K::ApprovalRequired | K::Other => Decision::Nothing,
        };
    }
    if !known.pays_with(&found.reference) {
        // Money under an authorization that our books do not have, or have given up.
        return match found.status {
            A::Authorized | A::Captured { .. } => Decision::Ask,
            _ => Decision::Nothing,
        };
    }
    match (known.state, &found.status) {
        // Our own void or capture, whose answer its saga is about to book.
        (P::Authorized, A::Cancelled) if known.asks_for("void") => Decision::Nothing,
        (P::Authorized, A::Captured { captured, refunded }) if known.asks_for("capture") => {
            let is_ours = captured.amount() == known.amount && refunded.amount().is_zero();
            if is_ours { Decision::Nothing } else { Decision::Later }
        }
        (P::Authorized, A::Cancelled | A::Captured { .. })
        | (P::Captured | P::PartiallyRefunded | P::Refunded, A::Cancelled)
        | (P::Voided | P::Declined, A::Authorized | A::Captured { .. }) => Decision::Ask,
        (P::Captured | P::PartiallyRefunded | P::Refunded, A::Captured { refunded, .. })
            if refunded.amount() > known.refunded_amount =>
        {
            Decision::Ask
        }
        _ => Decision::Nothing,
    }
}

fn decide_refund(known: &Known, refund: &MadeRefund) -> Decision {
    match (known.refund_state.as_deref(), &refund.status) {
        (Some("succeeded"), RefundStatus::Succeeded | RefundStatus::Pending)
        | (Some("failed"), _) => Decision::Nothing,
        // Our own refund, whose answer its saga is about to book.
        (None, _)
            if refund.key.is_some() && (known.asks_for("refund") || known.asks_for("void")) =>
        {
            match refund.status {
                RefundStatus::Failed(_) => Decision::Later,
                RefundStatus::Succeeded | RefundStatus::Pending => Decision::Nothing,
            }
        }
        _ => Decision::Ask,
    }
}

/// Whether the gateway, when it was asked, says what its event has said. A refund that has failed since explains every difference in amounts.
fn is_confirmed(news: &News, truth: &Truth) -> bool {
    use AuthorizationStatus as A;

    let Some(found) = &truth.authorization else { return false };
    match news {
        News::Authorization(_, told) => match (&told.status, &found.status) {
            (A::Cancelled, now) => *now == A::Cancelled,
            (A::Captured { refunded: told, .. }, A::Captured { refunded: now, .. }) => {
                let failed =
                    truth.refunds.iter().any(|r| matches!(r.status, RefundStatus::Failed(_)));
                told.amount() <= now.amount() || failed
            }
            (A::Captured { .. }, _) => false,
            _ => true,
        },
        // The release of a void is shown as a refund as well.
        News::Refund { refund, .. } => {
            found.status == A::Cancelled
                || truth.refunds.iter().any(|made| made.reference == refund.reference)
        }
        News::Dispute { .. } | News::Approval { .. } | News::NoConcern | News::Unreadable => true,
    }
}

/// Whether a customer's money is reserved or taken under the authorization.
fn holds_money(truth: &Truth) -> bool {
    match truth.authorization.as_ref().map(|found| &found.status) {
        Some(AuthorizationStatus::Authorized) => true,
        Some(AuthorizationStatus::Captured { captured, refunded }) => {
            refunded.amount() < captured.amount()
        }
        _ => false,
    }
}

/// The payment with this reference of the gateway, or else the one of the order that is being authorized, or else the one in force.
async fn read(
    tx: &mut PgConnection,
    reference: &Reference,
    order_id: Option<Uuid>,
    news: &News,
) -> Result<Option<Known>, sqlx::Error> {
    let refund = match news {
        News::Refund { refund, .. } => Some(refund),
        _ => None,
    };
    sqlx::query_as(
        r#"-- webhook: read payment
        with candidate as (
            select payment_id from shop.payment where authorization_id = $1
            union all
            select payment_id from shop.payment where order_id = $2 and state = 'authorizing'
            union all
            select payment_id from shop."order" where order_id = $2
        )
        select o.order_id, o.status, p.payment_id = o.payment_id as is_in_force, p.authorization_id, p.state, p.amount,
               p.currency, p.refunded_amount,
               array(select t.kind from shop.payment_transaction t
                     where t.payment_id = p.payment_id and t.settled_at is null) as asked,
               (select t.state from shop.payment_transaction t
                where t.payment_id = p.payment_id and t.kind = 'refund' and (t.reference = $3 or t.key = $4)
                limit 1) as refund_state
        from candidate join shop.payment p using (payment_id) join shop."order" o using (order_id)
        order by coalesce(p.authorization_id = $1, false) desc, p.state = 'authorizing' desc limit 1"#,
    )
    .bind(plain(&reference.0))
    .bind(order_id)
    .bind(refund.map(|refund| plain(&refund.reference.0)))
    .bind(refund.and_then(|refund| refund.key.as_deref()).map(plain))
    .fetch_optional(tx)
    .await
}

/// How the saga that authorizes a payment learns of a change at the gateway.
struct Hearing {
    /// The saga, if it is to be told of the event.
    listener: Option<Summary>,
    /// Whether the saga may end without booking the change: then the event is to come again.
    is_early: bool,
}

impl Hearing {
    /// The saga learns of the change by its own call.
    fn is_needless(&self) -> bool {
        self.listener.is_none() && !self.is_early
    }
}

/// Looks at the saga that authorizes the payment: the placement, or an authorization of its own. 1 round trip.
async fn hearing(
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
async fn tell(
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

/// Books a dispute, and keeps the event for a person if it says something new.
async fn dispute(
    tx: &mut PgConnection,
    event: &GatewayEvent,
    order: Uuid,
) -> Result<Reception, sqlx::Error> {
    let News::Dispute { reference, amount, status, .. } = &event.news else {
        return Ok(Reception::Nothing);
    };
    let reference = Reference(plain(&reference.0));
    let (reference, id) = (&reference, &*event.id);
    let news = Disputing { event: id, reference, amount: *amount, status: *status };
    match outside::dispute(tx, order, &news).await? {
        Disputed::Booked => park(tx, event, Misfit::Dispute, Some(order)).await,
        Disputed::OtherCurrency => park(tx, event, Misfit::OtherAmount, Some(order)).await,
        Disputed::Known => Ok(Reception::Nothing),
    }
}

async fn park(
    tx: &mut PgConnection,
    event: &GatewayEvent,
    why: Misfit,
    order: Option<Uuid>,
) -> Result<Reception, sqlx::Error> {
    let (reference, order_id, amount) = match &event.news {
        News::Authorization(_, found) => {
            (Some(&found.reference), order.or(found.order_id), Some(found.amount))
        }
        News::Refund { authorization, refund } => (Some(authorization), order, Some(refund.amount)),
        News::Dispute { authorization, amount, .. } => (Some(authorization), order, Some(*amount)),
        News::Approval { reference, .. } => (Some(reference), order, None),
        News::NoConcern | News::Unreadable => (None, order, None),
    };
    let (id, kind, at) = (&*event.id, &*event.name, event.at);
    let parked = Parked { id, why, kind, reference, order_id, amount, at };
    Ok(match parked::park(tx, &parked).await? {
        true => Reception::Parked(why),
        false => Reception::Full,
    })
}

/// Counts an event that concerns no payment of this shop.
async fn count(tx: &mut PgConnection, event: &GatewayEvent) -> Result<Reception, sqlx::Error> {
    sqlx::query(
        "-- webhook: count
        insert into shop.gateway_event_count as counted (kind, events, last_event_id, last_at)
        select case when exists (select from shop.gateway_event_count where kind = $1)
                      or (select count(*) from shop.gateway_event_count) < $3
                    then $1 else 'other' end, 1, $2, saga.now()
        on conflict (kind) do update set events = counted.events + 1,
            last_event_id = excluded.last_event_id, last_at = excluded.last_at",
    )
    .bind(&event.name)
    .bind(&event.id)
    .bind(KINDS_AT_MOST)
    .execute(tx)
    .await?;
    Ok(Reception::NoConcern)
}
