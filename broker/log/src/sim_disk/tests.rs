//! What the simulated disk keeps: of files that lost their names, and of bytes that were written
//! over.

use super::{SECTOR_BYTES, SimDisk};
use crate::disk::Disk;

fn files(disk: &SimDisk) -> usize {
    // The root is the only directory.
    disk.state().inodes.len() - 1
}

fn unlink(disk: &SimDisk, path: &str) {
    disk.unlink(path).unwrap();
    disk.flush(&[], &[String::new()]).unwrap();
}

#[test]
fn a_file_without_a_name_goes_with_its_last_user() {
    let disk = SimDisk::new(1, 1 << 20);
    let file = disk.create("a").unwrap();
    file.write_at(0, &[b"bytes"]).unwrap();
    let map = file.map().unwrap();
    unlink(&disk, "a");
    assert_eq!(map.slice(0, 5), &b"bytes"[..], "it can still be read");
    let lent = map.slice(0, 5);
    drop((map, file));
    disk.create("b").unwrap();
    unlink(&disk, "b");
    assert_eq!(files(&disk), 1, "bytes of it are lent");
    drop(lent);
    disk.create("c").unwrap();
    unlink(&disk, "c");
    assert_eq!(files(&disk), 0);
}

#[test]
fn a_name_whose_loss_is_not_flushed_may_come_back_with_its_file() {
    let disk = SimDisk::new(1, 1 << 20);
    let file = disk.create("a").unwrap();
    file.write_at(0, &[b"bytes"]).unwrap();
    disk.flush(&[file], &[String::new()]).unwrap();
    disk.unlink("a").unwrap();
    disk.state().free_nameless();
    assert_eq!(files(&disk), 1);
    let kept = (0..20).filter(|seed| disk.crash(*seed).open("a").is_ok()).count();
    assert!((1..20).contains(&kept), "a coin decides, and it fell {kept} of 20 times for the name");
}

/// A crash that keeps nothing that may be lost, of a file with these bytes.
fn least(disk: &SimDisk, sector: usize, of: [u8; 2]) -> u8 {
    let read = |seed| disk.crash(seed).contents()["a"][sector * SECTOR_BYTES];
    let found: Vec<u8> = (0..40).map(read).collect();
    assert!(found.iter().all(|byte| of.contains(byte)), "{found:?}");
    if found.contains(&of[0]) { of[0] } else { of[1] }
}

#[test]
fn what_was_written_over_is_durable_with_the_device_and_nothing_else_is() {
    let disk = SimDisk::new(1, 1 << 20);
    let [file, other] = ["a", "b"].map(|name| disk.create(name).unwrap());
    file.allocate(4 * SECTOR_BYTES as u64).unwrap();
    file.write_at(0, &[&[1; SECTOR_BYTES]]).unwrap();
    disk.flush(&[file.clone(), other.clone()], &[String::new()]).unwrap();
    file.write_at(0, &[&[2; 2 * SECTOR_BYTES]]).unwrap();
    file.write_out().unwrap();
    assert_eq!(least(&disk, 0, [1, 2]), 1, "the device has it in its cache");
    disk.flush_overwritten(std::slice::from_ref(&file), &[other]).unwrap();
    assert_eq!(least(&disk, 0, [1, 2]), 2);
    assert_eq!(least(&disk, 1, [0, 2]), 0, "it was allocated and never written before");
    disk.flush(&[file], &[]).unwrap();
    assert_eq!(least(&disk, 1, [0, 2]), 2);
}
