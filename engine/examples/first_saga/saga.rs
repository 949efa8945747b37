//! A seat in a workshop: held, paid for, confirmed by the host; or everything is taken back. Pure: no clock, no database, no network.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepwise_engine::{
    CalledOff, Early, EffectKind, Next, Saga, Step, Terms, Undo, Unexpected, WhenUnknown, to,
    unwind,
};

pub(crate) struct Seat;

/// An id, never a name or an address: what is stored here is seen by operators and kept.
type Guest = String;

/// What an instance remembers, named after what it waits for.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum State {
    Holding(Guest),
    Paying(Guest),
    AwaitingHost(Guest),
    Admitting,
    Admitted,
}

/// What can happen to it. A refusal is an event like any other.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Event {
    Held,
    Full,
    Paid,
    Declined,
    HostConfirms,
    HostDeclines,
    HostIsSilent,
    Admitted,
}

/// Steps in our own database.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Tx {
    Hold(Guest),
    Release(Guest),
    Admit(Guest),
}

/// Steps outside.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) enum Activity {
    Charge,
    Refund,
}

/// Why everything is taken back.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    Full,
    Declined,
    HostDeclined,
    HostWasSilent,
    CalledOff(String),
}

impl Saga for Seat {
    const NAME: &'static str = "seat";
    const VERSION: u16 = 1;
    type Input = Guest;
    type State = State;
    type Event = Event;
    type Tx = Tx;
    type Activity = Activity;
    type Reason = Reason;

    fn start(guest: Guest) -> Next<Self> {
        to(State::Holding(guest.clone())).run(Tx::Hold(guest))
    }

    fn on(state: State, event: Event) -> Result<Next<Self>, Unexpected> {
        use Event as E;
        use State as S;
        Ok(match (state, event) {
            (S::Holding(guest), E::Held) => to(S::Paying(guest)).call(Activity::Charge),
            (S::Holding(_), E::Full) => unwind(Reason::Full),
            (S::Paying(guest), E::Paid) => to(S::AwaitingHost(guest))
                .or_after(Duration::from_secs(3 * 86_400), E::HostIsSilent),
            (S::Paying(_), E::Declined) => unwind(Reason::Declined),
            (S::AwaitingHost(guest), E::HostConfirms) => to(S::Admitting).run(Tx::Admit(guest)),
            (S::AwaitingHost(_), E::HostDeclines) => unwind(Reason::HostDeclined),
            (S::AwaitingHost(_), E::HostIsSilent) => unwind(Reason::HostWasSilent),
            (S::Admitting, E::Admitted) => to(S::Admitted).done(),
            (state, event) => return Err(Unexpected::new(&state, &event)),
        })
    }

    fn undo(step: &Step<Self>) -> Undo<Self> {
        match step {
            Step::Tx(Tx::Hold(guest)) => Undo::By(Step::Tx(Tx::Release(guest.clone()))),
            Step::Activity(Activity::Charge) => Undo::By(Step::Activity(Activity::Refund)),
            Step::Tx(Tx::Admit(_)) => Undo::Pivot,
            Step::Tx(Tx::Release(_)) | Step::Activity(Activity::Refund) => Undo::Nothing,
        }
    }

    fn terms(activity: &Activity) -> Terms {
        match activity {
            Activity::Charge => Terms {
                effect: Some(EffectKind {
                    kind: "charge",
                    amount: Some(("25.00".to_owned(), "EUR".to_owned())),
                }),
                // No answer? Ask. "Never seen" counts only a second after the attempt: it may still be on its way.
                unknown: WhenUnknown::Ask { settles_after: Duration::from_secs(1) },
                ..Terms::new()
            },
            Activity::Refund => Terms::new(),
        }
    }

    fn called_off(why: CalledOff<Activity>) -> Reason {
        Reason::CalledOff(format!("{why:?}"))
    }

    /// The host may answer before the charge has: the answer is kept until somebody waits for it.
    fn early(signal: &Event) -> Early {
        match signal {
            Event::HostConfirms | Event::HostDeclines => Early::Keep,
            _ => Early::Refuse,
        }
    }
}
