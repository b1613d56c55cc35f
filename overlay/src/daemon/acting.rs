//! Root acts as the user whose directory it works in.
//!
//! Whoever owns a directory decides what every name in it leads to, at every moment: root that wrote,
//! renamed or removed files there would do so wherever its owner points. As that user it can do no more
//! than the owner could, whatever is in the way, and what it makes belongs to whom it is for: the node
//! that runs as that user.
//!
//! For commands alone, in their main thread: the effective user is the whole process's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};

use super::error::Failure;
use super::secrets::keep_from_dumps;

/// The process is another user while this lives, and root again when it is dropped.
///
/// State: only effective ids change. The real and the saved ones stay root's, so that the user can neither
/// trace nor stop the process.
#[derive(Debug)]
#[must_use = "root is root again when this is dropped"]
pub struct Acting {
    group: Gid,
    groups: Vec<Gid>,
}

/// Becomes the owner of `directory` if we are root and it is another user's. Where it is not there yet, that
/// is the owner of where it is to be made.
///
/// `None`: we stay who we are, since it is ours, or we are not root.
///
/// # Errors
/// Its owner cannot be told, or root may not become that user.
pub fn as_owner_of(directory: &Path) -> Result<Option<Acting>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let (user, group) = owner(directory).map_err(|error| {
        let what = format!("cannot tell who owns {}", directory.display());
        Failure::at_work(what, "check the path").because(error)
    })?;
    if user.is_root() {
        return Ok(None);
    }
    become_user(user, group).map_err(|error| {
        let what = format!(
            "cannot act as user {user}, who owns {}",
            directory.display()
        );
        Failure::at_work(what, "run it as that user").because(error)
    })
}

/// Who decides what is at `directory`: its owner, or that of the nearest directory that is there.
fn owner(directory: &Path) -> io::Result<(Uid, Gid)> {
    let directory = std::path::absolute(directory)?;
    let mut found = Err(io::ErrorKind::NotFound.into());
    for place in directory.ancestors() {
        found = fs::symlink_metadata(place);
        match &found {
            Err(error) if is_absent(error) => {}
            _ => break,
        }
    }
    let mut found = found?;
    // A link of root's leads where root wants; another's is not looked behind.
    if found.is_symlink() && found.uid() == 0 {
        found = fs::metadata(&directory)?;
    }
    Ok((Uid::from_raw(found.uid()), Gid::from_raw(found.gid())))
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn become_user(user: Uid, group: Gid) -> io::Result<Option<Acting>> {
    let before = Acting {
        group: getegid(),
        groups: getgroups()?,
    };
    // From here on dropping it takes back what was done. The user last: only root may change groups.
    let changed = setegid(group)
        .and_then(|()| setgroups(&[group]))
        .and_then(|()| seteuid(user));
    match changed {
        Ok(()) => {
            // A change of user may let the process be dumped again.
            keep_from_dumps();
            Ok(Some(before))
        }
        // The root of a user namespace that does not have this user, and has no power over others' files.
        Err(Errno::EINVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let restored = seteuid(Uid::from_raw(0))
            .and_then(|()| setegid(self.group))
            .and_then(|()| match getgroups() {
                // Where nobody may change them they have not changed.
                Ok(groups) if groups == self.groups => Ok(()),
                _ => setgroups(&self.groups),
            });
        if let Err(error) = restored {
            // As nobody in particular nothing may go on.
            eprintln!("error: cannot act as root again: {error}");
            std::process::abort();
        }
        keep_from_dumps();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, lchown, symlink};

    const NOBODY: u32 = 65_534;

    fn owns(directory: &Path) -> u32 {
        owner(directory).unwrap().0.as_raw()
    }

    #[test]
    fn in_a_directory_of_our_own_we_stay_who_we_are() {
        let home = tempfile::tempdir().unwrap();
        let before = geteuid();
        assert!(as_owner_of(home.path()).unwrap().is_none());
        assert!(as_owner_of(&home.path().join("new/er")).unwrap().is_none());
        assert_eq!(geteuid(), before);
    }

    #[test]
    fn a_directory_is_its_owners_also_before_it_is_made_and_behind_a_link_of_that_user() {
        let home = tempfile::tempdir().unwrap();
        let own = geteuid().as_raw();
        let [state, planted, fine] =
            ["state", "planted", "fine"].map(|name| home.path().join(name));
        fs::create_dir(&state).unwrap();
        symlink("/etc", &planted).unwrap();
        symlink(&state, &fine).unwrap();
        assert_eq!(owns(&state), own);
        assert_eq!(owns(&state.join("a/b")), own);
        if !geteuid().is_root() {
            println!("skipped in part: needs root");
            return;
        }
        chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
        lchown(&planted, Some(NOBODY), Some(NOBODY)).unwrap();
        assert_eq!(owns(&state), NOBODY);
        assert_eq!(owns(&state.join("a/b")), NOBODY);
        assert_eq!(owns(&planted), NOBODY, "not root's, whose /etc is");
        assert_eq!(owns(&fine), NOBODY);
    }
}
