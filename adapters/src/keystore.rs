//! A store for the customers' keys, in files outside the database.
//!
//! The store is a folder (mode 0700) with three files (mode 0600): `kek` is the key that wraps all others; `keys` has
//! the wrapped keys; `lock` serialises the writers of all processes that share the folder. The memory needed does not
//! grow with the number of customers: a hash gives a key's place in `keys` (see `table`), and a bounded cache holds
//! recently used keys.
//!
//! Costs: a cached read does not touch the disk; another read reads 128 bytes. Creating any number of keys in one call,
//! or destroying one, waits for the disk once. Once a second a read asks the file whether a key was destroyed; if another
//! process has destroyed one, the cache is emptied. So no process uses a destroyed key for longer than [`CHECK`].
//!
//! Deliberately absent: rotation of the wrapping key, and backups. Both copy `keys`, and a backup must be deleted
//! within the time in which an erasure has to become final.
//!
//! The lock may be held by a process that is frozen. A wait for it ends after a few seconds with an error, and keys that exist can be read meanwhile.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use stepwise_engine::Trouble;
use stepwise_workflows::privacy::{CustomerKey, KEY_BYTES, KeyStore, KeyStoreError};
use uuid::Uuid;

use self::{lock::LockFile, table::Table};

mod lock;
mod table;
#[cfg(test)]
mod tests;

/// The maximum number of keys in the cache.
const CACHE_KEYS: usize = 10_000;
/// The time for which the cache is used without asking the file whether another process has destroyed a key.
pub const CHECK: Duration = Duration::from_secs(1);
/// Half of the longest time that an unused key stays in the cache.
pub const CACHE_LIFE: Duration = Duration::from_secs(30);

/// Reading may work while writing does not: the disk is full, or another process holds the lock.
static READING: Trouble = Trouble::new("customers' keys cannot be read; trying again");
static READING_SURELY: Trouble =
    Trouble::new("whether customers' keys exist cannot be read; trying again");
static WRITING: Trouble = Trouble::new("customers' keys cannot be written; trying again");

/// A key store in a folder. Clones share its state.
#[derive(Clone)]
pub struct FileKeyStore(Arc<Inner>);

struct Inner {
    fingerprint: Uuid,
    /// Taken before the table, so that no reader waits for another process.
    lock: LockFile,
    table: Mutex<Table>,
    cache: Mutex<Cache>,
}

impl FileKeyStore {
    /// Opens the store in `folder`, and creates it if there is none. Blocks on the disk.
    ///
    /// Fails if one of the two files is missing while the other has content: creating it again would silently erase all
    /// customers.
    pub fn open(folder: &Path) -> Result<Self, KeyStoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join("lock");
        let file = private_file().create(true).truncate(false).open(&path)?;
        let lock = LockFile::new(path, file);
        let held = lock.hold()?;
        let table = Table::open(folder, open_or_make(folder)?, &held)?;
        drop(held);
        Ok(Self::with(lock, table))
    }

    /// Opens the store in `folder` without changing anything. `None` if there is no store. Blocks on the
    /// disk.
    pub fn find(folder: &Path) -> Result<Option<Self>, KeyStoreError> {
        if !folder.join("kek").try_exists()? && !folder.join(table::FILE).try_exists()? {
            return Ok(None);
        }
        // A restored copy may lack the lock file; then no process uses it yet.
        let open = |name| {
            let path = folder.join(name);
            File::open(&path).map(|file| LockFile::new(path, file))
        };
        let lock = open("lock").or_else(|_| open("kek")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyStoreError::Damaged("the wrapping key (kek) is missing"),
            _ => error.into(),
        })?;
        let held = lock.hold_shared()?;
        let table = Table::open(folder, read_kek(folder)?, &held)?;
        drop(held);
        Ok(Some(Self::with(lock, table)))
    }

    fn with(lock: LockFile, table: Table) -> Self {
        Self(Arc::new(Inner {
            fingerprint: table.fingerprint(),
            lock,
            table: Mutex::new(table),
            cache: Mutex::new(Cache::new(Instant::now())),
        }))
    }

    /// The identity of this store. It was created with the store, and copies of the store have the same.
    pub fn fingerprint(&self) -> Uuid {
        self.0.fingerprint
    }

    /// Does this work on a thread that may block. The log gets one line when that begins to fail, and one when it works again.
    async fn blocking<T, F>(&self, trouble: &Trouble, work: F) -> Result<T, KeyStoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, KeyStoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner));
        let ending = |_| KeyStoreError::Storage(io::Error::other("the runtime is ending"));
        let done = done.await.map_err(ending)?;
        match &done {
            Ok(_) => trouble.end(),
            Err(KeyStoreError::Storage(error)) => trouble.begin(error),
            Err(_) => {}
        }
        done
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a key that exists, without waiting for another process. `None` if only a reader with the lock can tell whether the key exists.
    fn read(&self, id: Uuid, now: Instant) -> Result<Option<CustomerKey>, KeyStoreError> {
        // Check and read under one lock of the table: no key that was read before a check is put into the cache after it.
        let mut table = self.table();
        if !self.cache().is_checked(now) {
            let destroyed = table.destroyed()?;
            self.cache().check(destroyed, now);
        }
        let key = table.read(id)?;
        if let Some(key) = &key {
            self.cache().put(id, key.clone(), Instant::now());
        }
        Ok(key)
    }
}

