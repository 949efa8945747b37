//! A worker's lease as its own process sees it, and whether the worker may judge the leases of others.

use std::{
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

/// When a worker last renewed its lease, and since when without a gap. By the monotonic clock of its process.
///
/// A lease that ran out means that its worker has died, unless the database was away for longer than a lease: then every lease has run out, and
/// the others are about to renew theirs. A worker therefore judges nobody until it has itself been in contact with the database for
/// one whole lease: after its start, and again after each gap in its renewals.
pub(crate) struct Contact {
    lease: Duration,
    times: RwLock<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    renewed_at: Instant,
    judges_from: Instant,
}

impl Contact {
    /// The lease was taken by a statement that was sent at `asked`.
    pub(crate) fn begin(asked: Instant, lease: Duration) -> Self {
        let times = Times { renewed_at: asked, judges_from: asked + lease };
        Self { lease, times: RwLock::new(times) }
    }

    /// The lease was renewed by a statement that was sent at `asked`. Renewals are a third of a lease apart; where it was more than half of one,
    /// the database may have been away for so long that others lost their leases.
    pub(crate) fn renewed(&self, asked: Instant) {
        let mut times = self.times.write().unwrap_or_else(PoisonError::into_inner);
        if asked.duration_since(times.renewed_at) > self.lease / 2 {
            times.judges_from = Instant::now() + self.lease;
        }
        times.renewed_at = asked;
    }

    fn times(&self) -> Times {
        *self.times.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a lease lasts.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Does this worker still hold its own lease?
    pub(crate) fn holds_lease(&self) -> bool {
        self.times().renewed_at + self.lease > Instant::now()
    }

    /// May this worker take a lease that ran out for a death? Not while it has no lease itself: then the database was away, and the others
    /// are about to renew as well.
    pub(crate) fn may_judge(&self) -> bool {
        self.holds_lease() && self.times().judges_from <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_worker_judges_nobody_until_it_has_renewed_without_a_gap_for_a_whole_lease() {
        let begun = Instant::now().checked_sub(3 * LEASE).expect("the machine runs for longer");
        let contact = Contact::begin(begun, LEASE);
        for thirds in 1..=9 {
            contact.renewed(begun + thirds * LEASE / 3);
        }
        assert!(contact.holds_lease() && contact.may_judge());
        contact.renewed(Instant::now() + 2 * LEASE);
        assert!(contact.holds_lease() && !contact.may_judge(), "the database was away");
    }

    #[test]
    fn a_worker_that_has_lost_its_own_lease_judges_nobody() {
        let begun = Instant::now().checked_sub(3 * LEASE).expect("the machine runs for longer");
        let contact = Contact::begin(begun, LEASE);
        assert!(!contact.holds_lease() && !contact.may_judge(), "nobody could renew");
    }

    #[test]
    fn a_worker_that_has_just_begun_judges_nobody() {
        assert!(!Contact::begin(Instant::now(), LEASE).may_judge());
    }
}
