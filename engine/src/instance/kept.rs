//! Offering to an instance the signals that are kept for it. Pure.

use crate::{
    base::status::Status,
    instance::{Entry, Instance, apply::on},
    record::words::JournalKind,
    saga::{Next, Saga, Signals, Then},
};

impl<S: Saga> Instance<S> {
    /// Offers the kept signals in the order of their arrival, as live ones are offered ([`crate::Engine::signal`]): a state that waits takes
    /// whatever the saga takes, a busy one only what stays or unwinds. An instance that has ended or unwinds takes none.
    pub(crate) fn take_kept(&mut self) {
        let mut at = 0;
        while at < self.kept.len() && self.status == Status::Running && !self.progress.ended {
            let event = self.kept[at].1.clone().event();
            match on::<S>(self.state.clone(), event.clone()) {
                Ok(next) if self.waits() || matches!(next.then, Then::Stay | Then::Unwind(_)) => {
                    if let Some((id, _)) = self.kept.remove(at) {
                        self.taken.push(id);
                    }
                    self.progress.kept = i16::try_from(self.kept.len()).unwrap_or(i16::MAX);
                    if let Err(forbidden) =
                        self.decide(Entry::new(JournalKind::Signal, &event), next)
                    {
                        self.cannot_take(event, forbidden);
                    }
                    at = 0;
                }
                Ok(_) | Err(_) => at += 1,
            }
        }
    }

    /// Offers the kept signals. Returns true if one was taken.
    pub(crate) fn offer_kept(&mut self) -> bool {
        self.take_kept();
        !self.taken.is_empty()
    }

    /// Takes the first kept signal that would unwind the instance, and returns its reason. Its sender was told that it is kept, so that signal, and not
    /// the operator, decides how the business ends.
    pub(super) fn take_kept_reason(&mut self) -> Option<S::Reason> {
        let unwinds = |signal: &S::Signal| match on::<S>(self.state.clone(), signal.clone().event())
        {
            Ok(Next { then: Then::Unwind(reason), .. }) => Some(reason),
            _ => None,
        };
        let (at, reason) =
            self.kept.iter().enumerate().find_map(|(at, kept)| Some((at, unwinds(&kept.1)?)))?;
        if let Some((id, _)) = self.kept.remove(at) {
            self.taken.push(id);
        }
        Some(reason)
    }
}
