//! The lab's private directory: control sockets and states of its daemons.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The longest path before the name of a socket: a socket's path has at most 107 bytes.
const MAX_PARENT_LEN: usize = 60;

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes a directory that only we can enter.
    pub(super) fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let parent = if parent.as_os_str().len() <= MAX_PARENT_LEN {
            parent
        } else {
            PathBuf::from("/tmp")
        };
        let token = getrandom::u32().map_err(io::Error::other)?;
        let path = parent.join(format!("floodmesh-lab-{token:08x}"));
        // Fails if it exists: nobody can have prepared it for us.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Takes over the removal of a directory that another process made.
    pub(super) fn adopt(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Both processes of a lab try, in case the other one cannot; one of them comes too late.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_private_and_goes_with_its_content() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = Directory::create().unwrap();
        let path = directory.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(path.join("file"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn two_removals_are_no_trouble() {
        let directory = Directory::create().unwrap();
        let other = Directory::adopt(directory.path().to_owned());
        drop(directory);
        drop(other);
    }
}
