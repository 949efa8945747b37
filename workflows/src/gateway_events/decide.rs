//! The decision about an event: pure, from the event and our books.

use super::books::Known;
use crate::payment::{
    PaymentState,
    gateway::{AuthorizationStatus, GatewayEventKind, MadeRefund, News, RefundStatus},
    parked::Misfit,
};

/// The next step, as far as our books can tell.
pub(super) enum Decision {
    Nothing,
    Later,
    /// The saga that authorizes the payment is to hear of this kind of change, if it listens.
    Signal(GatewayEventKind),
    Ask,
    BookDispute,
    Park(Misfit),
}

/// Whether an event says something that our books do not say. Pure.
pub(super) fn decide(known: &Known, news: &News) -> Decision {
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
