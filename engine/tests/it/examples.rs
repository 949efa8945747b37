//! The examples, run as a reader runs them: on an empty database. Their sagas are explored like any other.

use std::{path::Path, process::Command, time::SystemTime};

use sqlx::PgPool;
use stepwise_engine::{
    Engine, Start, Status,
    testing::{
        Database, Sample, Samples, Trial, explore, survives_every_crash, unwinds_from_every_step,
    },
};
use uuid::Uuid;

#[expect(dead_code, reason = "its saga is looked at here, its program is run")]
#[path = "../../examples/import.rs"]
mod import;
#[expect(dead_code, reason = "its saga is looked at here, its program is run")]
#[path = "../../examples/subscription.rs"]
mod subscription;
#[expect(dead_code, reason = "its saga is looked at here, its program is run")]
#[path = "../../examples/trip.rs"]
mod trip;

fn changed(path: &Path) -> SystemTime {
    let file = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.modified().expect("files have times here")
}

/// Runs an example, which cargo builds beside the tests, on a database of its own; answers what it printed.
pub(crate) async fn run(name: &str) -> String {
    let test = std::env::current_exe().expect("a test is a program");
    let target = test.ancestors().nth(2).expect("it lies in target/<profile>/deps");
    let program = target.join("examples").join(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let source = [folder.join(format!("{name}.rs")), folder.join(name).join("main.rs")];
    let source = source.iter().find(|path| path.exists()).expect("the example is there");
    assert!(
        changed(&program) >= changed(source),
        "build it: cargo build -p stepwise-engine --example {name}"
    );
    let database = Database::fresh(&[]).await;
    let ran = Command::new(program).env("DATABASE_URL", database.url()).output();
    let ran = ran.expect("it can be run");
    let printed = String::from_utf8(ran.stdout).expect("UTF-8");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{name}: {}\n{printed}\n{said}", ran.status);
    database.close().await;
    printed
}

/// These come in this order.
#[track_caller]
pub(crate) fn tells(printed: &str, parts: &[&str]) {
    let mut rest = printed;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("{part:?} is not told, or not in its place:\n{printed}")
        };
        rest = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trip_cancels_hotel_and_flight_when_the_car_is_sold_out() {
    let printed = run("trip").await;
    tells(&printed, &["A trip to Lisbon", "completed", "car       95.00 EUR  confirmed"]);
    tells(
        &printed,
        &[
            "A trip to Rome",
            "no car left",
            "hotel-5 cancelled, because: sold out in Rome",
            "flight-4 cancelled, because: sold out in Rome",
            "it is unwound",
            "flight   120.00 EUR  undone",
            "hotel    340.00 EUR  undone",
            "car       95.00 EUR  refuted",
        ],
    );
}

/// All of it: imports, table, state, events, transitions and how each step is done and undone. Blank lines and comments do not count.
#[test]
fn a_saga_of_three_steps_with_undos_takes_under_100_lines() {
    let text = include_str!("../../examples/trip.rs");
    let (saga, _) = text.split_once("// ---- A program").expect("the program comes last");
    for undo in ["undo_call(cancel_flight)", "undo_call(cancel_hotel)", "undo_call(cancel_car)"] {
        assert!(saga.contains(undo), "{undo} is missing");
    }
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = saga.lines().filter(is_code).count();
    assert!(lines < 100, "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscription_lives_for_years_in_one_instance_each() {
    let printed = run("subscription").await;
    let paid = |year: u32| {
        (1..=12).map(move |month| format!(r#"Paid":{{"month":{month},"refusals":0,"year":{year}"#))
    };
    let whole = paid(1).collect::<Vec<_>>();
    tells(&printed, &whole.iter().map(String::as_str).collect::<Vec<_>>());
    tells(
        &printed,
        &[
            r#"Unpaid":{"month":5,"refusals":1,"year":2"#,
            r#"Unpaid":{"month":5,"refusals":2,"year":2"#,
            r#"Paid":{"month":5,"refusals":2,"year":2"#,
            r#"Paid":{"month":12,"refusals":0,"year":2"#,
            r#"Paid":{"month":1,"refusals":0,"year":3"#,
            "ada cancels: Applied",
            "cancelled",
            "completed after",
            "completed after",
            "completed after",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_import_joins_ten_thousand_children_and_counts_those_that_failed() {
    let printed = run("import").await;
    tells(&printed, &["10000 children", "9897 rows completed, 103 failed", "completed", "rows/s"]);
}

/// Trips with their agency.
#[derive(Default)]
struct Trips(trip::Agency);

impl Trial for Trips {
    type Saga = trip::Trip;
    type Services = trip::Agency;

    fn services(&self, _: PgPool) -> trip::Agency {
        self.0.clone()
    }

    async fn start(&self, engine: &Engine, run: usize) -> Uuid {
        let city = format!("city-{run}");
        let mut tx = engine.begin().await.expect("the database is there");
        let start = Start::new(&city, city.clone());
        let started = engine.start::<trip::Trip>(&mut tx, start).await.expect("it can be started");
        tx.commit().await.expect("the database is there");
        started.id
    }

    async fn balances(&self, _: &Engine, id: Uuid, status: Status) -> Result<(), String> {
        let bookings = self.0.bookings.lock().expect("plain data");
        let open = bookings.keys().filter(|key| key.starts_with(&id.to_string())).count();
        let expected = if status == Status::Completed { 3 } else { 0 };
        if open == expected { Ok(()) } else { Err(format!("{open} bookings, not {expected}")) }
    }
}

#[test]
fn the_trip_survives_every_crash_and_unwinds_from_every_step() {
    assert!(survives_every_crash(&Trips::default()).at.len() >= 5);
    let unwound = unwinds_from_every_step(&Trips::default());
    assert!(unwound.points.len() >= 10, "{:?}", unwound.points);
}

#[test]
fn the_sagas_of_the_examples_are_sound() {
    for map in [
        explore::<trip::Trip>(),
        explore::<subscription::Subscription>(),
        explore::<import::Row>(),
        explore::<import::Import>(),
    ] {
        map.assert_sound();
    }
}

impl Samples for trip::Trip {
    fn inputs() -> Vec<String> {
        vec!["Rome".to_owned()]
    }

    fn outcomes(_: &trip::Step) -> Vec<Sample<trip::Event>> {
        vec![Sample::done(trip::Event::Booked), Sample::refused(trip::Event::SoldOut)]
    }
}

impl Samples for subscription::Subscription {
    fn inputs() -> Vec<u32> {
        vec![1, 2]
    }

    fn outcomes(_: &subscription::Step) -> Vec<Sample<subscription::Event>> {
        use subscription::Event;
        vec![Sample::done(Event::Charged), Sample::refused(Event::Refused)]
    }

    fn signals() -> Vec<subscription::Signal> {
        vec![subscription::Signal::Cancel]
    }
}

impl Samples for import::Row {
    fn inputs() -> Vec<u32> {
        vec![0]
    }

    fn outcomes(_: &import::RowStep) -> Vec<Sample<import::RowEvent>> {
        use import::RowEvent;
        vec![Sample::done(RowEvent::Found), Sample::refused(RowEvent::NoSuchStreet)]
    }
}

impl Samples for import::Import {
    fn inputs() -> Vec<u32> {
        vec![1]
    }

    fn outcomes(_: &import::Step) -> Vec<Sample<import::Event>> {
        vec![Sample::done(import::Event::Reported)]
    }
}
