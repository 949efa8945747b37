//! The words of the journal and of the ledger.

/// What a journal row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalKind {
    /// The instance was started.
    Start,
    /// A call was answered.
    Outcome,
    /// A tx step ran.
    Tx,
    /// A timer fired.
    Timer,
    /// The saga was asked again about what had happened.
    Event,
    /// A signal was applied.
    Signal,
    /// A signal came early and is kept.
    SignalKept,
    /// A signal was refused.
    SignalRefused,
    /// An attempt failed.
    Attempt,
    /// The provider was asked and has not acted.
    Probe,
    /// What had happened outside was found out after the instance had begun to unwind.
    Settled,
    /// A step was taken back.
    Undo,
    /// A call that was not done is not wanted any more.
    Dropped,
    /// The last child has ended.
    Children,
    /// The children were called off.
    ChildrenCalledOff,
    /// It was cancelled, or its deadline passed.
    CalledOff,
    /// Its deadline passed after its pivot.
    DeadlinePassed,
    /// An effect was found that was believed not to exist.
    LateEffect,
    /// An operator used a verb.
    Operator,
    /// It needs a person.
    Stuck,
    /// Its worker let go of it.
    Released,
}

impl JournalKind {
    /// As in the journal.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Outcome => "outcome",
            Self::Tx => "tx",
            Self::Timer => "timer",
            Self::Event => "event",
            Self::Signal => "signal",
            Self::SignalKept => "signal kept",
            Self::SignalRefused => "signal refused",
            Self::Attempt => "attempt",
            Self::Probe => "probe",
            Self::Settled => "settled",
            Self::Undo => "undo",
            Self::Dropped => "dropped",
            Self::Children => "children",
            Self::ChildrenCalledOff => "children called off",
            Self::CalledOff => "called off",
            Self::DeadlinePassed => "deadline passed",
            Self::LateEffect => "late effect",
            Self::Operator => "operator",
            Self::Stuck => "stuck",
            Self::Released => "released",
        }
    }

    /// Does it show that driving the instance does not end the process? A step or undo was settled; a mere attempt was not.
    pub(crate) fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Outcome | Self::Tx | Self::Timer | Self::Undo | Self::Settled | Self::Children
        )
    }
}

/// What became of an effect in the ledger. A new one is an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EffectStatus {
    /// It stands outside.
    Confirmed,
    /// There is none.
    Refuted,
    /// It was taken back.
    Undone,
    /// A person answers for it.
    Waived,
}

impl EffectStatus {
    /// As in the ledger.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Undone => "undone",
            Self::Waived => "waived",
        }
    }
}
