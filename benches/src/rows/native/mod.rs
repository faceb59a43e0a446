//! The rows of the native protocol, its client and the TestBroker.
//!
//! ```text
//!   send  one_record  bulk        the client, and raw frames, against a bare loop over QUIC
//!   round_trip                    one record in flight, against an echo that flushes
//!   quic_bystander                a native client with and without abusive ones
//!   testbroker                    brokers for tests, in the process and as one
//!   client_tree                   what an application takes on with the client
//! ```
//!
//! Absent on purpose: figures at a longer datagram. 1,452 bytes are what most networks carry.

mod bystander;
mod produce;
mod round_trip;
mod send;
mod testbroker;
mod tree;

use super::{Context, Kind};
use crate::failure::Failure;
use crate::native::ends::{Door, MTU_BYTES};
use crate::process::Running;
use std::path::PathBuf;

/// The numbers of the native protocol, in the order in which they run.
pub const NATIVE_LIGHT: &[Kind] = &[
    Kind {
        name: "client_tree",
        about: "packages in the client",
        foreign: false,
        run: tree::client_tree,
    },
    Kind {
        name: "testbroker",
        about: "start, series, memory of brokers for tests",
        foreign: false,
        run: testbroker::run,
    },
    Kind {
        name: "send",
        about: "the client's own batching, 256 records in flight",
        foreign: false,
        run: send::run,
    },
    Kind {
        name: "one_record",
        about: "one record per request, 256 in flight",
        foreign: false,
        run: produce::one_record,
    },
    Kind {
        name: "bulk",
        about: "64 KiB batches, 64 in flight, and CPU per GB",
        foreign: false,
        run: produce::bulk,
    },
    Kind {
        name: "round_trip",
        about: "one flushed record, one in flight",
        foreign: false,
        run: round_trip::run,
    },
    Kind {
        name: "quic_bystander",
        about: "p99 beside abuse, over QUIC",
        foreign: false,
        run: bystander::run,
    },
];

/// A bare loop, and the file that it writes to. Both go with this.
#[derive(Debug)]
struct BareLoop {
    running: Option<Running>,
    file: PathBuf,
    door: Door,
}

impl BareLoop {
    /// - `arguments`: the hidden command and its options, without the file.
    fn start(context: &Context, arguments: &[&str], writes: bool) -> Result<Self, Failure> {
        let file = context.file("bare");
        let path = file.to_string_lossy().into_owned();
        let mut arguments = arguments.to_vec();
        if writes {
            arguments.extend(["--file", &path]);
        }
        let running = context.bare_loop(&arguments)?;
        let door = running.native;
        let door = door.ok_or_else(|| Failure::unexpected("ready line", "no pin", "a pin"))?;
        Ok(Self { running: Some(running), file, door })
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        // It has the file until it is gone.
        drop(self.running.take());
        let _ = std::fs::remove_file(&self.file);
    }
}

/// What every row of this protocol keeps to.
fn transport_text() -> String {
    format!("QUIC, AES-128-GCM, datagrams of at most {MTU_BYTES} bytes")
}