#[async_trait]
impl KeyStore for FileKeyStore {
    async fn create_many(&self, customer_ids: &[Uuid]) -> Result<Vec<CustomerKey>, KeyStoreError> {
        let ids = customer_ids.to_vec();
        self.blocking(&WRITING, move |inner| {
            let held = inner.lock.hold()?;
            let mut table = inner.table();
            let keys = table.create(&ids, &held)?;
            // Done under the table's lock, so that no key can be destroyed in between.
            for (id, key) in ids.iter().zip(&keys) {
                inner.cache().put(*id, key.clone(), Instant::now());
            }
            Ok(keys)
        })
        .await
    }

    async fn get(&self, customer_id: Uuid) -> Result<Option<CustomerKey>, KeyStoreError> {
        let now = Instant::now();
        if let Some(key) = self.0.cache().get_checked(customer_id, now) {
            return Ok(Some(key));
        }
        let key = self.blocking(&READING, move |inner| inner.read(customer_id, now)).await?;
        if key.is_some() {
            return Ok(key);
        }
        self.blocking(&READING_SURELY, move |inner| {
            let held = inner.lock.hold()?;
            let mut table = inner.table();
            let key = table.read_surely(customer_id, &held)?;
            if let Some(key) = &key {
                inner.cache().put(customer_id, key.clone(), Instant::now());
            }
            Ok(key)
        })
        .await
    }

    async fn destroy(&self, customer_id: Uuid) -> Result<bool, KeyStoreError> {
        self.blocking(&WRITING, move |inner| {
            let held = inner.lock.hold()?;
            let mut table = inner.table();
            let was_there = table.destroy(customer_id, &held)?;
            inner.cache().forget(customer_id);
            Ok(was_there)
        })
        .await
    }
}

/// A cache of recently used keys in two generations. When the young generation is full or
/// [`CACHE_LIFE`] has passed, it becomes the old one, and the previous old one is dropped.
struct Cache {
    /// When the file was asked for the number that grows whenever a key is destroyed, and its answer.
    checked: Option<(Instant, u64)>,
    young: HashMap<Uuid, CustomerKey>,
    old: HashMap<Uuid, CustomerKey>,
    since: Instant,
}

impl Cache {
    fn new(now: Instant) -> Self {
        Self { checked: None, young: HashMap::new(), old: HashMap::new(), since: now }
    }

    fn is_checked(&self, now: Instant) -> bool {
        self.checked.is_some_and(|(at, _)| now.saturating_duration_since(at) < CHECK)
    }

    /// Forgets all keys if any was destroyed since the last check.
    fn check(&mut self, destroyed: u64, now: Instant) {
        if self.checked.is_none_or(|(_, before)| before != destroyed) {
            self.young.clear();
            self.old.clear();
        }
        self.checked = Some((now, destroyed));
    }

    fn get_checked(&mut self, id: Uuid, now: Instant) -> Option<CustomerKey> {
        if self.is_checked(now) { self.get(id, now) } else { None }
    }

    fn get(&mut self, id: Uuid, now: Instant) -> Option<CustomerKey> {
        self.age(now);
        self.young.get(&id).or_else(|| self.old.get(&id)).cloned()
    }

    fn put(&mut self, id: Uuid, key: CustomerKey, now: Instant) {
        self.age(now);
        if self.young.len() >= CACHE_KEYS / 2 {
            self.turn(now);
        }
        self.young.insert(id, key);
    }

    fn forget(&mut self, id: Uuid) {
        self.young.remove(&id);
        self.old.remove(&id);
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= CACHE_LIFE * 2 {
            self.young.clear();
        }
        if age >= CACHE_LIFE {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.since = now;
    }
}

/// Reads the wrapping key, or creates it together with an empty table if the store does not exist yet.
///
/// The table is written first. A crash between the two writes leaves an empty table without a key. That differs from a lost
/// key, where the table is not empty.
fn open_or_make(folder: &Path) -> Result<CustomerKey, KeyStoreError> {
    let kek_path = folder.join("kek");
    let keys_exist = folder.join(table::FILE).try_exists()?;
    if !kek_path.try_exists()? {
        if keys_exist && !Table::is_unused(folder)? {
            return Err(KeyStoreError::Damaged("the wrapping key (kek) is missing"));
        }
        let kek = CustomerKey::random();
        Table::make(folder, &kek)?;
        write_durably(&kek_path, hex::encode(kek.expose()).as_bytes())?;
        return Ok(kek);
    }
    read_kek(folder)
}

/// Reads the wrapping key of an existing store.
fn read_kek(folder: &Path) -> Result<CustomerKey, KeyStoreError> {
    let kek_path = folder.join("kek");
    if !kek_path.try_exists()? {
        return Err(KeyStoreError::Damaged("the wrapping key (kek) is missing"));
    }
    if !folder.join(table::FILE).try_exists()? {
        return Err(KeyStoreError::Damaged("the file with the keys is missing"));
    }
    let mut file = File::open(&kek_path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(KeyStoreError::Storage(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the wrapping key (kek) can be read by others; its mode must be 0600",
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut bytes = [0; KEY_BYTES];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .map_err(|_| KeyStoreError::Damaged("the wrapping key (kek) is not 64 hex digits"))?;
    Ok(CustomerKey::new(bytes))
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Writes a file atomically: after a crash it exists either completely or not at all.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = temporary(path);
    let mut file = private_file().create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    replace(&new, path)
}

/// Renames `new` to `path`, durably.
fn replace(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)?;
    File::open(path.parent().expect("the path is a file in the store's folder"))?.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}
