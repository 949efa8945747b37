//! A folder in which a test runs `up`, and the process of `up`.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};
use uuid::Uuid;

/// How long to wait for a condition. Generous, because the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder for one test. Dropping it ends all processes that still use it.
pub(crate) struct Site {
    pub(crate) data: PathBuf,
    /// The environment of the binary, besides `PATH`.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    pub(crate) home: PathBuf,
}

/// A running `stepwise up`, in a process group of its own.
pub(crate) struct Up {
    child: Child,
    pub(crate) base: String,
    pub(crate) demo: Value,
    client: reqwest::Client,
    began: Instant,
    /// The time from the start of the process until it printed that it is up.
    pub(crate) start: Duration,
    /// The process's standard output. It is kept open, because these tests are not about a closed pipe.
    _stdout: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    /// The text that the process printed.
    pub(crate) said: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let home = std::env::temp_dir().join(format!("stepwise-up-{}", Uuid::now_v7().simple()));
        // Only the owner may enter the folder. If this test runs as root, the database's user may not.
        let made = fs::DirBuilder::new().mode(0o700).create(&home);
        made.expect("the temporary directory is writable");
        Self { data: home.join("data"), environment: Vec::new(), home }
    }

    /// The command for the binary in this folder. It gets nothing of this test's environment except `PATH`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepwise"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .envs(self.environment.iter().copied())
            .current_dir(&self.home)
            .args(args)
            .arg("--data-dir")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        command
    }

    /// Starts `up` on a free port and waits until it prints that it is up.
    pub(crate) async fn up(&self, args: &[&str]) -> Up {
        let began = Instant::now();
        let log = fs::File::create(self.home.join("log")).expect("writable");
        let mut command = self.command(&["up", "--port", "0"]);
        let mut child = command.args(args).stderr(log).spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut said = String::new();
        let invited = async {
            while let Ok(Some(line)) = lines.next_line().await {
                said.push_str(&line);
                said.push('\n');
                if line.contains("stops everything") {
                    return true;
                }
            }
            false
        };
        let invited = timeout(PATIENCE, invited).await;
        assert_eq!(invited, Ok(true), "it did not start: {}", self.log());
        let start = began.elapsed();
        let demo = self.demo();
        let base = demo["baseUrl"].as_str().expect("a text").to_owned();
        // This fails only if another test of this process has already installed the provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("a plain client");
        Up { child, base, demo, client, began, start, _stdout: lines, said }
    }

    /// Starts a process of another role, which ends with the test.
    pub(crate) fn role(&self, args: &[&str]) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.join("log"));
        let mut command = self.command(args);
        command.stderr(log.expect("writable")).stdout(Stdio::null());
        command.kill_on_drop(true).spawn().expect("the binary starts")
    }

    /// Starts a command that must fail. Returns its exit code and its one line of output.
    pub(crate) async fn refusal(&self, args: &[&str]) -> (i32, String) {
        let mut command = self.command(args);
        let ended = timeout(PATIENCE, command.stderr(Stdio::piped()).kill_on_drop(true).output());
        let output = ended.await.expect("it ends by itself").expect("the binary starts");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("stepwise: ")).collect();
        assert_eq!(lines.len(), 1, "one line, not: {text}");
        (output.status.code().expect("it was not killed"), lines[0].to_owned())
    }

    pub(crate) fn demo(&self) -> Value {
        let text = fs::read(self.data.join("demo.json")).expect("it was written");
        serde_json::from_slice(&text).expect("whole JSON")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// The lines of the gateway's ledger.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.data.join("gateway-ledger.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The gateway's process id according to its note.
    pub(crate) fn gateway_pid(&self) -> u32 {
        let text = fs::read(self.data.join("gateway.json")).expect("it was written");
        let note: Value = serde_json::from_slice(&text).expect("whole JSON");
        u32::try_from(note["pid"].as_u64().expect("a number")).expect("a process id")
    }

    /// Whether a gateway listens at the address in the note.
    pub(crate) fn gateway_lives(&self) -> bool {
        let note = fs::read(self.data.join("gateway.json")).expect("it was written");
        let note: Value = serde_json::from_slice(&note).expect("whole JSON");
        std::net::TcpStream::connect(note["address"].as_str().expect("a text")).is_ok()
    }

    /// The processes that use this folder: it is in their command line, or it is their working directory.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let name = self.home.to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let concerned = numbers.filter(|pid| {
            let place = Path::new("/proc").join(pid.to_string());
            let words = fs::read(place.join("cmdline")).unwrap_or_default();
            let works_here =
                fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.home));
            // A zombie process has no command line any more.
            !words.is_empty() && (works_here || String::from_utf8_lossy(&words).contains(&name))
        });
        concerned.filter(|pid| *pid != std::process::id()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in self.processes() {
            kill("KILL", &pid.to_string());
        }
        if std::thread::panicking() {
            eprintln!("--- what `up` logged\n{}", self.log());
        }
        // If this fails, files remain in the temporary directory.
        let _ = fs::remove_dir_all(&self.home);
    }
}

