//! Stored data outlives the code that wrote it: brought up by the next version, left alone by the one before.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sqlx::PgPool;
use stepwise_engine::{
    Answer, Engine, Gate, Saga, Start, Status, WaitingOn,
    inspect::{self, Filter},
    migrations, notice,
    testing::{Clock, Database, golden},
};
use uuid::Uuid;

use crate::{
    parcel::{REST, engine_v1, engine_v2, v1, v2},
    provider::{Behaviour, Provider},
    world::{eventually, quick, see, work_on},
};

/// One database, an engine of each version, one provider.
pub(crate) struct Deploy {
    pub(crate) db: Database,
    pub(crate) pool: PgPool,
    pub(crate) provider: Arc<Provider>,
    pub(crate) old: Engine,
    pub(crate) new: Engine,
}

impl Deploy {
    pub(crate) async fn new() -> Self {
        let db = Database::fresh(&[migrations::migrations()]).await;
        let (pool, provider) = (db.pool().clone(), Provider::in_memory());
        let (old, new) = (engine_v1(pool.clone(), &provider), engine_v2(pool.clone(), &provider));
        Self { db, pool, provider, old, new }
    }

    pub(crate) async fn start<S: Saga<Input = String>>(&self, by: &Engine, id: &str) -> Uuid {
        let mut tx = by.begin().await.expect("the database is there");
        let started = by.start::<S>(&mut tx, Start::new(id, id.to_owned())).await.expect("new");
        tx.commit().await.expect("the database is there");
        started.id
    }

    pub(crate) async fn signal<S: Saga>(&self, id: Uuid, name: &str, sent: S::Signal) -> Answer {
        let mut tx = self.pool.begin().await.expect("the database is there");
        let answer =
            self.new.signal::<S>(&mut tx, id, name, sent).await.expect("it can be signalled");
        tx.commit().await.expect("the database is there");
        answer
    }

    /// Waits until what it waits on, or its end, reads so.
    pub(crate) async fn until(&self, id: Uuid, what: &str) {
        eventually(&format!("{id} to be {what}"), async || {
            let seen = see(&self.pool, id).await;
            assert!(what == "stuck" || seen.status != "stuck", "{seen:?}");
            seen.status == what || seen.waiting_on.as_deref() == Some(what)
        })
        .await;
    }

    pub(crate) async fn close(self) {
        drop((self.old, self.new));
        self.db.close().await;
    }
}

