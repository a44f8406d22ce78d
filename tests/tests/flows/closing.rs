//! Ends of connections, true and false, and what comes after them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Ip, Mac, PacketSocket, Pod, Talk, frames,
    netfilter::{Backend, Routes},
};
use etherparse::{SlicedPacket, TcpHeader, TransportSlice};

use crate::compare::with_and_without;

/// Resets in a storm, each way.
const RESETS: u32 = 2000;

/// How long an acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the same ports are used again.
const REUSES: usize = 10;

/// Resets of somebody who does not know the sequence numbers.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_storm_of_resets_ends_nothing() -> Result<()> {
    let setting = (Routes::Kernel, Backend::IptablesLegacy);
    with_and_without("2s", setting, 2, |scene| {
        let client = scene.pod(0, "p0");
        let mut tracked = Vec::new();
        for server in [scene.pod(0, "p1"), scene.pod(1, "p0")] {
            let mut talk = Talk::tcp(client, server, (0, 8080))?;
            scene.until_carried(|| talk.rounds(10))?;
            let (near, far) = talk.ports()?;
            let mut storms = [
                Resets::between(client, near, server, far)?,
                Resets::between(server, far, client, near)?,
            ];
            talk.rounds(1)?;
            for storm in &mut storms {
                storm.keep_away_from_window()?;
            }
            for number in 0..RESETS {
                for storm in &storms {
                    storm.send(number)?;
                }
                if number % 10 == 0 {
                    talk.rounds(1)?;
                }
            }
            scene.until_carried(|| talk.rounds(10))?;
            tracked.extend(scene.states(client, server)?);
            talk.close()?;
        }
        Ok(tracked)
    })
}

/// The client comes back from the same port while its last connection waits out `TIME_WAIT`.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_tuple_is_used_again_within_time_wait() -> Result<()> {
    with_and_without("2s", (Routes::Kernel, Backend::Nft), 2, |scene| {
        let client = scene.pod(0, "p0");
        let mut tracked = Vec::new();
        for server in [scene.pod(0, "p1"), scene.pod(1, "p0")] {
            for _ in 0..REUSES {
                let mut talk = Talk::tcp(client, server, (4000, 8080))?;
                scene.until_carried(|| talk.rounds(10))?;
                tracked.extend(scene.states(client, server)?);
                talk.close()?;
            }
        }
        Ok(tracked)
    })
}

/// Resets from one pod, in the name of its end of a connection.
struct Resets<'a> {
    socket: PacketSocket,
    from: &'a Pod,
    ip: Ip,
    header: TcpHeader,
    /// Where the sender is.
    sequence: u32,
}

impl<'a> Resets<'a> {
    fn between(from: &'a Pod, port: u16, to: &'a Pod, to_port: u16) -> Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(from.ns(), "eth0")?,
            from,
            ip: Ip::new(from.address(), to.address()),
            header: TcpHeader {
                rst: true,
                ..TcpHeader::new(port, to_port, 0, 0)
            },
            sequence: 0,
        })
    }

    /// By what the other end acknowledges next. A reset in the window would be taken for a true one by
    /// connection tracking, with underpass and without.
    fn keep_away_from_window(&mut self) -> Result<()> {
        let ports = (self.header.destination_port, self.header.source_port);
        let acknowledged = |frame: &[u8]| {
            let packet = SlicedPacket::from_ethernet(frame).ok()?;
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
                return None;
            };
            let is_ours = (tcp.source_port(), tcp.destination_port()) == ports;
            (is_ours && tcp.ack()).then(|| tcp.acknowledgment_number())
        };
        let is_one = |frame: &[u8]| acknowledged(frame).is_some();
        let frame = self.socket.recv_matching(PATIENCE, is_one)?;
        let sequence = frame.as_deref().and_then(acknowledged);
        self.sequence = sequence.context("nothing is acknowledged")?;
        Ok(())
    }

    /// Sends one; they are spread over the half of all sequence numbers that is farthest away.
    fn send(&self, number: u32) -> Result<()> {
        let away = (1 << 30) + (number.wrapping_mul(0x9e37_79b9) >> 1);
        let reset = TcpHeader {
            sequence_number: self.sequence.wrapping_add(away),
            ..self.header.clone()
        };
        let packet = self.ip.tcp(reset, b"");
        let frame = frames::ethernet(self.from.mac(), Mac::CALICO, &packet);
        self.socket.send(&frame)
    }
}
