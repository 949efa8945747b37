//! The processes of a cluster: the server's main process and its children. The data directory is the working directory of all of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

/// The interval between two checks of processes that are ending.
const LOOK: Duration = Duration::from_millis(20);
/// How long the kernel may take to remove killed processes.
const KILLED: Duration = Duration::from_secs(3);

/// Kills every process whose working directory is this data directory, and returns when none is left. As in a crash,
/// uncommitted work is lost, and the next start recovers the rest.
pub(super) async fn end(data: &Path) {
    let deadline = Instant::now() + KILLED;
    loop {
        let left = in_directory(data);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        signal("KILL", &left).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// The running server processes whose working directory is this data directory. Empty if the system has no /proc: there the
/// children of a dead server are left to end by themselves.
fn in_directory(data: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let works_there = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // A zombie process has no working directory any more.
        name.trim() == "postgres"
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place == data)
    };
    numbers.filter(works_there).collect()
}

/// Sends processes a signal. Processes that have ended are skipped.
pub(super) async fn signal(name: &str, targets: &[u32]) {
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", r#"kill -s "$0" "$@""#, name]);
    kill.args(targets.iter().map(u32::to_string)).stderr(Stdio::null());
    if let Err(error) = kill.status().await {
        tracing::warn!(%error, "cannot send the database a signal");
    }
}

/// Whether this process exists and has not ended.
pub(super) async fn is_alive(pid: u32) -> bool {
    if Path::new("/proc/self").exists() {
        let state = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat")));
        // A zombie has ended, although its parent has not noticed yet.
        return state.is_ok_and(|line| !line.contains(") Z "));
    }
    let mut asked = Command::new("/bin/sh");
    asked.args(["-c", r#"kill -0 "$0""#, &pid.to_string()]);
    asked.stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().await.is_ok_and(|status| status.success())
}
