//! A placement, a shipment, a cancellation and a refund survive a crash at every point: before and after every claim, call and commit.

use stepwise_engine::{
    Status,
    testing::{Trial, survives_every_crash},
};

use crate::trials::{Cancellations, Placements, Refunds, Shipments};

/// The instance ends so after a crash at each of its points, of which there are so many.
pub(crate) fn survives(trial: &impl Trial, end: Status, at_least: usize) {
    let survived = survives_every_crash(trial);
    assert_eq!(survived.ends, [end]);
    let points: usize = survived.at.values().sum();
    assert!(points >= at_least, "only {points} crash points: {survived:?}");
}

#[test]
pub(crate) fn a_placement_survives_a_crash_at_every_point() {
    // Two calls and their commits alone are 8 points.
    survives(&Placements::paid_by("ok"), Status::Completed, 8);
}

#[test]
fn an_unwinding_placement_survives_a_crash_at_every_point() {
    survives(&Placements::paid_by("declined"), Status::Unwound, 10);
}

#[test]
fn a_placement_that_waits_for_its_approval_survives_a_crash_at_every_point() {
    survives(&Placements::paid_by("challenge"), Status::Completed, 12);
}

#[test]
pub(crate) fn a_cancellation_survives_a_crash_at_every_point() {
    survives(&Cancellations(Placements::paid_by("ok")), Status::Completed, 5);
}

#[test]
pub(crate) fn a_shipment_survives_a_crash_at_every_point() {
    survives(&Shipments(Placements::paid_by("ok")), Status::Completed, 5);
}

#[test]
pub(crate) fn a_refund_survives_a_crash_at_every_point() {
    survives(&Refunds(Placements::paid_by("ok")), Status::Completed, 5);
}
