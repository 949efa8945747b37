//! The file of wrapped keys: a hash table on disk with slots of 128 bytes.
//!
//! Slot 0 is the header, slot 1 the count of used slots (a hint) and a number that is raised whenever a key is destroyed. Each of the other slots holds
//! the key of one customer: the first free slot from the hash of the customer's id on. A slot is written in one piece and has a check sum. If the
//! check sum does not match, a crash has cut off the write before any caller got the key, so the slot may be reused. A
//! destroyed key is overwritten in place. Its slot is never reused, so that the same customer never gets a second key.
//!
//! The table doubles when it is 60% full. The new file takes the old file's name, and then the old file
//! is overwritten, so that no wrapped key remains on free blocks of the disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use stepwise_workflows::privacy::{CustomerKey, KEY_BYTES, KeyStoreError};
use uuid::Uuid;

use super::{lock::Held, private_file, replace, temporary};

/// The table's file name in the store's folder.
pub(super) const FILE: &str = "keys";

const SLOT: usize = 128;
const RESERVED_SLOTS: u64 = 2;
const FIRST_CAPACITY: u64 = 4096;
const MAGIC: &[u8; 8] = b"SWKEYS01";

const LIVE: u8 = 1;
const DESTROYED: u8 = 2;

// Layout of a slot: state, name (hash of the id), nonce, wrapped key with tag, check sum.
const NAME: std::ops::Range<usize> = 8..24;
const NONCE: std::ops::Range<usize> = 24..48;
const WRAPPED: std::ops::Range<usize> = 48..96;
const CHECK: std::ops::Range<usize> = 112..128;

type Slot = [u8; SLOT];
type Name = [u8; 16];

pub(super) struct Table {
    path: PathBuf,
    file: File,
    capacity: u64,
    kek: CustomerKey,
}

/// The slot at which a name was found, or in which it may be written.
enum Place {
    Live(Box<Slot>),
    Destroyed,
    Free(u64),
}

impl Table {
    /// Opens the table.
    pub(super) fn open(
        folder: &Path,
        kek: CustomerKey,
        _: &Held<'_>,
    ) -> Result<Self, KeyStoreError> {
        let path = folder.join(FILE);
        let (file, capacity) = open_file(&path, &kek)?;
        Ok(Self { path, file, capacity, kek })
    }

    /// The identity of this store, which reveals nothing about its keys.
    pub(super) fn fingerprint(&self) -> Uuid {
        let hash =
            Sha256::new().chain_update(b"stepwise key store").chain_update(self.kek.expose());
        let hash = hash.finalize();
        let (first, _) = hash.split_first_chunk::<16>().expect("a hash has 32 bytes");
        uuid::Builder::from_custom_bytes(*first).into_uuid()
    }

    /// Writes an empty table.
    pub(super) fn make(folder: &Path, kek: &CustomerKey) -> Result<(), KeyStoreError> {
        let path = folder.join(FILE);
        let new = temporary(&path);
        write_table(&new, FIRST_CAPACITY, kek, &[], 0)?;
        Ok(replace(&new, &path)?)
    }

    /// Whether no key was ever created in this table.
    pub(super) fn is_unused(folder: &Path) -> Result<bool, KeyStoreError> {
        let file = File::open(folder.join(FILE))?;
        let slots = (file.metadata()?.len() / SLOT as u64).saturating_sub(RESERVED_SLOTS);
        Ok(used_slots(&file, slots)?.is_empty())
    }

    /// Returns the key of each customer and creates missing ones. Durable on return.
    pub(super) fn create(
        &mut self,
        ids: &[Uuid],
        _: &Held<'_>,
    ) -> Result<Vec<CustomerKey>, KeyStoreError> {
        self.reopen_if_replaced()?;
        let used = self.count()?;
        let used = self.make_room(used, ids.len() as u64)?;
        let mut fresh = HashMap::new();
        let mut keys = Vec::with_capacity(ids.len());
        for &id in ids {
            match self.find(name_of(id), &fresh)? {
                Place::Live(slot) => keys.push(unwrap_key(&self.kek, id, &slot)?),
                Place::Destroyed => return Err(KeyStoreError::Destroyed),
                Place::Free(index) => {
                    let key = CustomerKey::random();
                    fresh.insert(index, wrap_key(&self.kek, id, &key));
                    keys.push(key);
                }
            }
        }
        for (&index, slot) in &fresh {
            self.file.write_all_at(slot, offset(index))?;
        }
        self.set_count(used + fresh.len() as u64)?;
        // Also needed if nothing is new: an earlier caller may have died before its own wait for the disk.
        self.file.sync_data()?;
        Ok(keys)
    }

