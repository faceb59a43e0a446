//! A filesystem for each node: a flush of one must not flush what another has written.
//!
//! Volumes are ext4 in files, mounted through loop devices inside of a mount namespace of this
//! program's own: with its last process they are gone, however it ends.
//!
//! Absent on purpose: machines on which this program may not mount. There the nodes share a
//! filesystem, and the row says so.

use crate::failure::{Failure, Tried};
use crate::machine::output;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that this process has mounts of its own already.
const MARK: &str = "BATEAU_BENCHES_OWN_MOUNTS";

/// Starts this program again with mounts of its own; returns where it has them, or cannot have
/// them.
///
/// To be called first, before there is anything that a start anew would lose.
pub fn with_own_mounts() {
    if std::env::var_os(MARK).is_some() || !can_unshare() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    let error = command.args(std::env::args_os().skip(1)).env(MARK, "1").exec();
    eprintln!("no mounts of its own: {error}");
}

fn can_unshare() -> bool {
    output("unshare", &["--mount", "--propagation", "private", "--", "true"]).is_ok()
}

/// A filesystem that goes with its owner.
#[derive(Debug)]
pub struct Volume {
    place: PathBuf,
}

impl Volume {
    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = output("umount", &[&self.place.to_string_lossy()]) {
            eprintln!("{}: stays mounted: {error}", self.place.display());
        }
    }
}

/// Makes a volume of so many bytes; `None` where this program may not.
///
/// - `bytes`: allocated in full, so that the volume's own growth is in no figure.
///
/// # Errors
/// The disk has no room.
pub fn mount(parent: &Path, name: &str, bytes: u64) -> Result<Option<Volume>, Failure> {
    if std::env::var_os(MARK).is_none() {
        return Ok(None);
    }
    let image = parent.join(format!("{name}.ext4"));
    let what = || image.display().to_string();
    let file = File::create(&image).tried(what)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).tried(what)?;
    let place = parent.join(name);
    std::fs::create_dir(&place).tried(|| place.display().to_string())?;
    let (image, mounted) = (image.to_string_lossy(), place.to_string_lossy());
    let made = output("mkfs.ext4", &["-q", "-F", &image])
        .and_then(|_| output("mount", &["-o", "loop", &image, &mounted]));
    match made {
        Ok(_) => Ok(Some(Volume { place })),
        Err(error) => {
            eprintln!("nodes share a filesystem: {error}");
            Ok(None)
        }
    }
}
