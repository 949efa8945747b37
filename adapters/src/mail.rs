//! Mailers: by SMTP, and for development and tests into files.

mod smtp;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use stepwise_workflows::shop::mail::{Mail, MailError, Mailer};

pub use smtp::{SmtpConfigError, SmtpMailer};

/// Writes each mail to a file of its own (mode 0600), named by the hash of its key. Sending the
/// same mail again writes the same file.
pub struct FileMailer {
    folder: PathBuf,
}

impl FileMailer {
    /// Creates a mailer that writes into `folder`, which is created with mode 0700 if it is missing.
    pub fn new(folder: &Path) -> io::Result<Self> {
        make(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The mails in `folder`: its regular files whose names end in `.eml`, or in `.new` while they are written. A folder that is not there has none.
fn mails(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<PathBuf>>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(|error| at(folder, &error))?),
    };
    let folder = folder.to_owned();
    Ok(entries.into_iter().flatten().filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(at(&folder, &error))),
        };
        let path = entry.path();
        // A file of which the kind cannot be read was deleted meanwhile.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_mail = path.extension().is_some_and(|kind| kind == "eml" || kind == "new");
        (is_file && is_mail).then_some(Ok(path))
    }))
}

/// Deletes a mail. `false` if another process was faster.
fn delete(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path, &error)),
    }
}

/// The error with the path in front. Names of mails are hashes, so the path tells nothing about a customer.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Deletes the mails in `folder` that were written longer ago than `kept`, at most `limit`. Returns how many. A folder that is not there has none.
///
/// # Errors
/// The folder cannot be read, or a file cannot be deleted.
pub async fn delete_old(folder: PathBuf, kept: Duration, limit: usize) -> io::Result<usize> {
    let deleted = tokio::task::spawn_blocking(move || {
        let mut deleted = 0;
        for path in mails(&folder)? {
            let path = path?;
            // Another process may have deleted it meanwhile.
            let Ok(written) = std::fs::metadata(&path).and_then(|file| file.modified()) else {
                continue;
            };
            if written.elapsed().is_ok_and(|age| age > kept) && delete(&path)? {
                deleted += 1;
            }
            if deleted == limit {
                break;
            }
        }
        Ok(deleted)
    });
    deleted.await.map_err(|_| io::Error::other("the runtime is ending"))?
}

#[async_trait]
impl Mailer for FileMailer {
    async fn send(&self, key: &str, mail: &Mail) -> Result<(), MailError> {
        let name = hex::encode(&Sha256::digest(key)[..16]);
        let path = self.folder.join(format!("{name}.eml"));
        let temporary = self.folder.join(format!("{name}.{}.new", uuid::Uuid::now_v7()));
        let (folder, text) = (self.folder.clone(), render(mail));
        let written = tokio::task::spawn_blocking(move || {
            // Somebody may have tidied up.
            make(&folder)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&temporary, &path)
        });
        written
            .await
            .map_err(|_| MailError::Unknown(io::Error::other("the runtime is ending")))?
            .map_err(MailError::NotDone)
    }

    /// Reads the first line of each mail in the folder.
    async fn forget(&self, address: &str) -> Result<u64, MailError> {
        let (folder, line) = (self.folder.clone(), format!("To: {}\r\n", one_line(address)));
        let deleted = tokio::task::spawn_blocking(move || delete_with(&folder, line.as_bytes()));
        deleted
            .await
            .map_err(|_| MailError::NotDeleted(io::Error::other("the runtime is ending")))?
            .map_err(MailError::NotDeleted)
    }
}

/// Deletes the mails that begin with this line.
fn delete_with(folder: &Path, line: &[u8]) -> io::Result<u64> {
    let (mut deleted, mut begin) = (0, vec![0; line.len()]);
    for path in mails(folder)? {
        let path = path?;
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut begin));
        match read {
            Ok(()) if begin == line => deleted += u64::from(delete(&path)?),
            Ok(()) => {}
            // Shorter than the line, or renamed meanwhile.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
                ) => {}
            Err(error) => return Err(at(&path, &error)),
        }
    }
    Ok(deleted)
}