    /// The customer's key, read without the lock. `None` says nothing: another process may be writing or replacing the file at this moment.
    pub(super) fn read(&self, id: Uuid) -> Result<Option<CustomerKey>, KeyStoreError> {
        match self.find(name_of(id), &HashMap::new())? {
            Place::Live(slot) => unwrap_key(&self.kek, id, &slot).map(Some),
            Place::Destroyed | Place::Free(_) => Ok(None),
        }
    }

    /// The customer's key. `None` if it was destroyed.
    pub(super) fn read_surely(
        &mut self,
        id: Uuid,
        _: &Held<'_>,
    ) -> Result<Option<CustomerKey>, KeyStoreError> {
        self.reopen_if_replaced()?;
        match self.find(name_of(id), &HashMap::new())? {
            Place::Live(slot) => unwrap_key(&self.kek, id, &slot).map(Some),
            Place::Destroyed => Ok(None),
            Place::Free(_) => Err(KeyStoreError::Missing(id)),
        }
    }

    /// Overwrites the customer's key. Durable on return. `true` if there was a key.
    pub(super) fn destroy(&mut self, id: Uuid, _: &Held<'_>) -> Result<bool, KeyStoreError> {
        self.reopen_if_replaced()?;
        let used = self.count()?;
        let used = self.make_room(used, 1)?;
        // Also before the slot is written, and if it was written already: this process or an earlier one may die in between.
        self.raise_destroyed()?;
        let name = name_of(id);
        let (index, was_there) = match self.find(name, &HashMap::new())? {
            Place::Live(slot) => (self.index_of(&slot)?, true),
            Place::Free(index) => (index, false),
            Place::Destroyed => {
                self.file.sync_data()?;
                return Ok(false);
            }
        };
        let mut slot = [0; SLOT];
        slot[0] = DESTROYED;
        slot[NAME].copy_from_slice(&name);
        set_check(&mut slot);
        self.file.write_all_at(&slot, offset(index))?;
        if !was_there {
            self.set_count(used + 1)?;
        }
        self.raise_destroyed()?;
        self.file.sync_data()?;
        Ok(was_there)
    }

    /// A number that grows whenever any process destroys a key. An earlier release does not raise it. Takes no lock.
    pub(super) fn destroyed(&mut self) -> Result<u64, KeyStoreError> {
        self.reopen_if_replaced()?;
        Ok(self.count_destroyed()?)
    }

    fn reopen_if_replaced(&mut self) -> Result<(), KeyStoreError> {
        let (here, there) = (self.file.metadata()?, std::fs::metadata(&self.path)?);
        if (here.dev(), here.ino()) != (there.dev(), there.ino()) {
            (self.file, self.capacity) = open_file(&self.path, &self.kek)?;
        }
        Ok(())
    }

    /// Searches for `name` from its place on. The slots in `fresh` take precedence over those on disk.
    fn find(&self, name: Name, fresh: &HashMap<u64, Slot>) -> Result<Place, KeyStoreError> {
        let home = home(name, self.capacity);
        let mut torn = None;
        for step in 0..self.capacity {
            let index = (home + step) % self.capacity;
            let slot = match fresh.get(&index) {
                Some(slot) => *slot,
                None => read_slot(&self.file, index)?,
            };
            match slot[0] {
                0 if slot == [0; SLOT] => return Ok(Place::Free(torn.unwrap_or(index))),
                _ if !check_matches(&slot) => torn = torn.or(Some(index)),
                LIVE if slot[NAME] == name => return Ok(Place::Live(Box::new(slot))),
                DESTROYED if slot[NAME] == name => return Ok(Place::Destroyed),
                _ => {}
            }
        }
        Err(KeyStoreError::Damaged("the table of keys has no free slot"))
    }

