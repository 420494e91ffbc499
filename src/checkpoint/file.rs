//! The file itself: locked, read, and replaced as a whole.

use crate::error::{Error, ErrorKind};
use std::{
    ffi::OsString,
    fs::{self, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// No checkpoint is larger.
const SIZE_MAX: u64 = 64 * 1024;

/// As many links in a row as Linux follows.
const LINKS_MAX: usize = 40;

/// A file that is this process's, and this object's, alone.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Where it is written before it takes its place.
    temporary: PathBuf,
    /// Holds the lock. Not on the file itself: another one replaces it at each write.
    lock: fs::File,
}

impl Drop for File {
    fn drop(&mut self) {
        // To close it is not enough: a process that is just being forked has the descriptor too, and
        // with it the lock, until it runs its program.
        let _ = self.lock.unlock();
    }
}

impl File {
    /// Locks the file, which need not be there yet. The path is one that [`resolve`] has returned.
    pub(super) fn open(path: PathBuf) -> Result<File, Error> {
        match fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(wrong(&path, "is no regular file; name a file"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&path, "read", &error));
            }
            _ => {}
        }
        let lock_path = beside(&path, ".lock");
        let lock = open_lock(&lock_path).map_err(|error| failed(&lock_path, "opened", &error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                ErrorKind::Busy,
                format!(
                    "checkpoint-location: {} is in use by another element or process; give each a \
                     file of its own, or stop the other",
                    path.display()
                ),
            ),
            TryLockError::Error(error) => failed(&lock_path, "locked", &error),
        })?;
        Ok(File {
            temporary: beside(&path, ".tmp"),
            path,
            lock,
        })
    }

    /// What it holds; `None` if it is not there.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut contents = Vec::new();
        let read = fs::File::open(&self.path)
            .and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut contents));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&self.path, "read", &error)),
            Ok(_) if contents.len() as u64 > SIZE_MAX => Err(self.damaged("it is too large")),
            Ok(_) => Ok(Some(contents)),
        }
    }

    /// Makes sure that there is room for it, and the right to replace it.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.write_temporary(&[b' '; 1024])
            .and_then(|_| fs::remove_file(&self.temporary))
            .map_err(|error| failed(&self.path, "written", &error))
    }

    /// Replaces what it holds. When this returns, it is on the disk.
    pub(super) fn write(&self, contents: &str) -> Result<(), Error> {
        self.replace(contents.as_bytes()).map_err(|error| {
            // On a full disk it would be in the way.
            let _ = fs::remove_file(&self.temporary);
            failed(&self.path, "written", &error)
        })
    }

    fn replace(&self, contents: &[u8]) -> io::Result<()> {
        self.write_temporary(contents)?.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        // The new name is on the disk once the folder is. One that may be written and not read cannot be
        // waited for, and the file has been replaced.
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            match fs::File::open(folder) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                folder => folder?.sync_all()?,
            }
        }
        Ok(())
    }

    fn write_temporary(&self, contents: &[u8]) -> io::Result<fs::File> {
        // One may be left from a crash. In a folder of many it may be a link of someone else's.
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .open(&self.temporary)?;
        file.write_all(contents)?;
        Ok(file)
    }

    /// The error for contents that cannot be right.
    pub(super) fn damaged(&self, why: &str) -> Error {
        let what = format!(
            "is damaged or no checkpoint: {why}; put a copy in its place, or delete it to begin at \
             start-selector"
        );
        wrong(&self.path, &what)
    }
}

/// The file itself where the path is a link, so that all ways to it meet at one lock, and the link
/// stays when the file is replaced.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let path = follow(path);
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map_err(|error| failed(&path, "used", &error)),
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = folder
        .canonicalize()
        .map_err(|error| failed(&path, "used", &error))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

/// Where links lead, also where nothing is yet.
fn follow(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = path.read_link() else { break };
        path.pop();
        path.push(target);
    }
    path
}

/// Opens or makes the file that is locked. In a folder of many it may be a link of someone else's, which
/// is not followed.
fn open_lock(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW);
    options.open(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The error for a file that does not fit.
pub(super) fn wrong(path: &Path, what: &str) -> Error {
    let message = format!("checkpoint-location: {} {what}", path.display());
    Error::new(ErrorKind::Settings, message)
}

/// What was to be done, why it failed, and the mend.
fn failed(path: &Path, done: &str, error: &io::Error) -> Error {
    use io::ErrorKind::*;
    let (kind, mend) = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => (
            ErrorKind::NoSpace,
            "make room there, or name a file on another disk",
        ),
        NotFound | NotADirectory => (ErrorKind::Storage, "make its folder first"),
        PermissionDenied | ReadOnlyFilesystem => (
            ErrorKind::Storage,
            "the process needs the right to write to the file's folder",
        ),
        _ => (ErrorKind::Storage, "see to the disk, or name another file"),
    };
    let path = path.display();
    let message = format!("checkpoint-location: {path} cannot be {done}: {error}; {mend}");
    Error::new(kind, message)
}
