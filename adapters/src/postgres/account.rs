//! The user that runs the server, and that user's access to the data directory.

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
    /// The user of this process.
    Ourselves,
    /// Another user, because this process runs as root.
    Other { user: u32, group: u32 },
}

/// The paths by which the server reaches the files that the shell of [`Account::command`] opens for it.
const DATA_HANDLE: &str = "/proc/self/fd/3";
const PASSWORD_HANDLE: &str = "/proc/self/fd/4";

impl Account {
    /// Chooses the user: this process's user unless it is root; then the owner of existing data, or else `postgres` or `nobody`.
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

    /// Creates a cluster at `folder/data`, atomically.
    pub(super) async fn initialize(
        self,
        binaries: &Binaries,
        folder: &Path,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let (making, password) = (folder.join("data.new"), folder.join("password.new"));
        // An earlier start that was killed may have left it.
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
        let initdb = async |letters: &str| {
            self.command(&binaries.initdb(), &making, Some(&password), false)
                .args(&arguments)
                .arg(letters)
                .output()
                .await
                .map_err(|error| failed("initdb", &error.to_string()))
        };
        // The letters of all scripts, if the system has the locale. Texts are in the order of their bytes in any case.
        let mut output = initdb("--lc-ctype=C.UTF-8").await?;
        if !output.status.success() {
            output = initdb("--lc-ctype=C").await?;
        }
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

    /// The path by which the server of this account reaches its data directory.
    pub(super) fn name_of(self, data: &Path) -> PathBuf {
        match self {
            Self::Ourselves => data.to_owned(),
            Self::Other { .. } => DATA_HANDLE.into(),
        }
    }

    /// A command that runs `program` as this account, without this process's environment.
    ///
    /// If the account is another user, a shell opens the data directory (and the password) while it is still root, and then
    /// starts the program. A path through such a handle needs no permission for the directories above, so the folder may be
    /// anywhere and no directory above it is changed.
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

/// The line of a program's output that names the error.
pub(super) fn failed(program: &'static str, output: &str) -> ClusterError {
    let line = output
        .lines()
        .rev()
        .find(|line| ["FATAL", "PANIC", "error"].iter().any(|word| line.contains(word)))
        .or_else(|| output.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("it wrote no message");
    ClusterError::Failed { program, reason: line.trim().to_owned() }
}

fn we_are_root() -> bool {
    // The owner of this process, found without `unsafe`; on systems without /proc, the answer of `id`.
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