    fn index_of(&self, wanted: &Slot) -> Result<u64, KeyStoreError> {
        let mut name = [0; 16];
        name.copy_from_slice(&wanted[NAME]);
        let home = home(name, self.capacity);
        for step in 0..self.capacity {
            let index = (home + step) % self.capacity;
            if read_slot(&self.file, index)? == *wanted {
                return Ok(index);
            }
        }
        Err(KeyStoreError::Damaged("a key changed its place while it was locked"))
    }

    /// Doubles the table until `more` keys fit, and returns the number of used slots.
    fn make_room(&mut self, used: u64, more: u64) -> Result<u64, KeyStoreError> {
        if (used + more) * 10 <= self.capacity * 6 {
            return Ok(used);
        }
        let slots = used_slots(&self.file, self.capacity)?;
        let used = slots.len() as u64;
        let mut capacity = self.capacity;
        while (used + more) * 10 > capacity * 6 {
            capacity *= 2;
        }
        let new = temporary(&self.path);
        write_table(&new, capacity, &self.kek, &slots, self.count_destroyed()?)?;
        replace(&new, &self.path)?;
        let (file, capacity) = open_file(&self.path, &self.kek)?;
        let old = std::mem::replace(&mut self.file, file);
        let old_capacity = std::mem::replace(&mut self.capacity, capacity);
        wipe(&old, old_capacity)?;
        Ok(used)
    }

    fn count(&self) -> Result<u64, KeyStoreError> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, SLOT as u64)?;
        Ok(u64::from_le_bytes(bytes).min(self.capacity))
    }

    fn count_destroyed(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, SLOT as u64 + 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Makes other processes empty their caches.
    fn raise_destroyed(&self) -> io::Result<()> {
        let raised = self.count_destroyed()?.wrapping_add(1);
        self.file.write_all_at(&raised.to_le_bytes(), SLOT as u64 + 8)
    }

    fn set_count(&self, used: u64) -> io::Result<()> {
        self.file.write_all_at(&used.to_le_bytes(), SLOT as u64)
    }
}

fn open_file(path: &Path, kek: &CustomerKey) -> Result<(File, u64), KeyStoreError> {
    let file = private_file().open(path)?;
    let mut header = [0; SLOT];
    file.read_exact_at(&mut header, 0)
        .map_err(|_| KeyStoreError::Damaged("the file with the keys is cut short"))?;
    if &header[..8] != MAGIC || !check_matches(&header) {
        return Err(KeyStoreError::Damaged("the file with the keys has no valid header"));
    }
    // The header wraps a key of zeros for the nil id, which only the right wrapping key can open.
    unwrap_bytes(kek, Uuid::nil(), &header)
        .map_err(|_| KeyStoreError::Damaged("the wrapping key (kek) belongs to other keys"))?;
    let capacity = (file.metadata()?.len() / SLOT as u64).saturating_sub(RESERVED_SLOTS);
    if !capacity.is_power_of_two() {
        return Err(KeyStoreError::Damaged("the file with the keys is cut short"));
    }
    Ok((file, capacity))
}

/// Writes a table of `slots` at `path`, durably.
fn write_table(
    path: &Path,
    capacity: u64,
    kek: &CustomerKey,
    slots: &[Slot],
    destroyed: u64,
) -> Result<(), KeyStoreError> {
    let file = private_file().create(true).truncate(true).open(path)?;
    file.set_len(offset(capacity))?;
    let mut header = wrap_key(kek, Uuid::nil(), &CustomerKey::new([0; KEY_BYTES]));
    header[..8].copy_from_slice(MAGIC);
    set_check(&mut header);
    file.write_all_at(&header, 0)?;
    file.write_all_at(&(slots.len() as u64).to_le_bytes(), SLOT as u64)?;
    file.write_all_at(&destroyed.to_le_bytes(), SLOT as u64 + 8)?;
    let mut taken = vec![false; usize::try_from(capacity).expect("slots fit the address space")];
    for slot in slots {
        let mut name = [0; 16];
        name.copy_from_slice(&slot[NAME]);
        let mut index = home(name, capacity);
        while std::mem::replace(&mut taken[index as usize], true) {
            index = (index + 1) % capacity;
        }
        file.write_all_at(slot, offset(index))?;
    }
    file.sync_all()?;
    Ok(())
}

