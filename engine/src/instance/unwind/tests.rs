//! TODO

use serde::{Deserialize, Serialize};

use super::{How, OpenUndo, Taken};
use crate::{
    instance::upcast,
    saga::{Done, Never, Next, Saga, Unexpected, to},
};

struct Seat;

crate::steps! {
    enum Step done by Seats -> Event, undone for String {
        Hold(guest: u8) => tx(hold).undo_tx(release),
        Charge => call(charge).repeatable().undo_call(refund),
        Admit => tx(admit).pivot(),
    }
    enum CallerStep done by the caller {
        Release(guest: u8) => undo_tx(release_as_recorded),
        Refund => undo_call(refund_as_recorded),
    }
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Event;

impl Saga for Seat {
    const NAME: &'static str = "seat";
    type Input = ();
    type State = ();
    type Event = Event;
    type Signal = Never;
    type Step = Step;
    type Reason = String;

    fn start((): ()) -> Next<Self> {
        to(()).run(Step::Admit)
    }

    fn on((): (), Event: Event) -> Result<Next<Self>, Unexpected> {
        Ok(to(()).done())
    }
}

fn read(text: &str) -> Result<OpenUndo<Seat>, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn a_row_names_the_step_and_is_read_as_it_was_written() {
    for (text, how, shown) in [
        (r#"{"no":2,"step":{"Hold":7},"back":"in_tx"}"#, How::InTx, r#"{"release":{"Hold":7}}"#),
        (r#"{"no":3,"step":"Charge","back":"outside"}"#, How::Outside, r#"{"refund":"Charge"}"#),
        (
            r#"{"no":0,"caller":{"Release":7},"back":"in_tx"}"#,
            How::InTx,
            r#"{"release_as_recorded":{"Release":7}}"#,
        ),
        (r#"{"no":4,"back":"children"}"#, How::Children, r#""children""#),
        (r#"{"no":5,"back":"person","failed":"it was done"}"#, How::Person, r#""person""#),
        (
            r#"{"no":6,"step":"Charge","back":"outside","effect":true,"anew":9}"#,
            How::Outside,
            r#"{"refund":"Charge"}"#,
        ),
    ] {
        let open = read(text).expect("it can be read");
        assert_eq!(open.how(), how, "{text}");
        assert_eq!(open.shown().text().expect("plain data"), shown);
        assert_eq!(serde_json::to_string(&open).expect("plain data"), text);
    }
}

#[test]
fn what_an_earlier_release_wrote_is_read_as_an_undo_of_the_callers_block() {
    let tx = read(r#"{"no":1,"by":{"tx":{"Release":7}},"effect":true}"#).expect("readable");
    assert!(
        matches!(&tx.taken, Taken::Done(Done::Caller(CallerStep::Release(guest))) if *guest == 7)
    );
    assert_eq!((tx.no, tx.effect, tx.how()), (1, true, How::InTx));
    let call = read(r#"{"no":2,"by":{"activity":"Refund"},"failed":"no"}"#).expect("readable");
    assert!(matches!(call.taken, Taken::Done(Done::Caller(CallerStep::Refund))));
    assert_eq!(call.failed.as_deref(), Some("no"));
    assert!(matches!(
        read(r#"{"no":3,"by":"children"}"#).expect("readable").taken,
        Taken::Children
    ));
    assert!(matches!(read(r#"{"no":3,"by":"person"}"#).expect("readable").taken, Taken::Person));
    let watched = |undo| upcast::watched::<Seat>(1, r#""Charge""#, undo).expect("readable");
    assert!(matches!(watched(r#""step""#), Done::Step(Step::Charge)));
    assert!(matches!(watched(r#"{"activity":"Refund"}"#), Done::Caller(CallerStep::Refund)));
}

#[test]
fn an_undo_of_nothing_or_of_what_cannot_be_taken_back_is_not_read() {
    for (text, why) in [
        (
            r#"{"no":1,"step":"Admit","back":"in_tx"}"#,
            "Step(Admit) was to be taken back, and this version has no undo",
        ),
        (r#"{"no":1}"#, "it does not say what it takes back"),
        (r#"{"no":1,"back":"in_tx"}"#, "it does not say what it takes back"),
        (r#"{"no":1,"step":"Charge","caller":"Refund"}"#, "it does not say what it takes back"),
        (r#"{"no":1,"by":{"tx":"Admit"}}"#, "unknown variant `Admit`"),
    ] {
        let error = read(text).err().expect("it cannot be read").to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}
