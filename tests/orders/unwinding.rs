//! A placement unwinds from every step, a shipment until its money is taken, a refund until the money is back; a cancellation only goes forward.
//! Whatever either does may be done twice.

use stepwise_engine::testing::{Trial, unwinds_from_every_step};

use crate::trials::{Cancellations, Placements, Refunds, Shipments};

/// The points from which a saga unwinds that is past its pivot when it starts.
pub(crate) const PAST_ITS_PIVOT: [&str; 0] = [];

/// The instance is taken back from each of these points, and each of these steps has been done twice.
pub(crate) fn unwinds(trial: &impl Trial, points: &[&str], repeated: &[&str]) {
    let unwound = unwinds_from_every_step(trial);
    assert_eq!(unwound.points, points);
    assert_eq!(unwound.repeated, repeated);
}

#[test]
pub(crate) fn a_placement_unwinds_from_every_step() {
    unwinds(
        &Placements::paid_by("ok"),
        &[
            "cancelled before Create",
            "Create refuses by Refused",
            "Create not done and never heard of",
            "Create done and never heard of",
            "cancelled after Create",
            "cancelled before Confirm",
            "Confirm refuses by Refused",
            "Confirm refuses by Voided",
            "Confirm not done and never heard of",
            "Confirm done and never heard of",
            "cancelled after Confirm",
            "cancelled before PlaceOrder",
        ],
        &[
            "Create repeated",
            "Confirm repeated",
            "PlaceOrder repeated",
            "void repeated, an undo",
            "cancel repeated, an undo",
            "release_stock repeated, an undo",
        ],
    );
}

#[test]
fn a_placement_that_waits_for_its_approval_unwinds_from_every_step() {
    let unwound = unwinds_from_every_step(&Placements::paid_by("challenge"));
    let asked = unwound.points.iter().filter(|point| point.contains("Ask")).collect::<Vec<_>>();
    assert_eq!(
        asked,
        [
            "cancelled before Ask",
            "Ask refuses by Refused",
            "Ask refuses by Voided",
            "Ask not done and never heard of",
            "Ask done and never heard of",
            "cancelled after Ask",
        ]
    );
}

#[test]
pub(crate) fn a_cancellation_has_no_way_back_and_may_be_repeated() {
    unwinds(
        &Cancellations(Placements::paid_by("ok")),
        &PAST_ITS_PIVOT,
        &["Void repeated", "RecordRefund repeated"],
    );
}

#[test]
pub(crate) fn a_shipment_is_called_off_until_its_money_is_taken() {
    unwinds(
        &Shipments(Placements::paid_by("ok")),
        &["cancelled before Capture", "Capture refuses by Refused"],
        &["Capture repeated", "Ship repeated", "withdraw repeated, an undo"],
    );
}

#[test]
pub(crate) fn a_refund_is_called_off_until_the_money_is_back() {
    unwinds(
        &Refunds(Placements::paid_by("ok")),
        &["cancelled before Refund", "Refund refuses by Refused"],
        &["Refund repeated", "Record repeated", "withdraw repeated, an undo"],
    );
}
