// The samples of the saga in `seat.rs`, for the examples in the documentation of the test kit.

use stepwise_engine::testing::{Sample, Samples};

impl Samples for Seat {
    fn inputs() -> Vec<u32> {
        vec![7]
    }

    fn outcomes(step: &Step) -> Vec<Sample<Event>> {
        match step {
            Step::Hold(_) => vec![Sample::done(Event::Held), Sample::refused(Event::Full)],
            Step::Charge => vec![Sample::done(Event::Paid), Sample::refused(Event::Declined)],
            Step::Admit => vec![Sample::done(Event::Admitted)],
        }
    }

    fn signals() -> Vec<Signal> {
        vec![Signal::Confirms, Signal::Declines]
    }
}
