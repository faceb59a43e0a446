//! Tunnels between the nodes, which lose, delay, double, overtake and damage packets.
//!
//! ```text
//!   n1: route to 10.77.0.2 ─> link `peers` ─> thread of n1 ─ fate ─> queue by time ─> n2: `peers`
//! ```
//!
//! The packets are those of the kernels' own TCP, so that it is TCP that has to cope. Damage is
//! one bit of what TCP carries, with TCP's checksum put right: what finds it is the checksum of a
//! frame, or nothing.
//!
//! # Invariants
//!
//! - The fate of each packet is drawn when it comes; both directions of a link are treated alike.
//! - Each fault is counted.
//!
//! # Absent on purpose
//!
//! Bandwidth. Packets that wait are limited by `WAITING_MAX`, as in a switch.

use crate::network::{address, inside, ip};
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Packets that may be on their way at once; what comes beyond is lost.
const WAITING_MAX: usize = 10_000;
/// A packet is not longer than this, with room to spare.
const PACKET_BYTES_MAX: usize = 4_096;
/// How long a packet is held back that others overtake.
const OVERTAKEN: Duration = Duration::from_millis(10);
/// Name of the link in each network.
const LINK: &str = "peers";

/// What happens to packets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Profile {
    /// As it is written in the ledger.
    pub name: &'static str,
    /// All are late by so much, one way.
    pub delay_ms: u64,
    /// Each is earlier or later than that by so much at most.
    pub jitter_ms: u64,
    /// Of a thousand, so many are lost.
    pub lost: u32,
    /// Of a thousand, so many come twice.
    pub doubled: u32,
    /// Of a thousand, so many are overtaken by those of the next ten milliseconds.
    pub overtaken: u32,
    /// Of a thousand, so many have another bit than they were sent with.
    pub damaged: u32,
}

/// What happened to packets so far.
#[derive(Debug, Default)]
pub struct Fates {
    delayed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
    damaged: AtomicU64,
}

impl Fates {
    /// Each fault by its name.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("packets_delayed", load(&self.delayed)),
            ("packets_lost", load(&self.lost)),
            ("packets_doubled", load(&self.doubled)),
            ("packets_overtaken", load(&self.overtaken)),
            ("packets_damaged", load(&self.damaged)),
        ]
    }
}

/// A packet on its way. The earliest is the greatest, as a heap wants it.
#[derive(PartialEq, Eq, Debug)]
struct Waiting {
    due: Instant,
    number: u64,
    to: Ipv4Addr,
    bytes: Vec<u8>,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BinaryHeap<Waiting>,
    numbers: u64,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    profile: Mutex<Profile>,
    fates: Fates,
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics with it")
    }

    fn profile(&self) -> MutexGuard<'_, Profile> {
        self.profile.lock().expect("nobody panics with it")
    }
}

/// The tunnels of a network.
#[derive(Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
    nodes: Vec<usize>,
}

impl Tunnels {
    /// Leads what these nodes send to each other through here. Their networks are there.
    ///
    /// Panics where tunnels cannot be made.
    pub fn start(nodes: &[usize], seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let ends = nodes.iter().map(|node| (address(*node), tunnel(*node, nodes)));
        let ends: BTreeMap<Ipv4Addr, Arc<File>> = ends.collect();
        for (number, end) in (1..).zip(ends.values()) {
            let (end, shared) = (Arc::clone(end), Arc::clone(&shared));
            let random = fastrand::Rng::with_seed(seed ^ number << 32);
            thread::spawn(move || take(&end, &shared, random));
        }
        let passing = Arc::clone(&shared);
        thread::spawn(move || pass_on(&ends, &passing));
        Self { shared, nodes: nodes.to_vec() }
    }

    /// From now on this happens to packets.
    pub fn set(&self, profile: Profile) {
        *self.shared.profile() = profile;
    }

    /// What happened so far.
    pub fn fates(&self) -> &Fates {
        &self.shared.fates
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.shared.queue().has_ended = true;
        self.shared.changed.notify_all();
        // Whoever reads from a link that is gone gets an error.
        for node in &self.nodes {
            ip(&format!("-n n{node} link del {LINK}"));
        }
    }
}

/// Makes the link of a node and leads what it sends to the others into it.
fn tunnel(node: usize, nodes: &[usize]) -> Arc<File> {
    let opened = inside(node, || File::options().read(true).write(true).open("/dev/net/tun"));
    let end = opened.expect("the kernel has tunnels");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tun_attach.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(LINK).stdin(end.try_clone().expect("a file can be shared"));
    let status = command.status().expect("there is Python");
    assert!(status.success(), "no tunnel of node {node}");
    ip(&format!("-n n{node} link set {LINK} up txqueuelen 1000"));
    let here = address(node);
    for other in nodes.iter().filter(|other| **other != node) {
        ip(&format!("-n n{node} route add {}/32 dev {LINK} src {here}", address(*other)));
    }
    Arc::new(end)
}

/// Takes what a node sends and draws its fate, until the link is gone.
fn take(mut end: &File, shared: &Shared, mut random: fastrand::Rng) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while let Ok(count) = end.read(&mut packet) {
        let bytes = packet.get(..count).unwrap_or_default();
        // IPv4; the kernel also asks for IPv6 routers.
        let to = bytes.get(16..20).and_then(|to| to.first_chunk::<4>());
        let Some(to) = to.filter(|_| bytes.first().is_some_and(|byte| byte >> 4 == 4)) else {
            continue;
        };
        let to = Ipv4Addr::from(*to);
        let profile = *shared.profile();
        decide(profile, shared, &mut random, to, bytes.to_vec());
    }
}

