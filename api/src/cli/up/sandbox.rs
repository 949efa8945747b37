//! The sandbox gateway beside `up`: a process that is started, found again, replaced when it dies.
//!
//! It runs in a process group of its own, as the real one would run at somebody else's: neither
//! Ctrl-C nor a kill of our group ends it in the middle of what it does. The next start finds it by
//! the lock it holds and the note it left.

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

/// Between two looks at one that starts or stops.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks at one that runs.
const WATCH: Duration = Duration::from_secs(1);
/// It starts in a fraction of this.
const START: Duration = Duration::from_secs(10);
/// It finishes what it writes in a fraction of this.
const STOP: Duration = Duration::from_secs(8);
/// A longer log is begun anew.
const LOG_BYTES: u64 = 10_000_000;

/// A sandbox gateway that runs, and goes on running.
pub(super) struct GatewayProcess {
    address: SocketAddr,
    watched: JoinHandle<Running>,
    stop: CancellationToken,
}

/// One that runs now.
struct Running {
    folder: Folder,
    pid: u32,
    /// Present if this process has started it.
    child: Option<Child>,
}

impl GatewayProcess {
    /// Finds the gateway of this folder, or starts it. Its webhooks go to `webhooks_to`.
    pub(super) async fn start(folder: &Folder, webhooks_to: &str) -> Result<Self, Failure> {
        let (running, address) = match attach(folder, webhooks_to).await? {
            Some(found) => found,
            None => spawn(folder, None, webhooks_to).await?,
        };
        let stop = CancellationToken::new();
        let watched = tokio::spawn(watch(running, address, webhooks_to.to_owned(), stop.clone()));
        Ok(Self { address, watched, stop })
    }

    /// Its base address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it; returns when it is gone.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Ok(running) = self.watched.await {
            running.end().await;
        }
    }
}

/// The one that runs on this folder, if it is of this program and tells the right shop.
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

/// Starts one; returns when it listens.
async fn spawn(
    folder: &Folder,
    listen: Option<SocketAddr>,
    webhooks_to: &str,
) -> Result<(Running, SocketAddr), Failure> {
    let path = folder.join("gateway.log");
    let cannot = |error: std::io::Error| Failure::failed("cannot start the sandbox gateway", error);
    if std::fs::metadata(&path).is_ok_and(|file| file.len() > LOG_BYTES) {
        // One that cannot be removed is appended to.
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
            return Err(Failure::failed("the sandbox gateway did not start", "it said nothing"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// This very program, also after its file was replaced.
fn executable() -> std::io::Result<PathBuf> {
    let itself = Path::new("/proc/self/exe");
    if itself.exists() { Ok(itself.to_owned()) } else { std::env::current_exe() }
}

/// What it said last, or how it ended.
fn last_line(log: &Path, status: &std::process::ExitStatus) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().rev().find_map(|line| line.strip_prefix("stepwise: "));
    last.map_or_else(|| status.to_string(), str::to_owned)
}

/// Replaces a gateway that dies, at the same address, until told to stop.
async fn watch(
    mut running: Running,
    address: SocketAddr,
    webhooks_to: String,
    stop: CancellationToken,
) -> Running {
    let folder = running.folder.clone();
    let trouble = Trouble::new("the sandbox gateway cannot be started again; trying until it can");
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
    /// Returns when it is gone.
    async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => drop(child.wait().await),
            None => self.unlocked(WATCH).await,
        }
    }

    /// Returns when nobody holds the lock any more.
    async fn unlocked(&self, look: Duration) {
        while !matches!(Lock::take(&self.folder), Ok(Some(_))) {
            tokio::time::sleep(look).await;
        }
    }

    /// Ends it: kindly, and after a while not.
    async fn end(mut self) {
        for (signal, patience) in [("TERM", STOP), ("KILL", STOP)] {
            // While the lock is held, the number is its holder's.
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
                tracing::warn!(%error, "the sandbox gateway could not be told to stop");
            }
            if tokio::time::timeout(patience, self.unlocked(LOOK)).await.is_ok() {
                break;
            }
        }
        if let Some(child) = &mut self.child {
            // It has let go of its lock: it is ending.
            drop(tokio::time::timeout(STOP, child.wait()).await);
        }
    }
}
