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
//! - An event about a refund or a dispute names no order. If the books do not have its authorization either, the gateway is asked whose it is: it may
//!   be that of a payment that is being authorized.

mod answer;
mod books;
mod decide;
pub mod echo;
mod hear;
mod park;
pub mod retry;

use sqlx::PgConnection;
use stepwise_engine::{Engine, SignalError};
use uuid::Uuid;

pub use self::answer::{ask, conclude};
use self::{
    books::read,
    decide::{Decision, decide},
    hear::tell,
    park::{book_dispute, count, park},
};
use crate::{
    payment::{
        gateway::{GatewayEvent, News, Reference},
        parked::{Misfit, plain},
    },
    sagas::paypal_approval::webhook::report,
};

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
    /// The event should be parked, but [`AT_MOST`](crate::payment::parked::AT_MOST) events wait for an operator already. The caller rolls back: if the books kept what they
    /// got from the event, its next delivery would say nothing new, and no operator would hear of it.
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
    reference: Reference,
    subject: Subject,
}

/// The order that a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// The order of a payment in our books.
    Order {
        id: Uuid,
        /// Whether our books have a payment with this authorization that holds or held money of the order.
        is_booked: bool,
    },
    /// Neither the event nor our books name an order: only the gateway knows for which one the authorization was made.
    Unnamed,
}

/// Compares an event with our books, in the caller's transaction. Round trips: 1 for an echo, 1 or 2 to ask, 2 to count, 3 to park, 6 to signal.
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
    let ask = |subject| Look::Ask(Question { reference: reference.clone(), subject });
    let Some(known) = read(tx, reference, order_id, &event.news).await? else {
        return Ok(match (&event.news, order_id) {
            (News::Refund { .. } | News::Dispute { .. }, _) => ask(Subject::Unnamed),
            (_, Some(_)) => Look::Done(park(tx, event, Misfit::UnknownPayment, None).await?),
            // Neither our reference nor our metadata: another shop's payment.
            (_, None) => Look::Done(count(tx, event).await?),
        });
    };
    let id = known.order_id;
    Ok(Look::Done(match decide(&known, &event.news) {
        Decision::Nothing => Reception::Nothing,
        Decision::Later => Reception::Later,
        Decision::Signal(kind) => tell(engine, tx, event, &known, kind).await?,
        Decision::Park(why) => park(tx, event, why, Some(id)).await?,
        Decision::Ask => {
            return Ok(ask(Subject::Order { id, is_booked: known.pays_with(reference) }));
        }
        Decision::BookDispute => book_dispute(tx, event, id).await?,
    }))
}
