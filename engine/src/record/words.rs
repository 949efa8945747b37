//! The words of the journal and of the ledger.

use crate::base::words::words;

words! {
    /// The subject of a journal row.
    pub enum JournalKind {
        /// The instance was started.
        Start = "start",
        /// A call was answered.
        Outcome = "outcome",
        /// A tx step ran.
        Tx = "tx",
        /// A timer fired.
        Timer = "timer",
        /// The saga was asked again about an event that it had not been able to take.
        Event = "event",
        /// A signal was applied.
        Signal = "signal",
        /// A signal came early and is kept.
        SignalKept = "signal kept",
        /// A signal was refused.
        SignalRefused = "signal refused",
        /// An attempt failed.
        Attempt = "attempt",
        /// The provider was asked and has not acted.
        Probe = "probe",
        /// An unknown outcome was settled after the instance had begun to unwind.
        Settled = "settled",
        /// A step was taken back.
        Undo = "undo",
        /// A call that was not done is not wanted any more.
        Dropped = "dropped",
        /// The last child has ended.
        Children = "children",
        /// The children were called off.
        ChildrenCalledOff = "children called off",
        /// It was cancelled, or its deadline passed.
        CalledOff = "called off",
        /// Its deadline passed after its pivot.
        DeadlinePassed = "deadline passed",
        /// An effect was found that was believed not to exist.
        LateEffect = "late effect",
        /// An operator used a verb.
        Operator = "operator",
        /// It needs a person.
        Stuck = "stuck",
        /// Its worker released it.
        Released = "released",
        ..
        /// A kind of a newer build. It is only read.
        Other
    }
}

impl JournalKind {
    /// Does it show that driving the instance does not end the process? A step or an undo was finished; a mere attempt shows nothing.
    pub(crate) fn shows_progress(&self) -> bool {
        matches!(
            self,
            Self::Outcome | Self::Tx | Self::Timer | Self::Undo | Self::Settled | Self::Children
        )
    }
}

words! {
    /// The outcome of an attempt that failed, in the journal row of the kind `attempt`.
    pub enum AttemptOutcome {
        /// Surely nothing happened: the call did not reach the provider, or the transaction of a tx step was rolled back.
        NotDone = "not_done",
        /// Surely nothing happened: the provider answered so.
        AnsweredNo = "answered_no",
        /// It may have happened.
        Unknown = "unknown",
        /// The undo was not done, or nobody knows whether it was. It is tried again.
        NotUndone = "not_undone",
        /// The undo can never be done.
        CannotUndo = "cannot_undo",
    }
}

words! {
    /// The status of an effect in the ledger, as far as it is known.
    pub enum EffectStatus {
        /// Its step was decided; nobody knows yet whether it stands outside.
        Intent = "intent",
        /// It stands outside.
        Confirmed = "confirmed",
        /// There is none.
        Refuted = "refuted",
        /// It was taken back.
        Undone = "undone",
        /// A person answers for it.
        Waived = "waived",
    }
}
