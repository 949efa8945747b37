//! A temporary folder for this crate's tests.

use std::path::{Path, PathBuf};

/// A temporary folder for one test. Dropping the value removes it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stepwise-test-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that failed half-way may have removed it already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
