//! The macros with which a saga is written: [`crate::steps!`] and [`crate::signals!`].

/// The steps of a saga: a table with one row for each step.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use stepwise_engine::{Key, Outcome, Probe, StepError, StepTx, Terms, Undoing, Undone, steps};
/// # #[derive(Serialize, Deserialize, Clone, Debug)] pub enum Event { Held, Paid, Admitted }
/// # type Guest = String;
/// steps! {
///     pub enum Step done by SeatSteps -> Event, undone for String {
///         Hold(guest: Guest) => tx(hold).undo_tx(release),
///         Charge => call(charge, Terms::effect("charge")).probe(find_charge).undo_call(refund),
///         Admit(guest: Guest) => tx(admit).pivot(),
///     }
/// }
/// # struct Workshop;
/// impl SeatSteps for Workshop {
///     async fn hold(&self, tx: &mut StepTx<'_>, guest: &Guest) -> Result<Event, StepError> { Ok(Event::Held) }
///     async fn release(&self, tx: &mut StepTx<'_>, guest: &Guest, undoing: &Undoing<String>) -> Result<(), StepError> { Ok(()) }
///     async fn charge(&self, key: &Key) -> Outcome<Event> { Outcome::confirmed(Event::Paid, "ch_1") }
///     async fn find_charge(&self, key: &Key) -> Probe<Event> { Probe::NotHappened }
///     async fn refund(&self, undoing: &Undoing<String>) -> Undone { Undone::Nothing }
///     async fn admit(&self, tx: &mut StepTx<'_>, guest: &Guest) -> Result<Event, StepError> { Ok(Event::Admitted) }
/// }
/// ```
///
/// It makes the enum `Step`, which is stored, and the trait `SeatSteps`, which has one method for each do, probe and undo. `Event` is what the
/// steps answer, the type after `undone for` is [`crate::Saga::Reason`].
///
/// A row is `Name(field: Type, ..) => what.how_an_unknown_outcome_is_settled.what_takes_it_back,` (or `Name { field: Type, .. }`, or `Name`):
/// - `tx(method)`: done in the transition's own transaction. Its writes are committed exactly once, though it may run more than once and
///   roll back. A refusal is an event; an error rolls back and is tried again.
/// - `tx_together(method)`: the same, but the instances that reach the step at about the same time in one process share one transaction, at most 64.
///   The method gets all of them, so that it can write them by set-based SQL: one tuple for each, which says whose step it is ([`crate::StepOf`]) and
///   has the row's fields by reference. It answers one event for each, in the same order. One that comes alone waits for no others: the next ones gather
///   while a transaction runs, and for 10 ms from its beginning. If it fails, each instance does its step alone, and the method gets one. Two instances of one call may have the same
///   subject or change the same row: add up what is for one row, and lock rows in one order. The method must not signal another instance of its own
///   call. See [`crate::StepsTx`] for this and the cost.
/// - `call(method)` or `call(method, terms)`: done outside any transaction, at least once, always under the same [`crate::Key`]. The
///   [`crate::Terms`] are an expression over the row's fields. A call says how an unknown outcome is settled: `.probe(method)` asks the provider,
///   `.repeatable()` makes the call again under its key.
/// - `.undo_tx(method)`, or `.undo_call(method)`, or `.undo_call(method, terms)`: what takes the step back. A step of one kind may be taken back by
///   the other kind. The undo of a tx step that refused runs too: it takes back only what is there.
/// - `.no_undo()`: nothing is to be taken back. `.pivot()`: the saga only goes forward after this step.
///
/// Methods receive the row's fields by reference, tx methods also the transaction ([`crate::StepTx`], [`crate::StepsTx`]), undos an [`crate::Undoing`]. A panic in a tx method gets the instance `stuck`; in a call, a
/// probe or its undo it is an unknown outcome, and the third one gives the step up. The trait has one more method, `lock`, which takes all row
/// locks of a chain of tx steps before the first of them runs, in the lock order; it locks nothing unless you write it. Before a step that is done
/// together it is called once for each subject, in the order of the subjects.
///
/// A second block has the steps that the caller does in the transaction that starts the instance; each row says only how it is taken back:
/// `pub enum CallerStep done by the caller { ReserveStock(order: Uuid) => undo_tx(release_stock), }`.
#[macro_export]
macro_rules! steps {
    (
        $(#[$meta:meta])*
        $vis:vis enum $Step:ident done by $Trait:ident -> $Event:ty, undone for $Reason:ty {
            $($(#[$m:meta])* $Name:ident $(($($(#[$tm:meta])* $f:ident : $t:ty),+ $(,)?))? $({ $($(#[$fm:meta])* $nf:ident : $nt:ty),+ $(,)? })?
                => $($part:ident ( $($arg:tt)* )).+ ,)*
        }
        $($(#[$cmeta:meta])* $cvis:vis enum $Caller:ident done by the caller {
            $($(#[$cm:meta])* $CName:ident $(($($cf:ident : $ct:ty),+ $(,)?))? $({ $($(#[$cfm:meta])* $cnf:ident : $cnt:ty),+ $(,)? })?
                => $cpart:ident ( $($carg:tt)* ) ,)+
        })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $Step { $($(#[$m])* $Name $(($($(#[$tm])* $t),+))? $({ $($(#[$fm])* $nf: $nt),+ })? ),* }

        $($(#[$cmeta])*
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize)]
        $cvis enum $Caller { $($(#[$cm])* $CName $(($($ct),+))? $({ $($(#[$cfm])* $cnf: $cnt),+ })? ),+ })?

        $($crate::__row!(check $Name $($part($($arg)*))+);)*
        $($($crate::__row!(check_caller $CName $cpart);)+)?

        #[doc = concat!("How each [`", stringify!($Step), "`] is done and taken back.")]
        // Fields come by reference, whatever their type.
        #[allow(clippy::ptr_arg)]
        $vis trait $Trait: Send + Sync + 'static {
            /// Takes all row locks of a chain of tx steps before its first step runs, in the lock order. `subject` is the instance's.
            fn lock(&self, tx: &mut $crate::parts::PgConnection, subject: &str)
                -> impl ::core::future::Future<Output = Result<(), $crate::StepError>> + Send
            {
                let _ = (tx, subject);
                async { Ok(()) }
            }
            $($crate::__row!(methods ($Event, $Reason) $Name [$($($f: $t),+)? $($($nf: $nt),+)?] $($part($($arg)*))+);)*
            $($($crate::__row!(methods ($Event, $Reason) $CName [$($($cf: $ct),+)? $($($cnf: $cnt),+)?] $cpart($($carg)*));)+)?
        }

        impl $crate::StepTable for $Step {
            type Event = $Event;
            type Reason = $Reason;
            type CallerStep = $crate::__row!(caller_type $($Caller)?);
            fn kind(&self) -> $crate::Kind {
                $crate::__row!(select self { $(Self::$Name { .. } => $crate::__row!(kind $($part)+),)* })
            }
            fn runs_together(&self) -> bool {
                $crate::__row!(select self { $(Self::$Name { .. } => $crate::__row!(runs_together $($part)+),)* })
            }
            fn has_probe(&self) -> bool {
                $crate::__row!(select self { $(Self::$Name { .. } => $crate::__row!(has_probe $($part)+),)* })
            }
            fn way_back(&self) -> $crate::WayBack {
                $crate::__row!(select self { $(Self::$Name { .. } => $crate::__row!(back $($part($($arg)*))+),)* })
            }
            fn terms(&self) -> $crate::Terms {
                $crate::__row!(select self {
                    $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => {
                        $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                        $crate::__row!(terms $($part($($arg)*))+)
                    })*
                })
            }
            fn undo_terms(&self) -> $crate::Terms {
                $crate::__row!(select self {
                    $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => {
                        $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                        $crate::__row!(undo_terms $($part($($arg)*))+)
                    })*
                })
            }
            fn caller_way_back(step: &Self::CallerStep) -> $crate::WayBack {
                $crate::__row!(select step { $($($Caller::$CName { .. } => $crate::__row!(back $cpart($($carg)*)),)+)? })
            }
            fn caller_undo_terms(step: &Self::CallerStep) -> $crate::Terms {
                $crate::__row!(select step {
                    $($($Caller::$CName $(($($cf),+))? $({ $($cnf),+ })? => {
                        $($(let _ = $cf;)+)? $($(let _ = $cnf;)+)?
                        $crate::__row!(undo_terms $cpart($($carg)*))
                    })+)?
                })
            }
        }

        impl<I: $Trait> $crate::DoneBy<I> for $Step {
            async fn lock(by: &I, tx: &mut $crate::parts::PgConnection, subject: &str) -> Result<(), $crate::StepError> {
                $Trait::lock(by, tx, subject).await
            }
            async fn run(&self, by: &I, tx: &mut $crate::StepTx<'_>) -> Result<$Event, $crate::StepError> {
                let _ = (by, &tx);
                $crate::__row!(select self { $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => {
                    $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                    $crate::__row!(run $Trait by tx [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                })* })
            }
            async fn run_together(by: &I, tx: &mut $crate::StepsTx<'_>, all: &[($crate::StepOf<'_>, &Self)])
                -> Result<Vec<$Event>, $crate::StepError> {
                let _ = (by, &tx);
                let Some((_, first)) = all.first() else { return Ok(Vec::new()) };
                let first: &Self = first;
                $crate::__row!(select first { $(Self::$Name { .. } => {
                    $crate::__row!(run_together $Trait by tx all [Self::$Name $(($($f),+))? $({ $($nf),+ })?]
                        [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                })* })
            }
            async fn call(&self, by: &I, key: &$crate::Key) -> $crate::Outcome<$Event> {
                let _ = (by, key);
                $crate::__row!(select self { $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => {
                    $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                    $crate::__row!(call $Trait by key [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                })* })
            }
            async fn probe(&self, by: &I, key: &$crate::Key) -> $crate::Probe<$Event> {
                let _ = (by, key);
                $crate::__row!(select self { $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => {
                    $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                    $crate::__row!(probe $Trait by key [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                })* })
            }
            async fn undo_in_tx(done: &$crate::Done<Self>, by: &I, tx: &mut $crate::StepTx<'_>,
                undoing: &$crate::Undoing<$Reason>) -> Result<(), $crate::StepError> {
                let _ = (by, &tx, undoing);
                match done {
                    $crate::Done::Step(step) => $crate::__row!(select step {
                        $($Step::$Name $(($($f),+))? $({ $($nf),+ })? => {
                            $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                            $crate::__row!(undo_tx $Trait by tx undoing [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                        })*
                    }),
                    $crate::Done::Caller(step) => $crate::__row!(select step {
                        $($($Caller::$CName $(($($cf),+))? $({ $($cnf),+ })? => {
                            $($(let _ = $cf;)+)? $($(let _ = $cnf;)+)?
                            $crate::__row!(undo_tx $Trait by tx undoing [$($($cf),+)? $($($cnf),+)?] $cpart($($carg)*))
                        })+)?
                    }),
                }
            }
            async fn undo_by_call(done: &$crate::Done<Self>, by: &I, undoing: &$crate::Undoing<$Reason>) -> $crate::Undone {
                let _ = (by, undoing);
                match done {
                    $crate::Done::Step(step) => $crate::__row!(select step {
                        $($Step::$Name $(($($f),+))? $({ $($nf),+ })? => {
                            $($(let _ = $f;)+)? $($(let _ = $nf;)+)?
                            $crate::__row!(undo_call $Trait by undoing [$($($f),+)? $($($nf),+)?] $($part($($arg)*))+)
                        })*
                    }),
                    $crate::Done::Caller(step) => $crate::__row!(select step {
                        $($($Caller::$CName $(($($cf),+))? $({ $($cnf),+ })? => {
                            $($(let _ = $cf;)+)? $($(let _ = $cnf;)+)?
                            $crate::__row!(undo_call $Trait by undoing [$($($cf),+)? $($($cnf),+)?] $cpart($($carg)*))
                        })+)?
                    }),
                }
            }
        }
    };
}

/// One row of the table, seen from each place that needs something of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __row {
    // Is the row complete?
    (check $N:ident tx($m:ident) $($rest:tt)*) => { $crate::__row!(check_back $N $($rest)*); };
    (check $N:ident tx_together($m:ident) $($rest:tt)*) => { $crate::__row!(check_back $N $($rest)*); };
    (check $N:ident call($m:ident $(, $terms:expr)?) probe($p:ident) $($rest:tt)*) => { $crate::__row!(check_back $N $($rest)*); };
    (check $N:ident call($m:ident $(, $terms:expr)?) repeatable() $($rest:tt)*) => { $crate::__row!(check_back $N $($rest)*); };
    (check $N:ident call($($a:tt)*) $($rest:tt)*) => {
        compile_error!(concat!("step `", stringify!($N), "`: say how an unknown outcome is settled: `.probe(method)` asks the provider, \
            `.repeatable()` calls again under the same key; then how the step is taken back"));
    };
    (check $N:ident $($rest:tt)*) => {
        compile_error!(concat!("step `", stringify!($N), "`: begin with `tx(method)` (in the transaction), \
            `tx_together(method)` (in a transaction that instances share) or `call(method)` (outside)"));
    };
    (check_back $N:ident pivot()) => {};
    (check_back $N:ident no_undo()) => {};
    (check_back $N:ident undo_tx($u:ident)) => {};
    (check_back $N:ident undo_call($u:ident $(, $terms:expr)?)) => {};
    (check_back $N:ident $($rest:tt)*) => {
        compile_error!(concat!("step `", stringify!($N), "`: say how it is taken back, last in its row: `.undo_tx(method)`, \
            `.undo_call(method)`, `.no_undo()` or `.pivot()`"));
    };
    (check_caller $N:ident undo_tx) => {};
    (check_caller $N:ident undo_call) => {};
    (check_caller $N:ident no_undo) => {};
    (check_caller $N:ident pivot) => {};
    (check_caller $N:ident $other:ident) => {
        compile_error!(concat!("step `", stringify!($N), "` of the caller: say how it is taken back: `undo_tx(method)`, \
            `undo_call(method)`, `no_undo()` or `pivot()`"));
    };

    // The methods of the saga's trait.
    (methods ($E:ty, $R:ty) $N:ident $fs:tt) => {};
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] tx($m:ident) $($rest:tt)*) => {
        #[doc = concat!("Does `", stringify!($N), "` in the transition's transaction.")]
        fn $m(&self, tx: &mut $crate::StepTx<'_> $(, $f: &$t)*)
            -> impl ::core::future::Future<Output = Result<$E, $crate::StepError>> + Send;
        $crate::__row!(methods ($E, $R) $N [$($f: $t),*] $($rest)*);
    };
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] tx_together($m:ident) $($rest:tt)*) => {
        #[doc = concat!("Does `", stringify!($N), "` of all these instances in one transaction, that of their transitions. Answers one event for each, in \
            the same order.")]
        #[allow(clippy::type_complexity)]
        fn $m(&self, tx: &mut $crate::StepsTx<'_>, all: &[($crate::StepOf<'_>, $(&$t,)*)])
            -> impl ::core::future::Future<Output = Result<Vec<$E>, $crate::StepError>> + Send;
        $crate::__row!(methods ($E, $R) $N [$($f: $t),*] $($rest)*);
    };
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] call($m:ident $(, $terms:expr)?) $($rest:tt)*) => {
        #[doc = concat!("Makes one attempt at `", stringify!($N), "`, outside any transaction. It may read our database and never writes it.")]
        fn $m(&self, key: &$crate::Key $(, $f: &$t)*)
            -> impl ::core::future::Future<Output = $crate::Outcome<$E>> + Send;
        $crate::__row!(methods ($E, $R) $N [$($f: $t),*] $($rest)*);
    };
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] probe($m:ident) $($rest:tt)*) => {
        #[doc = concat!("Asks the provider what became of an attempt at `", stringify!($N), "`.")]
        fn $m(&self, key: &$crate::Key $(, $f: &$t)*)
            -> impl ::core::future::Future<Output = $crate::Probe<$E>> + Send;
        $crate::__row!(methods ($E, $R) $N [$($f: $t),*] $($rest)*);
    };
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] undo_tx($m:ident) $($rest:tt)*) => {
        #[doc = concat!("Takes `", stringify!($N), "` back, in a transaction.")]
        fn $m(&self, tx: &mut $crate::StepTx<'_> $(, $f: &$t)*, undoing: &$crate::Undoing<$R>)
            -> impl ::core::future::Future<Output = Result<(), $crate::StepError>> + Send;
    };
    (methods ($E:ty, $R:ty) $N:ident [$($f:ident: $t:ty),*] undo_call($m:ident $(, $terms:expr)?) $($rest:tt)*) => {
        #[doc = concat!("Takes `", stringify!($N), "` back, outside any transaction.")]
        fn $m(&self $(, $f: &$t)*, undoing: &$crate::Undoing<$R>)
            -> impl ::core::future::Future<Output = $crate::Undone> + Send;
    };
    (methods ($E:ty, $R:ty) $N:ident $fs:tt $part:ident($($a:tt)*) $($rest:tt)*) => { $crate::__row!(methods ($E, $R) $N $fs $($rest)*); };

    // The facts that the table states about a step.
    (select $it:ident { }) => { match *$it {} };
    (select $it:ident { $($arms:tt)+ }) => { match $it { $($arms)+ } };
    (kind tx $($rest:ident)*) => { $crate::Kind::Tx };
    (kind tx_together $($rest:ident)*) => { $crate::Kind::Tx };
    (kind $($rest:ident)*) => { $crate::Kind::Call };
    (runs_together tx_together $($rest:ident)*) => { true };
    (runs_together $($rest:ident)*) => { false };
    (has_probe $k:ident probe $($rest:ident)*) => { true };
    (has_probe $($rest:ident)*) => { false };
    (back pivot()) => { $crate::WayBack::Pivot };
    (back undo_tx($m:ident)) => { $crate::WayBack::InTx(stringify!($m)) };
    (back undo_call($m:ident $(, $terms:expr)?)) => { $crate::WayBack::ByCall(stringify!($m)) };
    (back $part:ident($($a:tt)*) $($rest:tt)*) => { $crate::__row!(back $($rest)*) };
    (back) => { $crate::WayBack::Nothing };
    (terms call($m:ident, $terms:expr) $($rest:tt)*) => { $terms };
    (terms $($rest:tt)*) => { $crate::Terms::new() };
    (undo_terms undo_call($m:ident, $terms:expr)) => { $terms };
    (undo_terms $part:ident($($a:tt)*) $($rest:tt)*) => { $crate::__row!(undo_terms $($rest)*) };
    (undo_terms) => { $crate::Terms::new() };
    (caller_type) => { $crate::Never };
    (caller_type $C:ident) => { $C };

    // Doing it. The last rule of each is for a step of another kind: see `table::parts`.
    (run $T:ident $by:ident $tx:ident [$($f:ident),*] tx($m:ident) $($rest:tt)*) => { $T::$m($by, $tx $(, $f)*).await };
    (run $T:ident $by:ident $tx:ident [$($f:ident),*] tx_together($m:ident) $($rest:tt)*) => {{
        let of = $tx.of();
        $crate::parts::only($T::$m($by, &mut $tx.as_steps(), &[(of, $($f,)*)]).await?)
    }};
    (run $($rest:tt)*) => { $crate::parts::not_in_tx() };
    (run_together $T:ident $by:ident $tx:ident $all:ident [$($pattern:tt)*] [$($f:ident),*] tx_together($m:ident) $($rest:tt)*) => {{
        let mut given = Vec::with_capacity($all.len());
        for (of, step) in $all {
            // A table may have this one row only.
            #[allow(unreachable_patterns)]
            match step {
                $($pattern)* => given.push((*of, $($f,)*)),
                _ => return $crate::parts::not_in_tx(),
            }
        }
        $T::$m($by, $tx, &given).await
    }};
    (run_together $($rest:tt)*) => { $crate::parts::not_in_tx() };
    (call $T:ident $by:ident $key:ident [$($f:ident),*] call($m:ident $(, $terms:expr)?) $($rest:tt)*) => { $T::$m($by, $key $(, $f)*).await };
    (call $($rest:tt)*) => { $crate::parts::not_a_call() };
    (probe $T:ident $by:ident $key:ident [$($f:ident),*] $c:ident($($a:tt)*) probe($m:ident) $($rest:tt)*) => { $T::$m($by, $key $(, $f)*).await };
    (probe $($rest:tt)*) => { $crate::parts::has_no_probe() };
    (undo_tx $T:ident $by:ident $tx:ident $u:ident [$($f:ident),*] undo_tx($m:ident)) => { $T::$m($by, $tx $(, $f)*, $u).await };
    (undo_tx $T:ident $by:ident $tx:ident $u:ident $fs:tt $part:ident($($a:tt)*) $($rest:tt)*) => { $crate::__row!(undo_tx $T $by $tx $u $fs $($rest)*) };
    (undo_tx $T:ident $by:ident $tx:ident $u:ident $fs:tt) => { $crate::parts::not_in_tx() };
    (undo_call $T:ident $by:ident $u:ident [$($f:ident),*] undo_call($m:ident $(, $terms:expr)?)) => { $T::$m($by $(, $f)*, $u).await };
    (undo_call $T:ident $by:ident $u:ident $fs:tt $part:ident($($a:tt)*) $($rest:tt)*) => { $crate::__row!(undo_call $T $by $u $fs $($rest)*) };
    (undo_call $T:ident $by:ident $u:ident $fs:tt) => { $crate::parts::not_undone_by_call() };
}

