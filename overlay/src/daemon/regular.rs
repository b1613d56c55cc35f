//! Opens what has to be a regular file, without ever waiting for it.
//!
//! A pipe without a writer keeps whoever opens it for ever, and a device may answer with anything. So
//! every file that the daemon or a command reads is opened without waiting and judged then: nothing
//! can be exchanged between the look and the use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is said of a pipe, a device or a directory.
const OTHER: &str = "it is no regular file";

/// Opens `path` as `options` say, if a regular file is there.
///
/// # Errors
/// As of opening; or it is a pipe, a device, a socket or a directory.
pub fn open(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let opened = options
        .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // A pipe that nobody reads, a socket; a directory that was to be written.
        Some(libc::ENXIO | libc::EISDIR) => io::Error::other(OTHER),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(OTHER)),
    }
}

/// Reads the text at `path`, of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; or it is longer, or no UTF-8.
pub fn read_text(path: &Path, flags: i32, limit: u64) -> io::Result<String> {
    let file = open(path, OpenOptions::new().read(true), flags)?;
    let mut text = String::new();
    file.take(limit.saturating_add(1))
        .read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = |name| home.path().join(name);
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("file"), "text").unwrap();
        let device = Path::new("/dev/zero").to_owned();
        for other in [path("pipe"), path("socket"), path("directory"), device] {
            let read = read_text(&other, 0, 10).unwrap_err();
            assert_eq!(read.to_string(), OTHER, "{}", other.display());
            let written = open(&other, OpenOptions::new().write(true), 0).unwrap_err();
            assert_eq!(written.to_string(), OTHER, "{}", other.display());
        }
        assert_eq!(read_text(&path("file"), 0, 4).unwrap(), "text");
        let long = read_text(&path("file"), 0, 3).unwrap_err();
        assert_eq!(long.to_string(), "it is larger than 3 bytes");
        let none = read_text(&path("none"), 0, 3).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
