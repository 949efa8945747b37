//! The command line: failures are one line, with an exit code that scripts can rely on.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
};

use tokio::process::Command;
use uuid::Uuid;

use crate::{
    house::House,
    shopper::{Shopper, product},
};

/// A directory for one test, so that no other settings file is read.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stepwise-cli-{}", Uuid::now_v7().simple()));
        fs::create_dir(&path).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If this fails, files remain in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn stepwise(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stepwise"));
    command.current_dir(&folder.0).env_clear().kill_on_drop(true);
    command
}

pub(crate) async fn run(
    folder: &Folder,
    args: &[&str],
    env: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = stepwise(folder);
    let Output { status, stdout, stderr } =
        command.args(args).envs(env.iter().copied()).output().await.expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The one line of the failure, without the log lines around it.
fn complaint(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.starts_with("stepwise: ")).collect()
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_exit_code_3_and_one_line() {
    let folder = Folder::new();
    let url = "postgres://postgres@127.0.0.1:9/none";
    for command in ["migrate", "check"] {
        let (code, _, stderr) = run(&folder, &[command, "--database-url", url], &[]).await;
        assert_eq!(code, 3, "{stderr}");
        let lines = complaint(&stderr);
        assert!(lines.len() == 1 && lines[0].contains("127.0.0.1:9"), "{stderr}");
    }
}

#[tokio::test]
async fn no_database_named_is_wrong_usage() {
    let folder = Folder::new();
    let (code, _, stderr) = run(&folder, &["migrate"], &[]).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(complaint(&stderr)[0].contains("--database-url"), "{stderr}");
}

#[tokio::test]
async fn an_unknown_key_in_the_settings_file_is_named() {
    let folder = Folder::new();
    fs::write(folder.0.join("stepwise.toml"), "prot = 1\n").expect("writable");
    let (code, _, stderr) = run(&folder, &["openapi"], &[]).await;
    assert_eq!(code, 2, "{stderr}");
    let lines = complaint(&stderr);
    assert!(lines.len() == 1 && lines[0].contains("prot"), "{stderr}");
}

#[tokio::test]
async fn a_flag_beats_the_environment_and_that_the_file() {
    let folder = Folder::new();
    let address = |port: u16| format!("postgres://127.0.0.1:{port}/x");
    let file = format!("database-url = \"{}\"\n", address(1));
    fs::write(folder.0.join("stepwise.toml"), file).expect("writable");
    let (env, flag) = (address(2), address(3));
    let env = [("STEPWISE_DATABASE_URL", env.as_str())];
    let (_, _, stderr) = run(&folder, &["check"], &[]).await;
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
    let (_, _, stderr) = run(&folder, &["check"], &env).await;
    assert!(stderr.contains("127.0.0.1:2"), "{stderr}");
    let (_, _, stderr) = run(&folder, &["check", "--database-url", &flag], &env).await;
    assert!(stderr.contains("127.0.0.1:3"), "{stderr}");
}

#[tokio::test]
async fn an_address_of_the_wrong_kind_is_wrong_usage_and_names_its_option() {
    let folder = Folder::new();
    for (option, value) in [
        ("--amqp-url", "http://localhost"),
        ("--database-url", "localhost:5432"),
        ("--gateway-url", "ftp://x"),
    ] {
        let (code, _, stderr) = run(&folder, &["check", option, value], &[]).await;
        assert_eq!(code, 2, "{stderr}");
        assert!(complaint(&stderr)[0].contains(option), "{stderr}");
    }
}

#[tokio::test]
async fn a_database_a_newer_release_has_migrated_is_exit_code_4_and_stays_untouched() {
    let house = House::open().await;
    let folder = Folder::new();
    let url = house.database.url();
    let (code, stdout, stderr) = run(&folder, &["check", "--database-url", &url], &[]).await;
    assert_eq!((code, stdout.as_str()), (0, "this version fits the database\n"), "{stderr}");
    sqlx::query(
        "insert into shop._migrations (version, description, success, checksum, execution_time)
        values (9999, 'contract the future', true, '\\x00', 0)",
    )
    .execute(house.database.pool())
    .await
    .expect("the bookkeeping table is a table");
    for command in ["check", "migrate"] {
        let (code, _, stderr) = run(&folder, &[command, "--database-url", &url], &[]).await;
        assert_eq!(code, 4, "{stderr}");
        assert!(complaint(&stderr)[0].contains("9999"), "{stderr}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_key_that_could_not_be_used_or_shown_is_not_made() {
    let (house, folder) = (House::open().await, Folder::new());
    let url = house.database.url();
    let env = [("STEPWISE_DATABASE_URL", &*url), ("STEPWISE_ENVIRONMENT", "test")];
    let long = "x".repeat(101);
    for (name, more) in [
        (" ", ""),
        ("two\nlines", ""),
        ("\u{1b}[2Jred", ""),
        (&*long, ""),
        ("till", "--days 0"),
        // The year 275,000, which no program here can read.
        ("till", "--days 99999999"),
        ("till", "--scopes event:read"),
    ] {
        let mut create = vec!["token", "create", "--role", "service", "--name", name];
        create.extend(more.split_whitespace());
        let (code, said, stderr) = run(&folder, &create, &env).await;
        assert_eq!((code, &*said), (2, ""), "{name:?} {more}: {stderr}");
    }
    let (code, _, stderr) =
        run(&folder, &["token", "create", "--role", "viewer", "--name", "night"], &env).await;
    assert_eq!(code, 0, "{stderr}");
    sqlx::query(
        "-- a key of an earlier release\nupdate shop.access_key set expires_at = '275000-01-01'",
    )
    .execute(house.database.pool())
    .await
    .expect("written");
    let (code, list, stderr) = run(&folder, &["token", "list"], &env).await;
    assert!(code == 0 && list.contains("night  expires 9999-01-01"), "{list}{stderr}");
    house.close().await;
}

#[tokio::test]
async fn a_token_is_made_shown_once_and_revoked() {
    let house = House::open().await;
    let folder = Folder::new();
    let url = house.database.url();
    let env = [("STEPWISE_DATABASE_URL", url.as_str()), ("STEPWISE_ENVIRONMENT", "test")];
    let create = [
        "token",
        "create",
        "--role",
        "service",
        "--name",
        "till",
        "--scopes",
        "events:read,payments:read",
    ];
    let (code, token, stderr) = run(&folder, &create, &env).await;
    assert_eq!(code, 0, "{stderr}");
    let token = token.trim();
    assert!(token.starts_with("sk_test_"), "{token}");
    assert!(house.door.callers.look_up(token).await.is_ok());

    for days in ["-2147483648", "-1", "0", "36501", "2147483647", "9223372036854775808"] {
        let days = format!("--days={days}");
        let (code, _, stderr) = run(&folder, &[&create[..], &[days.as_str()]].concat(), &env).await;
        assert!(code == 2 && stderr.contains("--days"), "{days}: {code} {stderr}");
    }

    let (_, list, _) = run(&folder, &["token", "list"], &env).await;
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(list.contains("till") && !list.contains(token), "{list}");
    assert!(list.contains("events:read,payments:read"), "{list}");
    let id = list.split_whitespace().next().expect("the id comes first");
    let (code, _, stderr) = run(&folder, &["token", "revoke", id], &env).await;
    assert_eq!(code, 0, "{stderr}");
    let (code, _, _) = run(&folder, &["token", "revoke", id], &env).await;
    assert_eq!(code, 2, "there is nothing left to revoke");
    house.door.callers.forget(&stepwise::door::caller::token_hash(token));
    let refused = house.door.callers.look_up(token).await.expect_err("revoked");
    assert_eq!(refused.code(), "token_invalid");
    house.close().await;
}

#[tokio::test]
async fn help_names_only_what_works_and_gives_an_example_each() {
    let folder = Folder::new();
    let (code, help, _) = run(&folder, &["--help"], &[]).await;
    assert_eq!(code, 0);
    for command in ["migrate", "check", "token", "openapi", "saga", "events", "doctor"] {
        assert!(help.contains(command), "{help}");
        let (code, help, _) = run(&folder, &[command, "--help"], &[]).await;
        assert!(code == 0 && help.contains("Example: stepwise "), "{help}");
    }
    let (code, _, stderr) = run(&folder, &["migrat"], &[]).await;
    assert!(code == 2 && stderr.contains("migrate"), "{stderr}");
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do_and_finds_the_database_that_up_has_noted() {
    let house = House::open().await;
    let folder = &house.folder;
    let note = format!("{{\"databaseUrl\": \"{}\"}}", house.database.url());
    fs::write(folder.0.join(".stepwise/demo.json"), note).expect("writable");
    let (_, stdout, stderr) = run(folder, &["doctor"], &[]).await;
    for what in ["data folder", "keys", "migrations", "durability", "clocks", "broker"] {
        let line = stdout.lines().find(|line| line.contains(what)).unwrap_or_default();
        // A test server may run without fsync; doctor then reports that.
        let fine = line.starts_with("ok") || (what == "durability" && line.contains("fsync off"));
        assert!(fine, "{what}: {stdout} {stderr}");
    }
    let (code, stdout, stderr) =
        run(folder, &["doctor", "--json", "--database-url", "postgres://127.0.0.1:9/x"], &[]).await;
    assert_eq!(code, 1, "{stderr}");
    let found: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let database = found.iter().find(|found| found["what"] == "database").expect("looked at");
    assert_eq!(database["verdict"], "fail", "{database}");
    house.close().await;
}

#[tokio::test]
async fn sagas_and_events_can_be_read_on_a_terminal() {
    let house = House::open_working().await;
    let admin = house.key("admin", &[]).await;
    let thing = product(&house, &admin, "10.00", 5).await;
    let shopper = Shopper::new(&house).await;
    shopper.add(thing, 1).await.is(200);
    let body = shopper.order(shopper.address().await, shopper.method("ok").await);
    let order = shopper.place(&body, 15).await.is(201).json()["id"].clone();
    let order = order.as_str().expect("an id");

    let folder = &house.folder;
    let url = house.database.url();
    let env = [("STEPWISE_DATABASE_URL", url.as_str())];
    let list = ["saga", "list", "--kind", "place-order", "--status", "completed", "--json"];
    let (code, stdout, stderr) = run(folder, &list, &env).await;
    assert_eq!(code, 0, "{stderr}");
    let saga: serde_json::Value = serde_json::from_str(stdout.trim()).expect("one saga");
    assert_eq!((&saga["kind"], &saga["subject"]), (&"place-order".into(), &order.into()));
    let id = saga["id"].as_str().expect("an id");
    let (code, stdout, stderr) = run(folder, &["saga", "show", id], &env).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("journal") && stdout.contains("confirmed"), "{stdout}");
    let (code, stdout, _) = run(folder, &["saga", "list", "--status", "stuck"], &env).await;
    assert_eq!((code, stdout.as_str()), (0, "none\n"));
    let (code, _, stderr) = run(folder, &["saga", "show", &Uuid::now_v7().to_string()], &env).await;
    assert_eq!(code, 2, "{stderr}");

    // The customer's registration, the stock that became low, and the order.
    let (code, stdout, stderr) = run(folder, &["events", "tail", "--count", "3"], &env).await;
    assert_eq!(code, 0, "{stderr}");
    let events = stdout.lines().map(|line| serde_json::from_str(line).expect("an event"));
    let events: Vec<serde_json::Value> = events.collect();
    let is_placed = |event: &serde_json::Value| {
        event["type"] == "shop.order.placed.v1" && event["subject"] == *order
    };
    assert!(events.len() == 3 && events.iter().any(is_placed), "{stdout}");
    house.close().await;
}

#[tokio::test]
async fn a_reader_who_has_gone_ends_a_command_quietly_and_a_full_disk_is_a_failure() {
    let (folder, house) = (Folder::new(), House::open().await);
    house.key("viewer", &[]).await;
    let url = house.database.url();
    let commands: [&[&str]; 4] = [&["openapi"], &["saga", "list"], &["token", "list"], &["check"]];
    for args in commands {
        let command = || {
            let mut command = stepwise(&folder);
            command.args(args).env("STEPWISE_DATABASE_URL", &url).stderr(Stdio::piped());
            command
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        // `output` cannot be used, because it would read standard output itself.
        let gone = command().stdout(writer).spawn().expect("the binary starts");
        let gone = gone.wait_with_output().await.expect("it ends");
        let said = String::from_utf8_lossy(&gone.stderr);
        assert_eq!((gone.status.code(), &*said), (Some(0), ""), "{args:?}");

        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("there is one");
        let failed = command().stdout(full).spawn().expect("the binary starts");
        let failed = failed.wait_with_output().await.expect("it ends");
        let said = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {said}");
        assert_eq!(complaint(&said).len(), 1, "{args:?}: {said}");
    }
    house.close().await;
}