/// The signals of a saga, and what happens to each when the present state does not take it: `keep` it until a state does, or `refuse` it.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use stepwise_engine::signals;
/// #[derive(Serialize, Deserialize, Clone, Debug)]
/// pub enum Event { Paid, Host(Signal) }
///
/// signals! {
///     pub enum Signal as Event::Host { Confirms => keep, Declines { why: String } => refuse }
/// }
/// ```
///
/// For [`crate::Saga::on`] each is an event: `Event::Host(Signal::Confirms)`. Without a variant (`pub enum Signal as Event { Nod => keep }`) each
/// is the event of the same name and fields, `Event::Nod`.
#[macro_export]
macro_rules! signals {
    ($(#[$meta:meta])* $vis:vis enum $Signal:ident as $Event:ident :: $Variant:ident { $($rows:tt)* }) => {
        $crate::__signals!([$(#[$meta])*] [$vis] $Signal $Event { $($rows)* });
        impl $crate::Signals<$Event> for $Signal {
            fn event(self) -> $Event { $Event::$Variant(self) }
            fn early(&self) -> $crate::Early { self.kept_or_refused() }
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $Signal:ident as $Event:ident {
        $($(#[$m:meta])* $Name:ident $(($($f:ident : $t:ty),+))? $({ $($nf:ident : $nt:ty),+ })? => $early:ident),+ $(,)?
    }) => {
        $crate::__signals!([$(#[$meta])*] [$vis] $Signal $Event {
            $($(#[$m])* $Name $(($($f: $t),+))? $({ $($nf: $nt),+ })? => $early),+
        });
        impl $crate::Signals<$Event> for $Signal {
            fn event(self) -> $Event {
                match self {
                    $(Self::$Name $(($($f),+))? $({ $($nf),+ })? => $Event::$Name $(($($f),+))? $({ $($nf),+ })?),+
                }
            }
            fn early(&self) -> $crate::Early { self.kept_or_refused() }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __signals {
    ([$(#[$meta:meta])*] [$vis:vis] $Signal:ident $Event:ident {
        $($(#[$m:meta])* $Name:ident $(($($f:ident : $t:ty),+))? $({ $($nf:ident : $nt:ty),+ })? => $early:ident),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $Signal { $($(#[$m])* $Name $(($($t),+))? $({ $($nf: $nt),+ })? ),+ }
        impl $Signal {
            fn kept_or_refused(&self) -> $crate::Early {
                match self { $(Self::$Name { .. } => $crate::__signals!(early $Name $early)),+ }
            }
        }
    };
    (early $N:ident keep) => { $crate::Early::Keep };
    (early $N:ident refuse) => { $crate::Early::Refuse };
    (early $N:ident $other:ident) => {
        compile_error!(concat!("signal `", stringify!($N), "`: when it comes before the state that takes it, `keep` it or `refuse` it"))
    };
}
