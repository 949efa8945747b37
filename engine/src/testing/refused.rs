//! Programs that the compiler refuses, tried by doctests (that is all that this file is for). Each differs from the first one, which compiles, in
//! one line; so it is that line which is refused. (The error codes are for readers: a stable compiler does not compare them. `tests/it/words.rs` compares
//! the words of the macros.)
//!
//! A saga, its table, what does its steps, its signal:
//! ```
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! desk!();
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Desk).build()
//! }
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", Signal::Returned).await);
//! }
//! ```
//!
//! A step without a decided way back:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A call that does not say how an unknown outcome is settled:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A pivot with an undo:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).pivot().undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A step of the caller without a way back:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//!     pub enum CallerStep done by the caller { Reserve => tx(reserve), }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A declared undo that nobody wrote:
//! ```compile_fail,E0046
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell_again),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! # desk!();
//! ```
//!
//! A call that is written as a tx step:
//! ```compile_fail,E0053
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => tx(tell).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! # desk!();
//! ```
//!
//! A step of the caller that the engine is to do:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//!     pub enum CallerStep done by the caller { Reserve => pivot(), }
//! }
//! saga!(Ticket, State, Event, Signal, CallerStep::Reserve);
//! ```
//!
//! An outcome that is sent as a signal:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", Event::Bought).await);
//! }
//! ```
//!
//! A signal that is another saga's:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! # signals! { pub enum OtherSignal as OtherEvent { Returned => refuse } }
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", OtherSignal::Returned).await);
//! }
//! ```
//!
//! A value that does the steps of another saga:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! struct Elsewhere;
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Elsewhere).build()
//! }
//! ```
//!
//! A saga whose steps answer another saga's event:
//! ```compile_fail,E0271
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # signals! { pub enum OtherSignal as OtherEvent { Returned => refuse } }
//! saga!(Ticket, State, OtherEvent, OtherSignal, Step::Buy);
//! ```
//!
//! A key that an author makes:
//! ```compile_fail,E0451
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! fn key(id: uuid::Uuid) -> Key {
//!     Key { saga_id: id, step_no: 1, undo: false, anew: None }
//! }
//! ```
//!
//! A state that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! saga!(Ticket, Unwritable, Event, Signal, Step::Buy);
//! ```
//!
//! A step with a field that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy(what: Unwritable) => tx(buy).undo_tx(sell),
//!     }
//! }
//! ```

//! Programs that the compiler refuses, tried by doctests (that is all that this file is for). Each differs from the first one, which compiles, in
//! one line; so it is that line which is refused. (The error codes are for readers: a stable compiler does not compare them. `tests/it/words.rs` compares
//! the words of the macros.)
//!
//! A saga, its table, what does its steps, its signal:
//! ```
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! desk!();
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Desk).build()
//! }
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", Signal::Returned).await);
//! }
//! ```
//!
//! A step without a decided way back:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A call that does not say how an unknown outcome is settled:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A pivot with an undo:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).pivot().undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A step of the caller without a way back:
//! ```compile_fail
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//!     pub enum CallerStep done by the caller { Reserve => tx(reserve), }
//! }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! ```
//!
//! A declared undo that nobody wrote:
//! ```compile_fail,E0046
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell_again),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! # desk!();
//! ```
//!
//! A call that is written as a tx step:
//! ```compile_fail,E0053
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => tx(tell).undo_call(take_word_back),
//!     }
//! }
//! saga!(Ticket, State, Event, Signal, Step::Buy);
//! # desk!();
//! ```
//!
//! A step of the caller that the engine is to do:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy => tx(buy).undo_tx(sell),
//!         Tell => call(tell).probe(find).undo_call(take_word_back),
//!     }
//!     pub enum CallerStep done by the caller { Reserve => pivot(), }
//! }
//! saga!(Ticket, State, Event, Signal, CallerStep::Reserve);
//! ```
//!
//! An outcome that is sent as a signal:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", Event::Bought).await);
//! }
//! ```
//!
//! A signal that is another saga's:
//! ```compile_fail,E0308
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! # signals! { pub enum OtherSignal as OtherEvent { Returned => refuse } }
//! async fn returns(engine: &Engine, tx: &mut sqlx::PgConnection, id: uuid::Uuid) {
//!     drop(engine.signal::<Ticket>(tx, id, "returned", OtherSignal::Returned).await);
//! }
//! ```
//!
//! A value that does the steps of another saga:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # saga!(Ticket, State, Event, Signal, Step::Buy);
//! struct Elsewhere;
//! fn engine(pool: sqlx::PgPool) -> Engine {
//!     Engine::builder(pool).saga::<Ticket, _>(Elsewhere).build()
//! }
//! ```
//!
//! A saga whose steps answer another saga's event:
//! ```compile_fail,E0271
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! # signals! { pub enum OtherSignal as OtherEvent { Returned => refuse } }
//! saga!(Ticket, State, OtherEvent, OtherSignal, Step::Buy);
//! ```
//!
//! A key that an author makes:
//! ```compile_fail,E0451
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! fn key(id: uuid::Uuid) -> Key {
//!     Key { saga_id: id, step_no: 1, undo: false, anew: None }
//! }
//! ```
//!
//! A state that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! # steps! {
//! #     pub enum Step done by Desks -> Event, undone for String {
//! #         Buy => tx(buy).undo_tx(sell),
//! #         Tell => call(tell).probe(find).undo_call(take_word_back),
//! #     }
//! # }
//! saga!(Ticket, Unwritable, Event, Signal, Step::Buy);
//! ```
//!
//! A step with a field that cannot be written down:
//! ```compile_fail,E0277
//! # #[macro_use] mod ticket { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compile/ticket.rs")); }
//! # use {ticket::*, serde::{Deserialize, Serialize}, stepwise_engine::{steps, signals, Done, Engine, Key, Never, Outcome, Probe, StepError, Terms, Undoing, Undone}};
//! steps! {
//!     pub enum Step done by Desks -> Event, undone for String {
//!         Buy(what: Unwritable) => tx(buy).undo_tx(sell),
//!     }
//! }
//! ```