/// All slots that hold a key or the mark of a destroyed one.
fn used_slots(file: &File, capacity: u64) -> Result<Vec<Slot>, KeyStoreError> {
    let mut slots = Vec::new();
    let mut chunk = vec![0; SLOT * 1024];
    let mut index = 0;
    while index < capacity {
        let many = usize::try_from((capacity - index).min(1024)).expect("at most 1024");
        let bytes = &mut chunk[..many * SLOT];
        file.read_exact_at(bytes, offset(index))?;
        let (all, _) = bytes.as_chunks::<SLOT>();
        slots.extend(all.iter().filter(|slot| slot[0] != 0 && check_matches(slot)));
        index += many as u64;
    }
    Ok(slots)
}

fn wipe(file: &File, capacity: u64) -> io::Result<()> {
    let zeros = vec![0; SLOT * 1024];
    let end = offset(capacity);
    let mut at = 0;
    while at < end {
        let many = usize::try_from((end - at).min(zeros.len() as u64)).expect("at most a chunk");
        file.write_all_at(&zeros[..many], at)?;
        at += many as u64;
    }
    file.sync_data()
}

fn read_slot(file: &File, index: u64) -> io::Result<Slot> {
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, offset(index))?;
    Ok(slot)
}

fn offset(index: u64) -> u64 {
    (index + RESERVED_SLOTS) * SLOT as u64
}

fn name_of(id: Uuid) -> Name {
    let hash = Sha256::digest(id.as_bytes());
    let mut name = [0; 16];
    name.copy_from_slice(&hash[..16]);
    name
}

fn home(name: Name, capacity: u64) -> u64 {
    let (first, _) = name.split_first_chunk::<8>().expect("a name has sixteen bytes");
    u64::from_le_bytes(*first) % capacity
}

fn wrap_key(kek: &CustomerKey, id: Uuid, key: &CustomerKey) -> Slot {
    let nonce: [u8; 24] = rand::random();
    let wrapped = XChaCha20Poly1305::new(kek.expose().into())
        .encrypt(&XNonce::from(nonce), Payload { msg: key.expose(), aad: id.as_bytes() })
        .expect("encryption fails only beyond 256 GiB");
    let mut slot = [0; SLOT];
    slot[0] = LIVE;
    slot[NAME].copy_from_slice(&name_of(id));
    slot[NONCE].copy_from_slice(&nonce);
    slot[WRAPPED].copy_from_slice(&wrapped);
    set_check(&mut slot);
    slot
}

fn unwrap_key(kek: &CustomerKey, id: Uuid, slot: &Slot) -> Result<CustomerKey, KeyStoreError> {
    unwrap_bytes(kek, id, slot)
        .map(CustomerKey::new)
        .map_err(|_| KeyStoreError::Damaged("a customer's key does not open"))
}

fn unwrap_bytes(kek: &CustomerKey, id: Uuid, slot: &Slot) -> Result<[u8; KEY_BYTES], Unopened> {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&slot[NONCE]);
    XChaCha20Poly1305::new(kek.expose().into())
        .decrypt(&XNonce::from(nonce), Payload { msg: &slot[WRAPPED], aad: id.as_bytes() })
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Unopened)
}

struct Unopened;

fn check_of(slot: &Slot) -> [u8; 16] {
    let hash = Sha256::digest(&slot[..CHECK.start]);
    let mut check = [0; 16];
    check.copy_from_slice(&hash[..16]);
    check
}

fn set_check(slot: &mut Slot) {
    let check = check_of(slot);
    slot[CHECK].copy_from_slice(&check);
}

fn check_matches(slot: &Slot) -> bool {
    slot[CHECK] == check_of(slot)
}
