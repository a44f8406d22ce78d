//! Two ends of which every packet is made by hand.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{Ip, Mac, PacketSocket, Pod, frames, patient};

/// Bytes of the Ethernet header, and of both headers of a packet.
const ETHERNET: usize = 14;
const HEADERS: usize = ETHERNET + 20;

/// How long a packet may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An end: its pod's kernel says nothing, and answers nothing.
pub(crate) struct Hand {
    pod: Pod,
    socket: PacketSocket,
}

impl Hand {
    pub(crate) fn of(pod: &Pod) -> Result<Self> {
        let rules = "table ip hands {\n\
                       chain out { type filter hook output priority 0; policy drop; }\n\
                     }\n";
        pod.ns()
            .command("nft")
            .args(["-f", "-"])
            .input(rules)?
            .run()?;
        Ok(Self {
            pod: pod.clone(),
            socket: PacketSocket::open(pod.ns(), "eth0")?,
        })
    }

    /// What its packets to the other end begin with.
    pub(crate) fn ip(&self, to: &Self) -> Ip {
        Ip::new(self.pod.address(), to.pod.address())
    }

    pub(crate) fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Sends a packet, and waits until it is at the other end as it was sent.
    pub(crate) fn send(&self, packet: &[u8], to: &Self) -> Result<()> {
        let frame = frames::ethernet(self.pod.mac(), Mac::CALICO, packet);
        self.socket.send(&frame)?;
        let is_it = |arrived: &[u8]| arrived.get(HEADERS..) == frame.get(HEADERS..);
        let arrived = to.socket.recv_matching(patient(PATIENCE), is_it)?;
        arrived.with_context(|| format!("it does not arrive: {packet:02x?}"))?;
        Ok(())
    }
}
