//! A file beside the database that takes room for the worst moment: when the disk is full, it is given up, so that what is
//! in flight can still be settled.
//!
//! Who admits nothing more then, and when the file is laid again, is decided in `accounting`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::place;

/// More than the rows of all requests that may be in flight, with their pages of the log.
const SIZE: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn beside(database: &Path) -> Self {
        Self { path: place::beside(database, ".ballast") }
    }

    /// Takes the room, if it is not taken yet. Blocks, for moments where the file system can set room aside.
    pub fn lay(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() == SIZE) {
            return Ok(());
        }
        let laid =
            OpenOptions::new().create(true).truncate(true).write(true).open(&self.path).and_then(|file| fill(&file));
        if laid.is_err() {
            // What was taken of a disk without room is not kept from the database.
            self.give_up();
        }
        laid
    }

    /// True: there was some, and its room is free now.
    pub fn give_up(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(target_os = "linux")]
fn fill(file: &File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, SIZE) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill_by_writing(file),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn fill(file: &File) -> io::Result<()> {
    fill_by_writing(file)
}

/// Noise, because a file system that packs what it stores would set aside nothing for zeros.
fn fill_by_writing(mut file: &File) -> io::Result<()> {
    let mut noise = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        fastrand::fill(&mut noise);
        io::Write::write_all(&mut file, &noise)?;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn room_is_really_taken_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&folder.path().join("gateway.db"));
        let file = folder.path().join("gateway.db.ballast");
        assert!(!ballast.give_up());
        fs::write(&file, "of a crash").unwrap();
        ballast.lay().unwrap();
        ballast.lay().unwrap();
        let taken = fs::metadata(&file).unwrap();
        assert!(taken.len() == SIZE && taken.blocks() * 512 >= SIZE, "{taken:?}");
        assert!(ballast.give_up() && !file.exists());
        fill_by_writing(&File::create(&file).unwrap()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), SIZE);
    }
}