/// Replaces line breaks in an address or a subject by spaces, because they would begin further headers.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn render(mail: &Mail) -> String {
    format!(
        "To: {}\r\nSubject: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}\r\n",
        one_line(&mail.to),
        one_line(&mail.subject),
        mail.text
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::Folder;

    fn mail(subject: &str) -> Mail {
        Mail { to: "ada@example.com".into(), subject: subject.into(), text: "Hello\nAda".into() }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed").path())
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn a_mail_becomes_a_file_only_its_owner_can_read() {
        let folder = Folder::new();
        let mailer = FileMailer::new(&folder.path().join("mail")).expect("the folder is writable");
        mailer.send("k1", &mail("Welcome")).await.expect("it can be written");
        let [file] = &files(&folder.path().join("mail"))[..] else { panic!("one file") };
        let mode = std::fs::metadata(file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(file).expect("it can be read");
        assert!(text.starts_with("To: ada@example.com\r\nSubject: Welcome\r\n"), "{text}");
        assert!(text.contains("\r\n\r\nHello\nAda"), "{text}");
    }

    #[tokio::test]
    async fn the_same_mail_sent_twice_is_one_file() {
        let folder = Folder::new();
        let mailer = FileMailer::new(folder.path()).expect("the folder is writable");
        for key in ["k1", "k1", "k2"] {
            mailer.send(key, &mail("Welcome")).await.expect("it can be written");
        }
        assert_eq!(files(folder.path()).len(), 2);
    }

    #[tokio::test]
    async fn a_mail_is_written_although_its_folder_was_deleted() {
        let folder = Folder::new();
        let mailer = FileMailer::new(&folder.path().join("mail")).expect("the folder is writable");
        std::fs::remove_dir(folder.path().join("mail")).expect("ours");
        mailer.send("k1", &mail("Welcome")).await.expect("it can be written");
        assert_eq!(files(&folder.path().join("mail")).len(), 1);
    }

    #[tokio::test]
    async fn mails_are_deleted_once_they_are_old_some_at_a_time() {
        let folder = Folder::new();
        let mailer = FileMailer::new(folder.path()).expect("the folder is writable");
        for key in ["k1", "k2", "k3"] {
            mailer.send(key, &mail("Welcome")).await.expect("it can be written");
        }
        std::fs::write(folder.path().join("notes.txt"), "mine").expect("it can be written");
        let delete = async |kept, limit| {
            delete_old(folder.path().to_owned(), kept, limit).await.expect("they can be deleted")
        };
        assert_eq!(delete(Duration::from_secs(3_600), 10).await, 0, "they are new");
        assert_eq!(delete(Duration::ZERO, 2).await, 2);
        assert_eq!(delete(Duration::ZERO, 10).await, 1);
        assert_eq!(files(folder.path()).len(), 1, "other files stay");
        let missing = folder.path().join("missing");
        assert_eq!(delete_old(missing, Duration::ZERO, 1).await.expect("no mails"), 0);
    }

    #[tokio::test]
    async fn the_mails_to_an_address_are_deleted_and_no_others() {
        let folder = Folder::new();
        let mailer = FileMailer::new(folder.path()).expect("the folder is writable");
        for key in ["k1", "k2"] {
            mailer.send(key, &mail("Welcome")).await.expect("it can be written");
        }
        let other = Mail { to: "ada@example.com.au".into(), ..mail("Welcome") };
        mailer.send("k3", &other).await.expect("it can be written");
        std::fs::write(folder.path().join("short"), "To").expect("ours");
        assert_eq!(mailer.forget("ada@example.com").await.expect("deleted"), 2);
        assert_eq!(mailer.forget("ada@example.com").await.expect("none left"), 0);
        assert_eq!(files(folder.path()).len(), 2);
    }

    #[tokio::test]
    async fn other_things_in_the_mail_folder_keep_no_mail_from_being_deleted() {
        let folder = Folder::new();
        let mailer = FileMailer::new(folder.path()).expect("the folder is writable");
        mailer.send("k1", &mail("Welcome")).await.expect("it can be written");
        let other = |name: &str| folder.path().join(name);
        for name in ["archive", "lost+found", "archive.eml"] {
            std::fs::create_dir(other(name)).expect("ours");
        }
        std::fs::write(other("notes.txt"), "To: ada@example.com\r\n").expect("ours");
        // The process died while it wrote this one.
        std::fs::write(other("k2.new"), "To: ada@example.com\r\nSubj").expect("ours");
        assert_eq!(mailer.forget("ada@example.com").await.expect("deleted"), 2);
        let delete_old = delete_old(folder.path().to_owned(), Duration::ZERO, 10);
        assert_eq!(delete_old.await.expect("none left"), 0);
        assert_eq!(files(folder.path()).len(), 4, "other things stay");
        let gone = FileMailer::new(&other("mail")).expect("the folder is writable");
        std::fs::remove_dir(other("mail")).expect("ours");
        assert_eq!(gone.forget("ada@example.com").await.expect("no folder, no mails"), 0);
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_deleted_is_named_by_its_file() {
        let folder = Folder::new();
        let file = folder.path().join("mail");
        let mailer = FileMailer::new(&file).expect("the folder is writable");
        std::fs::remove_dir(&file).expect("ours");
        std::fs::write(&file, "not a folder").expect("ours");
        let refused = mailer.forget("ada@example.com").await.expect_err("it is no folder");
        let said = refused.to_string();
        let expected = format!("a mail cannot be deleted: {}: ", file.display());
        assert!(said.starts_with(&expected) && !said.contains("ada"), "{said}");
    }

    #[test]
    fn a_subject_cannot_add_a_header() {
        let text = render(&mail("Hi\r\nBcc: eve@example.com"));
        assert!(!text.contains("\r\nBcc"), "{text}");
    }
}
