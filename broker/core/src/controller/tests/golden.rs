//! The bytes of every command, as they lie on disks: a change here is a new version of a command.

use super::*;

const GOLDEN: [&str; 7] = [
    "01000100 3e000000 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0100 01000000 \
     0100000000000000 f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 0e00 3132372e302e302e313a39363434",
    "02000100 39000000 0100000000000000 0100000000000000 0100000000000000 \
     01 0600 7261636b2d61 01000000 0500 6b61666b61 0900 3132372e302e302e31 8423",
    "03000100 61000000 10101010101010101010101010101010 0600 6f7264657273 00 \
     01000000 0c00 726574656e74696f6e2e6d73 0400 31303030 \
     01000000 8877665544332211 02000000 \
     0000000001000000 0100000000000000 0100000001000000 0200000000000000",
    "04000100 10000000 10101010101010101010101010101010",
    "05000100 28000000 10101010101010101010101010101010 \
     01000000 0c00 726574656e74696f6e2e6d73 0400 31303030",
    "06000100 0c000000 0100000000000000 e8030000",
    "07000100 14000000 0100000000000000 01000000 8877665544332211",
];

#[test]
fn the_bytes_of_a_command_never_change() {
    for (command, golden) in codec::one_of_each().into_iter().zip(GOLDEN) {
        let bytes = encode_commands(&[command]);
        let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, golden.replace(' ', ""));
    }
}

#[test]
fn the_bytes_of_a_snapshot_never_change() {
    let mut metadata = Metadata::new();
    let mut commands = codec::one_of_each();
    commands.truncate(4);
    let outcomes =
        metadata.apply(LogIndex::new(9), &encode_commands(&commands), &mut Vec::new()).unwrap();
    assert_eq!(outcomes, [CommandOutcome::Done; 4]);
    let golden = "0100 0900000000000000 \
        01 c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1 0100 01000000 \
        0100000000000000 f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 0e00 3132372e302e302e313a39363434 \
        0000000000000000 0200000001000000 \
        01000000 0100000000000000 0100000000000000 0100000000000000 \
        01 0600 7261636b2d61 01000000 0500 6b61666b61 0900 3132372e302e302e31 8423 \
        00000000 \
        01000000 8877665544332211 02000000 0100000000000000 0200000000000000";
    let found: String = metadata.snapshot().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, golden.replace(' ', ""));
}
