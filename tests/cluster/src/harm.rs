//! Damage to a file of a node that does not run, and its undoing.
//!
//! ```text
//!   Bit      one bit is another            Cut       the file ends in the range
//!   Block    4 KiB of chance, from there   Deleted   the file is gone
//! ```
//!
//! Invariant: after [`Harm::undo`] the file is what it was, where nobody has written to it.
//! Absent on purpose: files that are in use; those are cut short or replaced by `rows::damage`.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of [`Blow::Block`].
const BLOCK_BYTES: u64 = 4_096;

/// What happens to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blow {
    /// One bit is turned.
    Bit,
    /// 4 KiB are written over.
    Block,
    /// It is cut short.
    Cut,
    /// It is deleted.
    Deleted,
}

impl Blow {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bit, Self::Block, Self::Cut, Self::Deleted];

    /// In the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bit => "bits",
            Self::Block => "blocks",
            Self::Cut => "cuts",
            Self::Deleted => "deletions",
        }
    }
}

/// Damage that was done.
#[derive(Debug)]
pub struct Harm {
    path: PathBuf,
    blow: Blow,
    /// Where `kept` was.
    position: u64,
    kept: Vec<u8>,
    file_bytes: u64,
}

impl Harm {
    /// Does it at a place that is drawn from a range of the file.
    ///
    /// # Errors
    /// The system's.
    pub fn deal(
        path: &Path,
        blow: Blow,
        range: Range<u64>,
        random: &mut fastrand::Rng,
    ) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let file_bytes = file.metadata()?.len();
        let drawn = random.u64(range);
        let (position, until) = match blow {
            Blow::Bit => (drawn, drawn + 1),
            Blow::Block => (drawn, (drawn + BLOCK_BYTES).min(file_bytes)),
            Blow::Cut => (drawn, file_bytes),
            Blow::Deleted => (0, file_bytes),
        };
        let mut kept = vec![0; usize::try_from(until - position).expect("files here are small")];
        file.read_exact_at(&mut kept, position)?;
        match blow {
            Blow::Bit => {
                let turned = [kept[0] ^ (1 << random.u32(0..8))];
                file.write_all_at(&turned, position)?;
            }
            Blow::Block => {
                let other: Vec<u8> = kept.iter().map(|_| random.u8(..)).collect();
                file.write_all_at(&other, position)?;
            }
            Blow::Cut => file.set_len(position)?,
            Blow::Deleted => fs::remove_file(path)?,
        }
        Ok(Self { path: path.to_owned(), blow, position, kept, file_bytes })
    }

    /// Puts back what was there.
    ///
    /// # Errors
    /// The system's.
    pub fn undo(self) -> io::Result<()> {
        let is_new = self.blow == Blow::Deleted;
        let file = File::options().write(true).create(is_new).truncate(false).open(&self.path)?;
        file.set_len(self.file_bytes)?;
        file.write_all_at(&self.kept, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_clients_tests::scratch::ScratchDirectory;

    #[test]
    fn every_blow_is_seen_in_the_file_and_can_be_undone() {
        let place = ScratchDirectory::new("harm");
        let path = place.path().join("file");
        let mut random = fastrand::Rng::with_seed(7);
        let whole: Vec<u8> = (0..20_000).map(|_| random.u8(..)).collect();
        for blow in Blow::ALL {
            fs::write(&path, &whole).expect("it is written");
            let harm = Harm::deal(&path, blow, 5_000..19_000, &mut random).expect("it is done");
            let found = fs::read(&path).ok();
            assert_ne!(found.as_ref(), Some(&whole), "{blow:?}");
            let begins = found.as_ref().and_then(|found| found.get(..5_000));
            assert_eq!(begins.is_none(), blow == Blow::Deleted);
            harm.undo().expect("it is undone");
            assert_eq!(fs::read(&path).expect("it is there"), whole, "{blow:?}");
        }
    }
}
