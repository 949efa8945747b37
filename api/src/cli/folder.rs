//! The data folder, which holds everything that the program writes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::Failure;

/// The data folder. Only its owner may read it. (When this process runs as root, the Postgres of `up`
/// runs as another user and inherits its own folder as an open descriptor.)
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// A lock that `up` holds while it runs, so that two of them cannot share a folder. The system releases it when the process ends.
#[derive(Debug)]
pub(super) struct Hold(#[expect(dead_code, reason = "held, not read")] File);

/// The secrets that the parts of one installation share.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secrets {
    /// The secret that signs the gateway's webhooks.
    pub(super) webhook_secret: String,
    /// The key with which the shop calls the gateway.
    pub(super) gateway_key: String,
    /// The name that distinguishes this installation's worker from others on the same database. It is not secret.
    pub(super) name: String,
}

impl Folder {
    /// Opens the folder at `path` and creates it if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::failed(
                &format!("the data directory {} cannot be written", path.display()),
                format!("{error}; make it writable or choose another with --data-dir"),
            )
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot)?;
        let path = fs::canonicalize(path).map_err(cannot)?;
        // The name is random because processes that share the folder may start at the same moment.
        let probe = path.join(format!(".writable-{}", uuid::Uuid::new_v4()));
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(cannot)?;
        Ok(Self(path))
    }

    /// Finds the folder without creating anything. `None` if it does not exist.
    pub(super) fn find(path: &Path) -> Option<Self> {
        fs::canonicalize(path).ok().filter(|path| path.is_dir()).map(Self)
    }

    /// The folder's path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file inside the folder.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Locks the folder for this `up`.
    pub(super) fn hold(&self) -> Result<Hold, Failure> {
        let path = self.join("up.lock");
        let open =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(|error| Failure::failed("cannot open the lock file", error))?;
        match file.try_lock() {
            Ok(()) => Ok(Hold(file)),
            Err(_) => Err(Failure::failed(
                "another `stepwise up` uses this data directory",
                format!("{}; stop it, or choose another with --data-dir", self.0.display()),
            )),
        }
    }

    /// The installation's secrets. The first call creates them; a lock makes sure that only one process does.
    pub(super) fn secrets(&self) -> Result<Secrets, Failure> {
        if let Some(secrets) = self.read_secrets()? {
            return Ok(secrets);
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.join("secrets.lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| Failure::failed("cannot lock the data directory", error))?;
        if let Some(secrets) = self.read_secrets()? {
            return Ok(secrets);
        }
        let draw = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let secrets = Secrets {
            webhook_secret: format!("whsec_{}", draw()),
            gateway_key: format!("sk_sandbox_{}", draw()),
            name: hex::encode(rand::random::<[u8; 4]>()),
        };
        self.write_private("secrets.json", &secrets)?;
        drop(lock);
        Ok(secrets)
    }

    fn read_secrets(&self) -> Result<Option<Secrets>, Failure> {
        let path = self.join("secrets.json");
        let broken = |error: &dyn std::fmt::Display| {
            Failure::failed(&format!("cannot use {}", path.display()), error)
        };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| broken(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Writes JSON that only the owner may read. The write is atomic.
    pub(super) fn write_private(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).expect("plain data is valid JSON");
        self.write_private_text(name, &(text + "\n"))
    }

    /// Writes a file that only its owner may read. The write is atomic.
    pub(super) fn write_private_text(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (path, draft) = (self.join(name), self.join(&format!(".{name}.new")));
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| Failure::failed(&format!("cannot write {}", path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch() -> PathBuf {
        std::env::temp_dir().join(format!("stepwise-folder-{}", uuid::Uuid::now_v7().simple()))
    }

    #[test]
    fn secrets_are_drawn_once_and_are_nobody_elses_business() {
        let path = scratch();
        let folder = Folder::open(&path).expect("the temporary directory is writable");
        let first = folder.secrets().expect("drawn");
        assert_eq!(folder.secrets().expect("read").webhook_secret, first.webhook_secret);
        let mode = fs::metadata(folder.join("secrets.json")).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(path).expect("ours");
    }

    #[test]
    fn whoever_opens_a_new_folder_at_the_same_moment_has_the_same_secrets() {
        let path = scratch();
        let open = || Folder::open(&path).and_then(|folder| folder.secrets()).expect("it opens");
        let drawn = std::thread::scope(|scope| {
            let openers = (0..16).map(|_| scope.spawn(open)).collect::<Vec<_>>();
            openers.into_iter().map(|one| one.join().expect("no panic").name).collect::<Vec<_>>()
        });
        assert!(drawn.iter().all(|name| *name == drawn[0]), "{drawn:?}");
        fs::remove_dir_all(path).expect("ours");
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let path = scratch();
        let folder = Folder::open(&path).expect("the temporary directory is writable");
        let hold = folder.hold().expect("free");
        assert!(folder.hold().expect_err("held").to_string().contains("--data-dir"));
        drop(hold);
        folder.hold().expect("free again");
        fs::remove_dir_all(path).expect("ours");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_in_one_line() {
        let path = scratch();
        fs::write(&path, b"a file").expect("the temporary directory is writable");
        let why = Folder::open(&path.join("below")).expect_err("not a folder").to_string();
        assert!(why.contains("--data-dir") && why.lines().count() == 1, "{why}");
        fs::remove_file(path).expect("ours");
    }
}
