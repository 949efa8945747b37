use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use super::*;
use crate::testing::Folder;

fn ids(many: usize) -> Vec<Uuid> {
    (0..many).map(|_| Uuid::now_v7()).collect()
}

fn open(folder: &Folder) -> FileKeyStore {
    FileKeyStore::open(folder.path()).expect("the store opens")
}

fn bytes(key: Option<CustomerKey>) -> Option<[u8; KEY_BYTES]> {
    key.map(|key| *key.expose())
}

#[tokio::test]
async fn a_key_survives_a_restart() {
    let folder = Folder::new();
    let id = Uuid::now_v7();
    let made = open(&folder).create(id).await.expect("made");
    let read = open(&folder).get(id).await.expect("read");
    assert_eq!(bytes(read), Some(*made.expose()));
    let unknown = Uuid::now_v7();
    let missing = open(&folder).get(unknown).await.expect_err("never made here");
    assert!(matches!(missing, KeyStoreError::Missing(id) if id == unknown), "{missing}");
}

#[tokio::test]
async fn creating_twice_gives_the_same_key_and_others_get_others() {
    let folder = Folder::new();
    let store = open(&folder);
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    let keys = store.create_many(&[a, b, a]).await.expect("made");
    let again = open(&folder).create(a).await.expect("made");
    assert_eq!(keys[0].expose(), keys[2].expose());
    assert_eq!(keys[0].expose(), again.expose());
    assert_ne!(keys[0].expose(), keys[1].expose());
}

