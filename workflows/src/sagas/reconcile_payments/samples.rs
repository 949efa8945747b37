//! Samples of everything that may happen to a reconciliation, for exploring it and for trying it.

use chrono::DateTime;
use stepwise_engine::testing::{Sample, Samples};
use uuid::Uuid;

use super::{Answers, Event as E, ReconcilePayments, State, Step};
use crate::{
    money::{Currency, Money},
    order::{outside::Truth, reconcile::Question},
    payment::gateway::{
        Authorization, AuthorizationStatus, MadeRefund, Reason, Reference, RefundStatus,
    },
};

pub(super) fn question() -> Question {
    Question {
        order_id: Uuid::nil(),
        payment_id: Uuid::nil(),
        reference: Reference("pi_1".to_owned()),
        changed_at: DateTime::UNIX_EPOCH,
        state: "captured".to_owned(),
        unanswered: 1,
    }
}

pub(super) fn truth() -> Truth {
    let usd = |cents| Money::from_minor(cents, Currency::USD).expect("a small amount");
    let refund = |status| MadeRefund {
        reference: Reference("re_1".to_owned()),
        amount: usd(400),
        status,
        key: Some("key".to_owned()),
    };
    Truth {
        authorization: Some(Authorization {
            reference: Reference("pi_1".to_owned()),
            order_id: Some(Uuid::nil()),
            amount: usd(4_200),
            status: AuthorizationStatus::Captured { captured: usd(4_200), refunded: usd(400) },
        }),
        refunds: vec![
            refund(RefundStatus::Pending),
            refund(RefundStatus::Succeeded),
            refund(RefundStatus::Failed(Reason::new("lost_or_stolen_card"))),
        ],
    }
}

pub(super) fn answers() -> Answers {
    Answers {
        differ: vec![(question(), truth())],
        unanswered: vec![question()],
        agreed: Vec::new(),
    }
}

impl Samples for ReconcilePayments {
    fn inputs() -> Vec<u16> {
        vec![2]
    }

    fn outcomes(step: &Step) -> Vec<Sample<E>> {
        match step {
            Step::Choose(_) => {
                vec![Sample::done(E::Due(vec![question()])), Sample::done(E::NoneDue)]
            }
            Step::Ask(_) => vec![
                Sample::done(E::Answered(Answers::default())),
                Sample::done(E::Answered(answers())),
            ],
            Step::Apply(_) => vec![Sample::done(E::Applied)],
        }
    }

    fn position(state: &State) -> String {
        let left = match state {
            State::Choosing(left) | State::Asking(left) | State::Applying(left) => *left,
            State::Over => 0,
        };
        format!("{} {}", Self::name(state), left.min(1))
    }
}
