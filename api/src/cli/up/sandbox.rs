//! The sandbox gateway that `up` runs: a process that `up` starts or finds running, and replaces when it dies.
//!
//! The gateway runs in a process group of its own, because a real gateway runs on another machine: neither
//! Ctrl-C nor a kill of `up`'s group interrupts it. The next start finds the gateway by the lock it holds
//! and the note it wrote.

use std::{
    fs::OpenOptions,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use stepwise_engine::Trouble;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::super::{
    Failure,
    folder::Folder,
    gateway::{Lock, Note, program},
};

/// The interval between two checks of a gateway that is starting or stopping.
const LOOK: Duration = Duration::from_millis(20);
/// The interval between two checks of a running gateway.
const WATCH: Duration = Duration::from_secs(1);
/// How long a gateway may take to start. It needs a fraction of this.
const START: Duration = Duration::from_secs(10);
/// How long a gateway may take to stop. It needs a fraction of this.
const STOP: Duration = Duration::from_secs(8);
/// The size of a log, in bytes, above which the next start begins a new one.
const LOG_BYTES: u64 = 10_000_000;

/// A running sandbox gateway, which is replaced when it dies.
pub(super) struct GatewayProcess {
    address: SocketAddr,
    watched: JoinHandle<Running>,
    stop: CancellationToken,
}

/// The gateway process that runs now.
struct Running {
    folder: Folder,
    pid: u32,
    /// The child process; `None` if an earlier `up` started the gateway.
    child: Option<Child>,
}

impl GatewayProcess {
    /// Finds the running gateway of this folder or starts one. It sends its webhooks to `webhooks_to`.
    pub(super) async fn start(folder: &Folder, webhooks_to: &str) -> Result<Self, Failure> {
        let (running, address) = match attach(folder, webhooks_to).await? {
            Some(found) => found,
            None => spawn(folder, None, webhooks_to).await?,
        };
        let stop = CancellationToken::new();
        let watched = tokio::spawn(watch(running, address, webhooks_to.to_owned(), stop.clone()));
        Ok(Self { address, watched, stop })
    }

    /// The gateway's base address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the gateway and returns when its process has ended.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Ok(running) = self.watched.await {
            running.end().await;
        }
    }
}

/// Finds the gateway that runs on this folder. A gateway of another build, or with other webhooks, is ended instead.
async fn attach(
    folder: &Folder,
    webhooks_to: &str,
) -> Result<Option<(Running, SocketAddr)>, Failure> {
    let deadline = Instant::now() + START;
    while Lock::take(folder)?.is_none() {
        if let Some(note) = Note::read(folder)
            && TcpStream::connect(note.address).await.is_ok()
        {
            let running = Running { folder: folder.clone(), pid: note.pid, child: None };
            if note.program == program() && note.webhooks_to == webhooks_to {
                tracing::info!(pid = note.pid, "the sandbox gateway was still running");
                return Ok(Some((running, note.address)));
            }
            running.end().await;
        } else if Instant::now() > deadline {
            return Err(Failure::failed(
                "a sandbox gateway holds its lock but does not answer",
                format!("end the process that has {} open", folder.join("gateway.lock").display()),
            ));
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(None)
}

/// Starts a gateway and returns when it listens.
async fn spawn(
    folder: &Folder,
    listen: Option<SocketAddr>,
    webhooks_to: &str,
) -> Result<(Running, SocketAddr), Failure> {
    let path = folder.join("gateway.log");
    let cannot = |error: std::io::Error| Failure::failed("cannot start the sandbox gateway", error);
    if std::fs::metadata(&path).is_ok_and(|file| file.len() > LOG_BYTES) {
        // If the log cannot be removed, the gateway appends to it.
        drop(std::fs::remove_file(&path));
    }
    let log =
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(cannot)?;
    let mut command = Command::new(executable().map_err(cannot)?);
    command.arg0("stepwise").arg("gateway").arg("--webhooks-to").arg(webhooks_to);
    command.arg("--data-dir").arg(folder.path());
    if let Some(listen) = listen {
        command.arg("--listen").arg(listen.to_string());
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let deadline = Instant::now() + START;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::failed(
                "the sandbox gateway did not start",
                format!("{}; its log is {}", last_line(&path, &status), path.display()),
            ));
        }
        if let (Some(pid), Some(note)) = (child.id(), Note::read(folder))
            && note.pid == pid
        {
            let running = Running { folder: folder.clone(), pid, child: Some(child) };
            return Ok((running, note.address));
        }
        if Instant::now() > deadline {
            drop(child.kill().await);
            return Err(Failure::failed(
                "the sandbox gateway did not start",
                "it wrote no message",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The executable of this process. On Linux this works also after its file was replaced.
fn executable() -> std::io::Result<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    if itself.exists() { Ok(itself.to_owned()) } else { std::env::current_exe() }
}

/// The last error message in the log, or else the exit status.
fn last_line(log: &Path, status: &std::process::ExitStatus) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().rev().find_map(|line| line.strip_prefix("stepwise: "));
    last.map_or_else(|| status.to_string(), str::to_owned)
}

/// Starts a new gateway at the same address each time it dies, until told to stop.
async fn watch(
    mut running: Running,
    address: SocketAddr,
    webhooks_to: String,
    stop: CancellationToken,
) -> Running {
    let folder = running.folder.clone();
    let trouble = Trouble::new("cannot start the sandbox gateway again; trying until it starts");
    while stop.run_until_cancelled(running.ended()).await.is_some() {
        tracing::warn!("the sandbox gateway died; starting it again");
        while !stop.is_cancelled() {
            match spawn(&folder, Some(address), &webhooks_to).await {
                Ok((replacement, _)) => {
                    trouble.end();
                    running = replacement;
                    break;
                }
                Err(error) => {
                    trouble.begin(&error);
                    stop.run_until_cancelled(tokio::time::sleep(WATCH)).await;
                }
            }
        }
    }
    running
}

impl Running {
    /// Returns when the gateway's process has ended.
    async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => drop(child.wait().await),
            None => self.unlocked(WATCH).await,
        }
    }

    /// Returns when no process holds the lock any more.
    async fn unlocked(&self, look: Duration) {
        while !matches!(Lock::take(&self.folder), Ok(Some(_))) {
            tokio::time::sleep(look).await;
        }
    }

    /// Ends the gateway with SIGTERM, and with SIGKILL if that is not enough.
    async fn end(mut self) {
        for (signal, patience) in [("TERM", STOP), ("KILL", STOP)] {
            // While the lock is held, the process id belongs to its holder and to no newer process.
            if matches!(Lock::take(&self.folder), Ok(Some(_))) {
                break;
            }
            let kill = format!(r#"kill -{signal} "$0""#);
            let told = Command::new("/bin/sh")
                .arg("-c")
                .arg(kill)
                .arg(self.pid.to_string())
                .status()
                .await;
            if let Err(error) = told {
                tracing::warn!(%error, "cannot send the sandbox gateway a signal to stop");
            }
            if tokio::time::timeout(patience, self.unlocked(LOOK)).await.is_ok() {
                break;
            }
        }
        if let Some(child) = &mut self.child {
            // The gateway has released its lock, so it is about to end.
            drop(tokio::time::timeout(STOP, child.wait()).await);
        }
    }
}