#[tokio::test]
async fn a_destroyed_key_is_gone_for_good() {
    let folder = Folder::new();
    let store = open(&folder);
    let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
    store.create_many(&[id, other]).await.expect("made");
    assert!(store.destroy(id).await.expect("destroyed"));
    for store in [store, open(&folder)] {
        assert_eq!(bytes(store.get(id).await.expect("read")), None);
        assert!(!store.destroy(id).await.expect("destroyed already"));
        let refused = store.create_many(&[Uuid::now_v7(), id]).await;
        assert!(matches!(refused, Err(KeyStoreError::Destroyed)));
        assert!(store.get(other).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn nothing_of_a_destroyed_key_is_left_in_the_folder() {
    let folder = Folder::new();
    let store = open(&folder);
    let id = Uuid::now_v7();
    let before = std::fs::read(folder.path().join("keys")).expect("read");
    store.create(id).await.expect("made");
    let with = std::fs::read(folder.path().join("keys")).expect("read");
    let slot = (256..with.len()).step_by(128).find(|&at| with[at] != before[at]).expect("written");
    let wrapped = &with[slot + 48..slot + 96];
    assert!(with.windows(48).any(|window| window == wrapped));
    store.destroy(id).await.expect("destroyed");
    let after = std::fs::read(folder.path().join("keys")).expect("read");
    assert!(!after.windows(48).any(|window| window == wrapped));
}

#[tokio::test]
async fn another_process_sees_keys_made_and_destroyed_and_a_table_that_grew() {
    let folder = Folder::new();
    let (here, there) = (open(&folder), open(&folder));
    let early = Uuid::now_v7();
    here.create(early).await.expect("made");
    let many = ids(6_000);
    let keys = here.create_many(&many).await.expect("made, and the table grew");
    for (id, key) in many.iter().zip(&keys).step_by(97) {
        assert_eq!(bytes(there.get(*id).await.expect("read")), Some(*key.expose()));
    }
    assert!(there.get(early).await.expect("read").is_some());
    here.destroy(many[1]).await.expect("destroyed");
    assert_eq!(bytes(there.get(many[1]).await.expect("read")), None);
    there.create(Uuid::now_v7()).await.expect("made in the newest file");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 3);
}

async fn forgets(store: &FileKeyStore, id: Uuid) {
    let since = Instant::now();
    while store.get(id).await.expect("read").is_some() {
        assert!(since.elapsed() < Duration::from_secs(2), "the key is still in the cache");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As if the process had died the first time, after it had overwritten the key and before it told the others.
#[tokio::test]
async fn destroying_a_key_again_empties_the_caches_of_other_processes() {
    let folder = Folder::new();
    let (here, there) = (open(&folder), open(&folder));
    let id = Uuid::now_v7();
    here.create(id).await.expect("made");
    assert!(there.get(id).await.expect("read").is_some(), "it is cached from here on");
    let file = private_file().open(folder.path().join("keys")).expect("opened");
    let mut raised = [0; 8];
    file.read_exact_at(&mut raised, 136).expect("read");
    assert!(here.destroy(id).await.expect("destroyed"));
    file.write_all_at(&raised, 136).expect("written");
    assert!(!here.destroy(id).await.expect("destroyed already"));
    forgets(&there, id).await;
}

/// Also when the table that this process knows was replaced before.
#[tokio::test]
async fn a_key_that_another_process_destroys_leaves_the_cache_within_a_second() {
    let folder = Folder::new();
    let (here, there) = (open(&folder), open(&folder));
    for grows in [false, true] {
        let (id, stays) = (Uuid::now_v7(), Uuid::now_v7());
        here.create_many(&[id, stays]).await.expect("made");
        assert!(there.get(id).await.expect("read").is_some(), "it is cached from here on");
        if grows {
            here.create_many(&ids(6_000)).await.expect("made, and the table grew");
        }
        here.destroy(id).await.expect("destroyed");
        forgets(&there, id).await;
        assert!(there.get(stays).await.expect("read").is_some());
    }
}

fn is_locked<T>(done: Result<T, KeyStoreError>, folder: &Folder) -> bool {
    let lock = folder.path().join("lock");
    match done {
        Err(KeyStoreError::Storage(error)) => {
            error.kind() == io::ErrorKind::TimedOut
                && error.to_string().contains(&lock.display().to_string())
        }
        _ => false,
    }
}

/// As if the process that holds the lock were frozen.
#[tokio::test]
async fn a_lock_that_is_not_released_fails_writers_by_name_and_no_readers() {
    let folder = Folder::new();
    let (store, other) = (open(&folder), open(&folder));
    let (known, fresh) = (ids(3), ids(20));
    store.create_many(&known).await.expect("made");
    let lock = File::open(folder.path().join("lock")).expect("it is there");
    lock.lock().expect("nobody holds it");
    let since = Instant::now();
    let writing = async {
        let creating = futures::future::join_all(fresh.iter().map(|id| store.create(*id)));
        let (created, destroyed, missing) =
            tokio::join!(creating, store.destroy(known[2]), store.get(Uuid::now_v7()));
        assert!(created.into_iter().all(|done| is_locked(done, &folder)));
        assert!(is_locked(destroyed, &folder) && is_locked(missing, &folder));
    };
    // The cache asks the file once a second, so these are not only cached reads.
    let reading = async {
        while since.elapsed() < CHECK * 3 / 2 {
            for store in [&store, &other] {
                let began = Instant::now();
                assert!(store.get(known[0]).await.expect("read").is_some());
                assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let place = folder.path().to_owned();
    let opening = tokio::task::spawn_blocking(move || FileKeyStore::open(&place).map(|_| ()));
    let place = folder.path().to_owned();
    let finding = tokio::task::spawn_blocking(move || FileKeyStore::find(&place).map(|_| ()));
    let ((), (), opened, found) = tokio::join!(writing, reading, opening, finding);
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(is_locked(opened.expect("it ends"), &folder));
    assert!(is_locked(found.expect("it ends"), &folder));

    lock.unlock().expect("it is held");
    let made = store.create(fresh[0]).await.expect("made");
    assert_eq!(bytes(other.get(fresh[0]).await.expect("read")), Some(*made.expose()));
    let missing = store.get(fresh[1]).await;
    assert!(matches!(missing, Err(KeyStoreError::Missing(_))), "it was not made in the meantime");
    assert!(store.destroy(known[2]).await.expect("destroyed"));
}

#[tokio::test]
async fn two_processes_that_write_all_the_time_both_get_the_lock() {
    let folder = Folder::new();
    let (here, there) = (open(&folder), open(&folder));
    let (many, few) = (ids(300), ids(20));
    let creating = futures::future::join_all(many.iter().map(|id| here.create(*id)));
    let one_by_one = async {
        for id in &few {
            there.create(*id).await.expect("made");
        }
    };
    let (created, ()) = tokio::join!(creating, one_by_one);
    assert!(created.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_thousand_keys_at_once_take_well_under_a_second() {
    let folder = Folder::new();
    let store = open(&folder);
    let many = ids(1_000);
    let start = Instant::now();
    store.create_many(&many).await.expect("made");
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_slot_cut_short_by_a_crash_hides_no_other_key_and_is_used_again() {
    let folder = Folder::new();
    let (store, many) = (open(&folder), ids(2_000));
    store.create_many(&many).await.expect("made");
    let file = private_file().open(folder.path().join("keys")).expect("opened");
    let content = std::fs::read(folder.path().join("keys")).expect("read");
    // A torn write: the second half of the slot never reached the disk.
    let used = (256..content.len()).step_by(128).filter(|&at| content[at] != 0);
    let torn: Vec<_> = used.step_by(40).collect();
    for &at in &torn {
        file.write_all_at(&[0; 64], at as u64 + 64).expect("written");
    }
    let again = open(&folder);
    let mut lost = Vec::new();
    for id in &many {
        if matches!(again.get(*id).await, Err(KeyStoreError::Missing(_))) {
            lost.push(*id);
        }
    }
    assert_eq!(lost.len(), torn.len());
    again.create_many(&lost).await.expect("made anew");
    let fresh = open(&folder);
    for id in &many {
        assert!(fresh.get(*id).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn a_lost_or_foreign_file_is_refused_and_never_made_anew() {
    for lost in ["kek", "keys"] {
        let folder = Folder::new();
        open(&folder).create(Uuid::now_v7()).await.expect("made");
        std::fs::remove_file(folder.path().join(lost)).expect("removed");
        let refused = FileKeyStore::open(folder.path());
        assert!(matches!(refused, Err(KeyStoreError::Damaged(_))), "{lost}");
    }
    let (mine, foreign) = (Folder::new(), Folder::new());
    open(&mine);
    open(&foreign);
    std::fs::copy(foreign.path().join("kek"), mine.path().join("kek")).expect("copied");
    assert!(matches!(FileKeyStore::open(mine.path()), Err(KeyStoreError::Damaged(_))));
}

#[tokio::test]
async fn a_first_start_that_was_killed_half_way_is_repeated() {
    let folder = Folder::new();
    open(&folder);
    std::fs::remove_file(folder.path().join("kek")).expect("removed");
    open(&folder).create(Uuid::now_v7()).await.expect("made");
}

#[tokio::test]
async fn its_files_are_for_the_owner_only() {
    let folder = Folder::new();
    let inner = folder.path().join("keys-folder");
    FileKeyStore::open(&inner).expect("opened");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for file in ["kek", "keys", "lock"] {
        assert_eq!(mode(&inner.join(file)), 0o600, "{file}");
    }
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(inner.join("kek"), readable).expect("changed");
    assert!(matches!(FileKeyStore::open(&inner), Err(KeyStoreError::Storage(_))));
}

#[test]
fn the_cache_is_bounded_and_forgets_with_time() {
    let start = Instant::now();
    let mut cache = Cache::new(start);
    for id in ids(CACHE_KEYS * 3) {
        cache.put(id, CustomerKey::random(), start);
        assert!(cache.young.len() + cache.old.len() <= CACHE_KEYS);
    }
    let id = Uuid::now_v7();
    cache.put(id, CustomerKey::random(), start);
    assert!(cache.get(id, start + CACHE_LIFE).is_some());
    assert!(cache.get(id, start + CACHE_LIFE * 2).is_none());
    let id = Uuid::now_v7();
    cache.put(id, CustomerKey::random(), start + CACHE_LIFE * 2);
    assert!(cache.get(id, start + CACHE_LIFE * 5).is_none());
}

#[tokio::test]
async fn looking_for_a_store_makes_none_and_finds_the_one_that_is_there() {
    let folder = Folder::new();
    let place = folder.path().join("keys");
    assert!(FileKeyStore::find(&place).expect("it can be looked for").is_none());
    assert!(!place.exists(), "looking made it");
    let (store, id) = (FileKeyStore::open(&place).expect("made"), Uuid::now_v7());
    let key = store.create(id).await.expect("made");
    let found = FileKeyStore::find(&place).expect("it opens").expect("it is there");
    assert_eq!(bytes(found.get(id).await.expect("read")), Some(*key.expose()));
    assert_eq!(found.fingerprint(), store.fingerprint());
    std::fs::remove_file(place.join("kek")).expect("ours");
    assert!(matches!(FileKeyStore::find(&place), Err(KeyStoreError::Damaged(_))));
    let other = FileKeyStore::open(&folder.path().join("other")).expect("made");
    assert_ne!(other.fingerprint(), store.fingerprint());
}
