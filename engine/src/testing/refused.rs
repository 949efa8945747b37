//! What the compiler refuses, tried by doctests (that is all that this file is for). Each differs from the first one, which compiles, in
//! one line; so it is that line which is refused. (The error codes are for readers: a stable compiler does not compare them.)
//!
//! A saga, its steps, its signal:
//! ```
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, State, Event, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//!     Step::Activity(Activity::Tell) => Undo::Nothing,
//! });
//! async fn tell(tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(signal::<Ticket>(tx, id, "told", Event::Bought).await);
//! }
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Desk).build()
//! }
//! ```
//!
//! A step without its way back:
//! ```compile_fail,E0004
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, State, Event, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//! });
//! ```
//!
//! An undo that is no step of the saga:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, State, Event, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Event::Bought),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//!     Step::Activity(Activity::Tell) => Undo::Nothing,
//! });
//! ```
//!
//! A signal that is another saga's event:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! # saga!(Ticket, State, Event, |step| match step {
//! #     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//! #     Step::Tx(Tx::Sell) => Undo::Nothing,
//! #     Step::Activity(Activity::Tell) => Undo::Nothing,
//! # });
//! async fn tell(tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(signal::<Ticket>(tx, id, "told", OtherEvent::Bought).await);
//! }
//! ```
//!
//! Steps that are another saga's:
//! ```compile_fail,E0271
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, State, OtherEvent, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//!     Step::Activity(Activity::Tell) => Undo::Nothing,
//! });
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Desk).build()
//! }
//! ```
//!
//! A state that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, Unwritable, Event, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//!     Step::Activity(Activity::Tell) => Undo::Nothing,
//! });
//! ```
//!
//! An event that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, stepwise_engine::{Engine, Step, Undo, signal}};
//! saga!(Ticket, State, Unwritable, |step| match step {
//!     Step::Tx(Tx::Buy) => Undo::By(Step::Tx(Tx::Sell)),
//!     Step::Tx(Tx::Sell) => Undo::Nothing,
//!     Step::Activity(Activity::Tell) => Undo::Nothing,
//! });
//! ```
