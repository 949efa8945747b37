//! Who runs the server, and how it reaches its data.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::ClusterError;
use super::access::{Access, NAME};
use super::binaries::Binaries;

/// The user that the server runs as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account {
    /// Whoever we are.
    Ourselves,
    /// We are root, and it is this one.
    Other { user: u32, group: u32 },
}

/// What the shell of [`Account::command`] opens for the server.
const DATA_HANDLE: &str = "/proc/self/fd/3";
const PASSWORD_HANDLE: &str = "/proc/self/fd/4";

impl Account {
    /// Ourselves unless we are root; then the owner of existing data, else `postgres` or `nobody`.
    pub(super) fn choose(data: &Path) -> Result<Self, ClusterError> {
        if !we_are_root() {
            return Ok(Self::Ourselves);
        }
        if find_program("setpriv").is_none() {
            return Err(ClusterError::NoAccount { reason: "install setpriv (util-linux)" });
        }
        if let Ok(owner) = data.metadata() {
            return match owner.uid() {
                0 => Err(ClusterError::Damaged {
                    path: data.to_owned(),
                    reason: "belongs to root, which PostgreSQL does not accept",
                }),
                user => Ok(Self::Other { user, group: owner.gid() }),
            };
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(&accounts, name))
            .map(|(user, group)| Self::Other { user, group })
            .ok_or(ClusterError::NoAccount { reason: "add a user named postgres" })
    }

    /// Makes a cluster at `folder/data`, whole or not at all.
    pub(super) async fn initialize(
        self,
        binaries: &Binaries,
        folder: &Path,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let (making, password) = (folder.join("data.new"), folder.join("password.new"));
        // Left by a start that was killed.
        drop(std::fs::remove_dir_all(&making));
        let prepare = || {
            std::fs::create_dir(&making)?;
            self.own(&making, 0o700)?;
            std::fs::write(&password, "")?;
            self.own(&password, 0o600)?;
            std::fs::write(&password, &access.password)
        };
        prepare().map_err(ClusterError::at(&making))?;
        let (data, passwords) = match self {
            Self::Ourselves => (making.clone(), password.clone()),
            Self::Other { .. } => (DATA_HANDLE.into(), PASSWORD_HANDLE.into()),
        };
        let arguments: Vec<OsString> = vec![
            "-D".into(),
            data.into(),
            "--pwfile".into(),
            passwords.into(),
            "-U".into(),
            NAME.into(),
            "--auth=scram-sha-256".into(),
            "--encoding=UTF8".into(),
            "--locale=C".into(),
            "--data-checksums".into(),
        ];
        let output = self
            .command(&binaries.initdb(), &making, Some(&password), false)
            .args(arguments)
            .output()
            .await
            .map_err(|error| failed("initdb", &error.to_string()))?;
        drop(std::fs::remove_file(&password));
        if !output.status.success() {
            return Err(failed("initdb", &String::from_utf8_lossy(&output.stderr)));
        }
        let finish = || {
            std::fs::rename(&making, folder.join("data"))?;
            std::fs::File::open(folder)?.sync_all()
        };
        finish().map_err(ClusterError::at(folder))
    }

    /// The name under which the server of this account knows its data directory.
    pub(super) fn name_of(self, data: &Path) -> PathBuf {
        match self {
            Self::Ourselves => data.to_owned(),
            Self::Other { .. } => DATA_HANDLE.into(),
        }
    }

    /// A command that runs `program` as this account, with no surprises from our environment.
    ///
    /// As another user it is started by a shell that opens the data directory (and the password)
    /// while it is still root. Paths through these handles need no permission to enter what lies
    /// above, so the folder may be anywhere and nothing above it is changed.
    pub(super) fn command(
        self,
        program: &Path,
        data: &Path,
        password: Option<&Path>,
        own_session: bool,
    ) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        let has_setsid = find_program("setsid").is_some();
        if own_session && has_setsid {
            words.push("setsid".into());
        }
        if let Self::Other { user, group } = self {
            words.extend([
                "setpriv".into(),
                format!("--reuid={user}").into(),
                format!("--regid={group}").into(),
                "--clear-groups".into(),
                "--".into(),
            ]);
        }
        words.push(program.into());

        let mut command = match self {
            Self::Ourselves => Command::new(&words[0]),
            Self::Other { .. } => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(r#"exec 3<"$0" 4<"$1"; shift; exec "$@""#);
                shell.arg(data).arg(password.unwrap_or(data)).arg(&words[0]);
                shell
            }
        };
        command.args(&words[1..]).current_dir("/").stdin(Stdio::null()).env_clear();
        for kept in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("LC_ALL", "C").kill_on_drop(!own_session);
        if own_session && !has_setsid {
            command.process_group(0);
        }
        command
    }

    fn own(self, path: &Path, mode: u32) -> std::io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        match self {
            Self::Ourselves => Ok(()),
            Self::Other { user, group } => chown(path, Some(user), Some(group)),
        }
    }
}

/// The line of a program's output that says what went wrong.
pub(super) fn failed(program: &'static str, output: &str) -> ClusterError {
    let line = output
        .lines()
        .rev()
        .find(|line| ["FATAL", "PANIC", "error"].iter().any(|word| line.contains(word)))
        .or_else(|| output.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("it said nothing");
    ClusterError::Failed { program, reason: line.trim().to_owned() }
}

fn we_are_root() -> bool {
    // The owner of our own process, without asking for `unsafe`; elsewhere: of what we make.
    if let Ok(process) = std::fs::metadata("/proc/self") {
        return process.uid() == 0;
    }
    std::process::Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file())
}

fn ids_of(accounts: &str, name: &str) -> Option<(u32, u32)> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let (user, group) = (fields.nth(1)?, fields.next()?);
        Some((user.parse().ok()?, group.parse().ok()?))
    })
}
