//! What the simulated disk keeps of files that lost their names.

use super::SimDisk;
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