#[tokio::test]
async fn state_timer_and_undos_of_an_earlier_version_are_brought_up_when_their_time_comes() {
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    let rested = world.start::<v1::Parcel>(&world.old, "rested").await;
    let stopped = world.start::<v1::Parcel>(&world.old, "stopped").await;
    world.until(rested, "signal").await;
    world.until(stopped, "signal").await;
    old.stop().await;

    let new = work_on(&world.new, quick()).await;
    let stop = v2::Signal::Stop { by: "us".into() };
    assert_eq!(world.signal::<v2::Parcel>(stopped, "stop", stop).await, Answer::Applied);
    world.until(stopped, "unwound").await;
    let notes = world.provider.requests("unpack");
    assert_eq!(notes[0].note, "wrapped, stopped by us", "the step that v1 wrote");
    Clock::of(&world.pool).advance(REST).await;
    world.until(rested, "completed").await;
    assert_eq!(world.provider.operations(), ["pack", "pack", "unpack", "weigh", "send"]);
    new.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_pending_step_a_reason_and_an_early_signal_of_an_earlier_version_are_brought_up() {
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    world.provider.script("pack", [Behaviour::Acts]);
    let unwinding = world.start::<v1::Parcel>(&world.old, "unwinding").await;
    world.until(unwinding, "signal").await;
    // Its undo and the packing of the other fail until the old version has left.
    let fails = |n| vec![Behaviour::NotDone; n];
    world.provider.script("unpack", fails(1));
    let gate = world.provider.hold("pack");
    assert_eq!(
        world.signal::<v1::Parcel>(unwinding, "stop", v1::Signal::Stop).await,
        Answer::Applied
    );
    let early = world.start::<v1::Parcel>(&world.old, "early").await;
    eventually("the packing", async || world.provider.requests("pack").len() == 2).await;
    assert_eq!(world.signal::<v1::Parcel>(early, "h", v1::Signal::Hurry).await, Answer::Kept);
    world.until(unwinding, "unwound").await;
    // The new version takes the row over while the old one is at its step.
    sqlx::query("-- name: test take away\nupdate saga.instance set owner = null, epoch = epoch + 1, waiting_on = 'worker', wake_at = saga.now() where saga_id = $1")
        .bind(early)
        .execute(&world.pool)
        .await
        .expect("the database is there");
    let stopping = tokio::spawn(old.stop());
    let new = work_on(&world.new, quick()).await;
    world.until(early, "completed").await;
    gate.add_permits(1);
    stopping.await.expect("it stops");
    let kept: String = sqlx::query_scalar(
        "-- name: test answers\nselect string_agg(answer, ' ') from saga.signal where saga_id = $1",
    )
    .bind(early)
    .fetch_one(&world.pool)
    .await
    .expect("the signal is there");
    assert_eq!(kept, "applied");
    new.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_cannot_be_brought_up_is_stuck_with_a_reason_and_holds_up_nobody() {
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    let mut poisoned = Vec::new();
    for subject in ["panic", "misfit", "no way"] {
        poisoned.push(world.start::<v1::Parcel>(&world.old, subject).await);
    }
    let mut fine = Vec::new();
    for n in 0..20 {
        fine.push(world.start::<v1::Parcel>(&world.old, &format!("fine-{n}")).await);
    }
    for id in poisoned.iter().chain(&fine) {
        world.until(*id, "signal").await;
    }
    old.stop().await;
    let new = work_on(&world.new, quick()).await;
    Clock::of(&world.pool).advance(REST).await;
    for id in fine {
        world.until(id, "completed").await;
    }
    let mut reasons = BTreeSet::new();
    for id in poisoned {
        world.until(id, "stuck").await;
        reasons.insert(see(&world.pool, id).await.last_error.expect("a reason"));
    }
    let reasons = reasons.into_iter().collect::<Vec<_>>();
    assert!(reasons[0].starts_with("the stored state does not fit: "), "{reasons:?}");
    assert_eq!(reasons[1], "upcast from 1 to 2 is missing for state");
    assert_eq!(reasons[2], "upcast from 1 to 2 panicked for state");
    new.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_of_the_new_version_takes_the_instance_from_an_old_worker_in_the_middle_of_a_step()
{
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    let gate = world.provider.hold("pack");
    let id = world.start::<v1::Parcel>(&world.old, "hurried").await;
    eventually("the packing", async || !world.provider.requests("pack").is_empty()).await;
    // Kept until it is packed; its row is of the new version now.
    assert_eq!(world.signal::<v2::Parcel>(id, "h", v2::Signal::Hurry).await, Answer::Kept);
    gate.add_permits(1);
    // Nobody living knows it any more: it waits.
    world.until(id, "version").await;
    let new = work_on(&world.new, quick()).await;
    world.until(id, "completed").await;
    let packed = world.provider.lines().iter().filter(|line| line.op == "pack").count();
    assert_eq!(packed, 1, "packed again under the same key");
    new.stop().await;
    old.stop().await;
    world.close().await;
}

#[tokio::test]
async fn a_signal_from_a_process_that_does_not_know_the_version_is_kept_for_one_that_does() {
    let world = Deploy::new().await;
    let new = work_on(&world.new, quick()).await;
    let id = world.start::<v2::Parcel>(&world.new, "kept").await;
    world.until(id, "signal").await;
    let seq = see(&world.pool, id).await.seq;
    assert_eq!(world.signal::<v1::Parcel>(id, "h", v1::Signal::Hurry).await, Answer::Kept);
    assert_eq!(world.signal::<v1::Parcel>(id, "h", v1::Signal::Hurry).await, Answer::Duplicate);
    world.until(id, "completed").await;
    let journal: Vec<(i32, String)> = sqlx::query_as(
        "-- name: test kinds\nselect seq, kind from saga.journal where saga_id = $1 and seq > $2 order by seq limit 2",
    )
    .bind(id)
    .bind(seq)
    .fetch_all(&world.pool)
    .await
    .expect("the database is there");
    assert_eq!(journal, [(seq + 1, "signal kept".into()), (seq + 2, "signal".into())]);
    assert_eq!(world.signal::<v1::Parcel>(id, "late", v1::Signal::Hurry).await, Answer::Refused);
    new.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_no_living_worker_knows_is_marked_and_does_not_stand_in_the_way() {
    let world = Deploy::new().await;
    // 3,000 of a newer version have been due for an hour; their worker has died with one in its hands.
    sqlx::raw_sql(
        "-- name: test strangers
        insert into saga.worker (worker_id, name, kinds, lease_until)
        values (gen_random_uuid(), 'dead', '[[\"parcel\", 2]]', clock_timestamp() - interval '1 s');
        insert into saga.instance (shard, saga_id, name, version, subject, status, waiting_on, state, pending, undos, epoch, seq,
            wake_at, created_at, updated_at)
        select 0, gen_random_uuid(), 'parcel', 2, n, 'running', 'worker', '\"Sent\"', '\"nothing\"', '[]', 1, 1,
            now() - interval '1 hour', now(), now()
        from generate_series(1, 3000) n;
        update saga.instance set owner = (select worker_id from saga.worker), wake_at = null where subject = '1'",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let old = work_on(&world.old, quick()).await;
    let id = world.start::<v1::Parcel>(&world.old, "known").await;
    world.until(id, "signal").await;
    eventually("all to be marked", async || {
        let marked: i64 = sqlx::query_scalar(
            "-- name: test marked
            select count(*) from saga.instance where waiting_on = 'version' and wake_at = 'infinity' and owner is null",
        )
        .fetch_one(&world.pool)
        .await
        .expect("the database is there");
        marked == 3_000
    })
    .await;
    let told = notice::after(&world.pool, 0, 5_000).await.expect("the database is there");
    assert!(told.iter().all(|one| one.kind == notice::Kind::Version), "{:?}", told[0]);
    let who = told.iter().map(|one| one.saga_id).collect::<BTreeSet<_>>();
    assert_eq!(
        (told.len(), who.len()),
        (3_000, 3_000),
        "each is told of once, the dead worker's too"
    );
    assert_eq!(told[0].why, "no worker knows version 2 of parcel");
    Clock::of(&world.pool).advance(REST).await;
    world.until(id, "completed").await;
    old.stop().await;
    world.close().await;
}

#[tokio::test]
async fn what_waits_for_a_version_is_seen_like_any_other() {
    let world = Deploy::new().await;
    let new = work_on(&world.new, quick()).await;
    let id = world.start::<v2::Parcel>(&world.new, "seen").await;
    world.until(id, "signal").await;
    new.stop().await;
    let old = work_on(&world.old, quick()).await;
    Clock::of(&world.pool).advance(REST).await;
    world.until(id, "version").await;
    let waits = Filter { waiting_on: Some(WaitingOn::Version), limit: 10, ..Filter::default() };
    let listed = inspect::list(&world.pool, &waits).await.expect("the database is there");
    assert_eq!(listed.iter().map(|one| one.saga_id).collect::<Vec<_>>(), [id]);
    assert_eq!(listed[0].wake_at, None, "it is due never");
    let shown = inspect::details(&world.pool, id).await.expect("readable").expect("it is there");
    assert_eq!(shown.summary.waiting_on, Some(WaitingOn::Version));
    let waited =
        world.old.wait_for_end(id, Duration::ZERO).await.expect("readable").expect("there");
    assert_eq!((waited.status, waited.wake_at), (Status::Running, None));
    old.stop().await;
    world.close().await;
}

/// F20 at the engine: N and N+1 together, then N alone, then both again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_and_its_roll_back_fail_nothing() {
    let world = Deploy::new().await;
    let clock = Clock::of(&world.pool);
    let old = work_on(&world.old, quick()).await;
    let new = work_on(&world.new, quick()).await;
    let mut all = Vec::new();
    for n in 0..40 {
        all.push(world.start::<v1::Parcel>(&world.old, &format!("old-{n}")).await);
        all.push(world.start::<v2::Parcel>(&world.new, &format!("new-{n}")).await);
    }
    for id in &all {
        world.until(*id, "signal").await;
    }
    for id in &all[..20] {
        world.signal::<v1::Parcel>(*id, "hurry", v1::Signal::Hurry).await;
    }
    new.stop().await;
    // Rolled back. Only the old version is there; a customer hurries one that it does not know.
    let strange = *all.last().expect("many");
    assert_eq!(world.signal::<v1::Parcel>(strange, "h", v1::Signal::Hurry).await, Answer::Kept);
    for n in 0..10 {
        all.push(world.start::<v1::Parcel>(&world.old, &format!("alone-{n}")).await);
    }
    for id in &all[80..] {
        world.until(*id, "signal").await;
    }
    clock.advance(REST + Duration::from_secs(60)).await;
    let of_both = async |is: &str| -> (i64, i64) {
        sqlx::query_as(
            "-- name: test of both
            select count(*) filter (where version = 1), count(*) filter (where version = 2)
            from saga.instance where coalesce(waiting_on, status) = $1",
        )
        .bind(is)
        .fetch_one(&world.pool)
        .await
        .expect("the database is there")
    };
    eventually("the old version to have done what it can", async || {
        let (ended, waiting) = (of_both("completed").await, of_both("version").await);
        ended.0 + ended.1 + waiting.1 == 90 && waiting.0 == 0
    })
    .await;
    let waiting = of_both("version").await;
    assert!(waiting.1 > 20, "{waiting:?}: a roll-back that meets nothing proves nothing");
    let new = work_on(&world.new, quick()).await;
    for id in all {
        world.until(id, "completed").await;
    }
    let lines = world.provider.lines();
    for op in ["pack", "send"] {
        assert_eq!(lines.iter().filter(|line| line.op == op).count(), 90, "{op}");
    }
    new.stop().await;
    old.stop().await;
    world.close().await;
}

#[tokio::test]
async fn the_gate_names_what_this_binary_cannot_go_on_with_and_changes_nothing() {
    let world = Deploy::new().await;
    let old = work_on(&world.old, quick()).await;
    let mut ids = Vec::new();
    for subject in ["panic", "no way", "misfit"] {
        ids.push(world.start::<v1::Parcel>(&world.old, subject).await);
    }
    for n in 0..1_200 {
        ids.push(world.start::<v1::Parcel>(&world.old, &format!("fine-{n}")).await);
    }
    for id in &ids {
        world.until(*id, "signal").await;
    }
    old.stop().await;
    sqlx::raw_sql(
        "-- name: test strange signal
        update saga.instance set kept = 1 where subject = 'fine-7';
        insert into saga.signal (shard, saga_id, signal_id, event, answer, at)
        select shard, saga_id, 's', '\"Rest\"', 'kept', now() from saga.instance where subject = 'fine-7'",
    )
    .execute(&world.pool)
    .await
    .expect("the database is there");
    let check = async |gate: Gate| {
        let found = gate.check(&world.pool).await.expect("the database is there");
        found.into_iter().map(|m| (m.why, m.count, m.samples)).collect::<Vec<_>>()
    };
    let fits = check(Gate::new().knows::<v1::Parcel>()).await;
    assert_eq!(fits.len(), 1, "the kept signal: {fits:?}");
    let found = check(Gate::new().knows::<v2::Parcel>()).await;
    assert_eq!(
        found,
        [
            ("the stored signal does not fit: unknown variant `Rest`, expected `Hurry` or `Stop`".to_owned(), 1, vec![ids[10]]),
            ("the stored state does not fit: invalid type: integer `7`, expected struct variant State::Resting".to_owned(), 1, vec![ids[2]]),
            ("upcast from 1 to 2 is missing for state".to_owned(), 1, vec![ids[1]]),
            ("upcast from 1 to 2 panicked for state".to_owned(), 1, vec![ids[0]]),
        ]
    );
    let unknown = check(Gate::new()).await;
    assert_eq!(
        (unknown[0].0.as_str(), unknown[0].1),
        ("this binary does not know the saga", 1_203)
    );
    assert_eq!(unknown[0].2.len(), 5);
    let id = ids[900];
    assert_eq!(world.signal::<v2::Parcel>(id, "h", v2::Signal::Hurry).await, Answer::Applied);
    let newer = check(Gate::new().knows::<v1::Parcel>()).await;
    assert!(newer.contains(&("this binary knows versions up to 1 only".to_owned(), 1, vec![id])));
    world.close().await;
}

#[test]
fn golden_files_prove_that_earlier_versions_can_still_be_read() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden");
    golden::<v1::Parcel>(committed);
    golden::<v2::Parcel>(committed);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("stepwise-golden-{}", Uuid::now_v7()));
    std::fs::create_dir(&folder).expect("the temporary folder can be written");
    let with = |golden: fn(&std::path::Path)| {
        let folder = folder.clone();
        std::panic::catch_unwind(move || golden(&folder)).map_err(|panic| {
            panic.downcast_ref::<String>().cloned().expect("it says what is wrong")
        })
    };
    let missing = with(|folder| golden::<v1::Parcel>(folder)).expect_err("no file yet");
    assert!(missing.contains("UPDATE_GOLDEN=1"), "{missing}");
    let read =
        |file| std::fs::read_to_string(format!("{committed}/{file}")).expect("it is committed");
    let v1 = read("v1.json");
    std::fs::write(folder.join("v1.json"), &v1).expect("written");
    std::fs::write(folder.join("v2.json"), read("v2.json")).expect("written");
    with(|folder| golden::<v1::Parcel>(folder)).expect("version 1 stores what its file shows");
    with(|folder| golden::<v2::Parcel>(folder)).expect("version 2 reads both files");

    let strange = v1.replace("\"Packed\"", "\"Bagged\"");
    std::fs::write(folder.join("v1.json"), strange).expect("written");
    let fault = with(|folder| golden::<v2::Parcel>(folder)).expect_err("what is Bagged?");
    assert!(fault.contains("event \"Bagged\": the stored sample does not fit"), "{fault}");
    let changed = v1.replace("\"Packed\",", "");
    std::fs::write(folder.join("v1.json"), changed).expect("written");
    let fault = with(|folder| golden::<v1::Parcel>(folder)).expect_err("more than is shown");
    assert!(fault.contains("stores what") && fault.contains("event \"Packed\""), "{fault}");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn the_guide_to_changing_code_shows_code_that_runs_here() {
    let lines = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let page = include_str!("../../../docs/changing-code.md");
    let files = [
        ("parcel.rs", lines(include_str!("parcel.rs"))),
        ("versions.rs", lines(include_str!("versions.rs"))),
    ];
    let blocks = page.split("```rust ").skip(1).collect::<Vec<_>>();
    assert_eq!(blocks.len(), 3, "each block names the file that it is from");
    for block in blocks {
        let (file, code) = block.split_once('\n').expect("a file and code");
        let code = code.split("```").next().expect("it ends").trim_end();
        let (_, text) = files.iter().find(|(name, _)| *name == file).expect("one of the two");
        assert!(text.contains(&lines(code)), "{file} reads otherwise:\n{code}");
    }
}
