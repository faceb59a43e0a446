//! A proxy for each directed pair of nodes: what one dials to reach another.
//!
//! ```text
//!   n1: dials 10.77.0.2:9640, which n1 has as an address of its own
//!         └─ pump forward ──> the real 10.77.0.2:9640
//!         <─ pump back ─────┘
//! ```
//!
//! Links are dialled by whoever sends on them, so that `lose(1, 2)` swallows what goes forward
//! on 1's link to 2, and the answers that go back on 2's link to 1.
//!
//! Invariants
//! - A connection that has lost a byte carries none any more, and is cut when the fault ends: no
//!   stream ever continues with a hole.
//! - Pauses come from the seed.
//!
//! Absent on purpose: damage, and packets of their own ([`crate::packets`]).

use crate::network::{self, Lost, PEERS_PORT};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How often a listener looks whether somebody dialled.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// How long a proxy dials before it gives up.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 64 * 1_024;

/// One directed pair.
#[derive(Debug, Default)]
struct Pair {
    from: usize,
    to: usize,
    /// What the dialler sends is swallowed.
    forward_lost: AtomicBool,
    /// What the listener answers is swallowed.
    back_lost: AtomicBool,
    delay_ms: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    stopped: AtomicBool,
    seed: AtomicU64,
    /// Both ends of each connection; those that have ended by themselves stay until a cut.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Pair {
    fn open(&self) -> MutexGuard<'_, Vec<(TcpStream, TcpStream)>> {
        self.open.lock().expect("nobody panics with it")
    }

    /// Cuts what is open.
    fn cut(&self) {
        for (near, far) in self.open().drain(..) {
            let (_, _) = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_faulty(&self) -> bool {
        self.forward_lost.load(Ordering::Relaxed) || self.back_lost.load(Ordering::Relaxed)
    }
}

/// All pairs of a network.
#[derive(Debug)]
pub struct Proxies {
    pairs: Vec<Arc<Pair>>,
}

impl Proxies {
    /// Stands between all of these nodes, whose networks are there.
    pub fn start(nodes: &[usize], seed: u64) -> Self {
        let mut pairs = Vec::new();
        for (from, to) in nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to))) {
            if from == to {
                continue;
            }
            let address = network::address(to);
            network::ip(&format!("-n n{from} addr add {address}/32 dev lo"));
            let at = SocketAddr::from((address, PEERS_PORT));
            let listener = network::listen(from, at);
            let seed = AtomicU64::new(seed ^ (from as u64) << 8 ^ to as u64);
            let pair = Arc::new(Pair { from, to, seed, ..Pair::default() });
            pairs.push(Arc::clone(&pair));
            thread::spawn(move || accept(&listener, &pair));
        }
        Self { pairs }
    }

    /// Swallows what `from` sends to `to`, on both links of the pair.
    pub fn lose(&self, from: usize, to: usize) {
        for pair in &self.pairs {
            if (pair.from, pair.to) == (from, to) {
                pair.forward_lost.store(true, Ordering::Relaxed);
            }
            if (pair.from, pair.to) == (to, from) {
                pair.back_lost.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Ends all faults; what has lost bytes is cut.
    pub fn heal(&self) {
        for pair in &self.pairs {
            if pair.is_faulty() {
                pair.cut();
            }
            pair.forward_lost.store(false, Ordering::Relaxed);
            pair.back_lost.store(false, Ordering::Relaxed);
            pair.delay_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Cuts all connections once.
    pub fn cut(&self) {
        self.pairs.iter().for_each(|pair| pair.cut());
    }

    /// Holds each chunk back for up to so long.
    pub fn delay(&self, most_ms: u64) {
        self.pairs.iter().for_each(|pair| pair.delay_ms.store(most_ms, Ordering::Relaxed));
    }

    /// What was swallowed and cut.
    pub fn lost(&self) -> Lost {
        let sum = |count: fn(&Pair) -> &AtomicU64| {
            self.pairs.iter().map(|pair| count(pair).load(Ordering::Relaxed)).sum()
        };
        let (bytes, connections) = (sum(|pair| &pair.bytes), sum(|pair| &pair.connections));
        Lost { packets: 0, bytes, connections }
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for pair in &self.pairs {
            pair.stopped.store(true, Ordering::Relaxed);
            pair.cut();
        }
    }
}

fn accept(listener: &TcpListener, pair: &Arc<Pair>) {
    listener.set_nonblocking(true).expect("a listener has this option");
    while !pair.stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((near, _)) => {
                let pair = Arc::clone(pair);
                thread::spawn(move || carry(near, &pair));
            }
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// One connection: dials the other end and pumps both ways.
fn carry(near: TcpStream, pair: &Arc<Pair>) {
    let to = SocketAddr::from((network::address(pair.to), PEERS_PORT));
    // A faulty pair takes the connection and says nothing, as a lost packet would.
    let far = TcpStream::connect_timeout(&to, DIAL_TIMEOUT);
    let (Ok(far), Ok(())) = (far, near.set_nonblocking(false)) else {
        let _ = near.shutdown(Shutdown::Both);
        pair.connections.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let clones = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
    let (Ok(near_in), Ok(far_out), Ok(near_open), Ok(far_open)) = clones else { return };
    pair.open().push((near_open, far_open));
    let back = Arc::clone(pair);
    thread::spawn(move || pump(far, near, &back, |pair| &pair.back_lost));
    pump(near_in, far_out, pair, |pair| &pair.forward_lost);
}

fn pump(mut from: TcpStream, mut to: TcpStream, pair: &Pair, lost: fn(&Pair) -> &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(pair.seed.fetch_add(1, Ordering::Relaxed));
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut broken = false;
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let delay_ms = pair.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            thread::sleep(Duration::from_millis(random.u64(0..=delay_ms)));
        }
        broken |= lost(pair).load(Ordering::Relaxed);
        if broken {
            pair.bytes.fetch_add(count as u64, Ordering::Relaxed);
        } else if to.write_all(chunk.get(..count).unwrap_or_default()).is_err() {
            break;
        }
    }
    if !broken {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
