//! A pgbouncer of a test's own before the tests' Postgres.

use std::{path::Path, process::Stdio};

use reqwest::Url;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

/// Starts pgbouncer and prints its port. Ends it when the input of the script ends, which is also when the test was killed.
const SCRIPT: &str = r#"
set -euo pipefail
. "$0"
trap stop_servers EXIT
make_scratch
start_pgbouncer "$1" "$2"
echo "$pgbouncer_port"
read -r || true
"#;

/// A running pgbouncer. It ends when it is dropped.
pub struct Pooler {
    /// The address of the database through it.
    pub url: String,
    _input: ChildStdin,
    _process: Child,
}

impl Pooler {
    /// Starts one before the database of this address, with these lines in its settings.
    ///
    /// # Panics
    /// Where there is no pgbouncer on this machine, or it does not start.
    pub async fn before(database: &str, settings: &[&str]) -> Self {
        let mut url: Url = database.parse().expect("an address");
        let part = |name: &str, value: Option<&str>| {
            value.filter(|it| !it.is_empty()).map_or_else(String::new, |it| format!("{name}={it} "))
        };
        let port = url.port().unwrap_or(5432).to_string();
        let server = [
            part("host", url.host_str()),
            part("port", Some(&port)),
            part("user", Some(url.username())),
            part("password", url.password()),
        ];
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib.sh");
        let mut process = Command::new("bash")
            .args(["-c", SCRIPT])
            .arg(library)
            .args([server.concat(), settings.join("\n")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash is there");
        let input = process.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let line = lines.next_line().await.expect("readable");
        let port = line.expect("pgbouncer starts and prints its port");
        url.set_host(Some("127.0.0.1")).expect("it has a host");
        url.set_port(Some(port.parse().expect("a port"))).expect("it may have one");
        Self { url: url.to_string(), _input: input, _process: process }
    }
}
