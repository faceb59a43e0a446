//! A socket whose receive buffer has the size that is needed.
//!
//! quinn makes one buffer per endpoint for the most that the kernel might hand over: 64 segments of
//! the longest datagram, for each of 32 reads, 13 MB with ours. The kernel gathers 64 KiB at most,
//! whatever the segments' length, so 11 of the longest hold all that can come: 2.3 MB. A process
//! with many endpoints, one per TestBroker, notices the difference in every start.
//!
//! Absent on purpose: everything else. Each call goes to the socket that is wrapped.

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The most bytes that the kernel gathers into one read.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// The socket, and how many segments of the longest datagram one read may hold.
#[derive(Debug)]
pub(crate) struct GatheredSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    segments_max: usize,
}

impl GatheredSocket {
    /// - `datagram_bytes_max`: the longest datagram, at least 1.
    pub fn new(socket: Arc<dyn AsyncUdpSocket>, datagram_bytes_max: u16) -> Self {
        let needed = GATHERED_BYTES_MAX.div_ceil(usize::from(datagram_bytes_max.max(1)));
        let segments_max = socket.max_receive_segments().min(needed);
        Self { socket, segments_max }
    }
}

impl AsyncUdpSocket for GatheredSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.segments_max
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