impl Up {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Kills the whole process group, like an outage.
    pub(crate) async fn kill_group(mut self) {
        kill("KILL", &format!("-{}", self.pid()));
        self.child.wait().await.expect("it was ours");
    }

    /// Waits for the end of a process that was killed by others.
    pub(crate) async fn killed(mut self) {
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it was killed");
        assert_eq!(ended.expect("it was ours").code(), None, "it ended by itself");
    }

    /// Kills the whole process group without waiting for its end, because others still use it.
    pub(crate) fn kill_group_now(&self) {
        kill("KILL", &format!("-{}", self.pid()));
    }

    /// Stops this process, and uses the one that listens on this port from now on.
    pub(crate) async fn leave_to(&mut self, port: &str) {
        kill("TERM", &self.pid().to_string());
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("it stops");
        assert!(ended.expect("it was ours").success());
        self.base = format!("http://127.0.0.1:{port}");
    }

    /// Whether the process answers that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("{}/readyz", self.base)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Tells the process to stop, and waits until it has ended.
    pub(crate) async fn stop(self, signal: &str) -> ExitStatus {
        kill(signal, &self.pid().to_string());
        self.ended().await
    }

    /// Waits until the process, which was told to stop, has ended.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it stops").expect("it was ours")
    }

    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Places an order for the first customer. Returns the order, the operation and the
    /// customer's token.
    pub(crate) async fn order(&self, method: &str) -> (String, String, String) {
        self.order_as(0, method).await
    }

    /// Places an order for this customer. Returns the order, the operation and the customer's token.
    pub(crate) async fn order_as(&self, customer: usize, method: &str) -> (String, String, String) {
        let placed = self.try_order_as(customer, method).await;
        placed.unwrap_or_else(|(status, problem)| panic!("{status}: {problem}"))
    }

    /// The same, which may be refused: then it returns the status and the problem.
    pub(crate) async fn try_order_as(
        &self,
        customer: usize,
        method: &str,
    ) -> Result<(String, String, String), (u16, Value)> {
        let customer = &self.demo["customers"][customer];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let token = text(&customer["token"]);
        let items = format!("/v1/customers/{}/cart/items", text(&customer["customerId"]));
        let item = json!({ "productId": self.demo["productIds"][0], "quantity": 1 });
        let (status, cart) = self.post(&token, &items, &item).await;
        if status >= 300 {
            return Err((status, cart));
        }
        let body = json!({
            "customerId": customer["customerId"],
            "shippingAddressId": customer["shippingAddressId"],
            "paymentMethodId": customer["paymentMethods"][method],
        });
        let (status, begun) = self.post(&token, "/v1/orders", &body).await;
        if status != 202 {
            return Err((status, begun));
        }
        Ok((text(&begun["subject"]), text(&begun["id"]), token))
    }

    /// Waits until an operation has succeeded.
    pub(crate) async fn succeeded(&self, token: &str, operation: &str) {
        let path = format!("/v1/operations/{operation}");
        eventually("the operation to succeed", async || {
            let (status, operation) = self.get(token, &path).await;
            assert_eq!(status, 200, "{operation}");
            assert_ne!(operation["status"], "failed", "{operation}");
            operation["status"] == "succeeded"
        })
        .await;
    }

    /// Sends a GET request with this token.
    pub(crate) async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(token);
        answer(request).await
    }

    /// The process's metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        let asked = self.client.get(format!("{}/metrics", self.base)).send().await;
        asked.expect("the server answers").text().await.expect("a whole answer")
    }

    /// Sends a command with this token and a new idempotency key.
    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(token);
        answer(request.header("idempotency-key", Uuid::now_v7().to_string()).json(body)).await
    }

    /// Sends a command with this idempotency key to a server that may be gone.
    pub(crate) async fn try_post(
        &self,
        token: &str,
        path: &str,
        key: &str,
        body: &Value,
    ) -> reqwest::Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(token);
        let response = request.header("idempotency-key", key).json(body).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }

    /// Opens a stream of events as the demo's service, after the last received event.
    pub(crate) async fn stream(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> reqwest::Result<reqwest::Response> {
        let mut request = reqwest::Client::new()
            .get(format!("{}{path}", self.base))
            .bearer_auth(self.token("service"));
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        request.send().await?.error_for_status()
    }

    pub(crate) fn token(&self, role: &str) -> String {
        self.demo["tokens"][role].as_str().expect("a text").to_owned()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// Sends a signal to a process, or to a group if the number is negative.
pub(crate) fn kill(signal: &str, target: &str) {
    // The process may have ended.
    let _ = std::process::Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$0" -- "$1""#, signal, target])
        .stderr(Stdio::null())
        .status();
}

/// Waits until a condition is true.
pub(crate) async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