fn decide(
    profile: Profile,
    shared: &Shared,
    random: &mut fastrand::Rng,
    to: Ipv4Addr,
    mut bytes: Vec<u8>,
) {
    let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
    let mut draw = |of_thousand: u32| of_thousand > 0 && random.u32(0..1_000) < of_thousand;
    let fates = &shared.fates;
    if draw(profile.lost) {
        count(&fates.lost);
        return;
    }
    let (doubled, overtaken) = (draw(profile.doubled), draw(profile.overtaken));
    if draw(profile.damaged) && damage(&mut bytes, random) {
        count(&fates.damaged);
    }
    let earliest_ms = profile.delay_ms.saturating_sub(profile.jitter_ms);
    let delay_ms = random.u64(earliest_ms..=profile.delay_ms + profile.jitter_ms);
    let mut delay = Duration::from_millis(delay_ms);
    if delay_ms > 0 {
        count(&fates.delayed);
    }
    if overtaken {
        count(&fates.overtaken);
        delay += OVERTAKEN;
    }
    if doubled {
        count(&fates.doubled);
    }
    let due = Instant::now() + delay;
    let mut queue = shared.queue();
    for bytes in std::iter::repeat_n(bytes, 1 + usize::from(doubled)) {
        if queue.waiting.len() >= WAITING_MAX {
            count(&fates.lost);
            continue;
        }
        queue.numbers += 1;
        let number = queue.numbers;
        queue.waiting.push(Waiting { due, number, to, bytes });
    }
    shared.changed.notify_one();
}

/// Hands packets over when they are due.
fn pass_on(ends: &BTreeMap<Ipv4Addr, Arc<File>>, shared: &Shared) {
    let mut queue = shared.queue();
    while !queue.has_ended {
        let now = Instant::now();
        let due = queue.waiting.peek().map(|next| next.due);
        queue = match due {
            Some(due) if due <= now => {
                let Some(packet) = queue.waiting.pop() else { continue };
                drop(queue);
                if let Some(end) = ends.get(&packet.to) {
                    // A node that does not take it is one that loses it.
                    let _ = (&**end).write(&packet.bytes);
                }
                shared.queue()
            }
            Some(due) => {
                let waited = shared.changed.wait_timeout(queue, due - now);
                waited.expect("nobody panics with it").0
            }
            None => shared.changed.wait(queue).expect("nobody panics with it"),
        };
    }
}

/// Turns one bit of what a TCP packet carries and puts its checksum right (RFC 1624). False where
/// it carries nothing.
fn damage(bytes: &mut [u8], random: &mut fastrand::Rng) -> bool {
    const TCP: u8 = 6;
    let words = |byte: u8| usize::from(byte) * 4;
    let Some(tcp) = bytes.first().map(|byte| words(byte & 0x0f)) else { return false };
    let Some(carried) = bytes.get(tcp + 12).map(|byte| tcp + words(byte >> 4)) else {
        return false;
    };
    if bytes.get(9) != Some(&TCP) || carried >= bytes.len() {
        return false;
    }
    let at = random.usize(carried..bytes.len());
    let word = |bytes: &[u8]| {
        let from = at - (at - tcp) % 2;
        u16::from_be_bytes([bytes[from], bytes.get(from + 1).copied().unwrap_or(0)])
    };
    let before = word(bytes);
    bytes[at] ^= 1 << random.u32(0..8);
    let after = word(bytes);
    let checksum = u16::from_be_bytes([bytes[tcp + 16], bytes[tcp + 17]]);
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("it was folded twice");
    bytes[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over a TCP packet without its pseudo header, which damage does not touch.
    fn sum(tcp: &[u8]) -> u32 {
        let words = tcp.chunks(2).map(|pair| {
            u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
        });
        let mut sum: u32 = words.sum();
        while sum >> 16 > 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    #[test]
    fn damage_is_one_bit_that_the_checksum_of_tcp_does_not_find() {
        let mut random = fastrand::Rng::with_seed(7);
        for carried in [1, 2, 99, 1_400] {
            let mut packet = vec![0_u8; 40 + carried];
            (packet[0], packet[9], packet[32]) = (0x45, 6, 0x50);
            packet[40..].iter_mut().for_each(|byte| *byte = random.u8(..));
            let before = sum(&packet[20..]);
            packet[36..38]
                .copy_from_slice(&(!u16::try_from(before).expect("folded")).to_be_bytes());
            let sent = packet.clone();
            assert!(damage(&mut packet, &mut random));
            assert_eq!(sum(&packet[20..]), sum(&sent[20..]));
            let bits = packet[40..].iter().zip(&sent[40..]).map(|(a, b)| (a ^ b).count_ones());
            assert_eq!(bits.sum::<u32>(), 1);
        }
    }

    #[test]
    fn what_carries_nothing_is_not_damaged() {
        let mut packet = vec![0_u8; 40];
        (packet[0], packet[9], packet[32]) = (0x45, 6, 0x50);
        assert!(!damage(&mut packet, &mut fastrand::Rng::with_seed(7)));
    }
}
