//! Finds the programs of the Postgres server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{ClusterError, OLDEST_MAJOR};

/// A directory with the programs `initdb` and `postgres` of one version.
#[derive(Debug)]
pub(super) struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds the newest programs, or those of the major version of existing data.
    pub(super) async fn find(wanted: Option<u32>) -> Result<Self, ClusterError> {
        let mut found: BTreeMap<u32, PathBuf> = BTreeMap::new();
        for directory in candidates().await {
            if let Some(major) = version(&directory).await {
                found.entry(major).or_insert(directory);
            }
        }
        choose(found, wanted)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }
}

fn choose(
    mut found: BTreeMap<u32, PathBuf>,
    wanted: Option<u32>,
) -> Result<Binaries, ClusterError> {
    let names: Vec<String> = found.keys().map(u32::to_string).collect();
    let Some(newest) = found.keys().next_back().copied() else {
        return Err(ClusterError::NoBinaries);
    };
    let chosen = found.remove(&wanted.unwrap_or(newest));
    match chosen.filter(|_| wanted.unwrap_or(newest) >= OLDEST_MAJOR) {
        Some(directory) => Ok(Binaries { directory }),
        None => Err(ClusterError::OtherVersion {
            needed: wanted.map_or(format!("{OLDEST_MAJOR} or later"), |major| major.to_string()),
            found: names.join(", "),
        }),
    }
}

/// All directories in which the programs may be. Of equal versions the first directory wins.
async fn candidates() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        places.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
        let below = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = below.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            parent == "/usr/lib/postgresql"
                || name.starts_with("postgresql")
                || name.starts_with("pgsql")
        });
        places.extend(named.map(|entry| entry.path().join("bin")));
    }
    places.push("/usr/local/pgsql/bin".into());
    places.retain(|place| place.join("initdb").is_file() && place.join("postgres").exists());
    // The other files of a version are where the links of its programs lead.
    for place in &mut places {
        if let Ok(real) = place.join("initdb").canonicalize()
            && let Some(parent) = real.parent()
        {
            *place = parent.to_owned();
        }
    }
    places
}

async fn version(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().await.ok()?;
    major_in(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15; `9.6.24` is 9.
fn major_in(text: &str) -> Option<u32> {
    let number = text.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_prints() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_in("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major_in("no such file"), None);
    }

    #[test]
    fn the_newest_suitable_version_is_chosen_or_the_one_that_the_data_needs() {
        let found = |majors: &[u32]| -> BTreeMap<u32, PathBuf> {
            majors.iter().map(|major| (*major, PathBuf::from(major.to_string()))).collect()
        };
        let newest = choose(found(&[13, 15, 17]), None).expect("17 will do");
        assert_eq!(newest.directory, Path::new("17"));
        let same = choose(found(&[15, 17]), Some(15)).expect("15 is there");
        assert_eq!(same.directory, Path::new("15"));
        assert!(matches!(choose(found(&[]), None), Err(ClusterError::NoBinaries)));
        let old = choose(found(&[9, 14]), None).expect_err("14 is too old");
        assert_eq!(
            old.to_string(),
            "PostgreSQL 15 or later is needed, but only 9, 14 was found: install it or give \
             --database-url"
        );
        let gone = choose(found(&[17]), Some(16)).expect_err("the data is of 16");
        assert!(gone.to_string().contains("PostgreSQL 16 is needed"));
    }
}
