//! The node under test, with everything around it in the hands of the test.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_common::{abi::Hook, reason::Reason};
use dataplane_user::{dataplane::Pins, inspect};
use etherparse::{ArpOperation, ArpPacketSlice};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use nix::unistd::Pid;

use super::{
    Case, Frames, Kernel, Port, set_up,
    world::{NAMES, NODE, P0, P1},
};
use crate::{
    Agent, Lab, Mac, Mode, PacketSocket, frames, patient, programs::Programs, take_carrier,
};

/// How long an answer of the node's stack may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// As many packets as a hook has counted for a reason.
pub(super) type Counts = BTreeMap<(Hook, Reason), u64>;

/// The node under test between two pods and a wire, which are mute: what comes out of the node is
/// an answer to what was sent into it.
pub struct Bench {
    /// Before the lab: the agent ends before what it runs in.
    programs: Option<Attached>,
    lab: Lab,
    pods: [PacketSocket; 2],
    wire: PacketSocket,
    /// Of the node's own stack, for packets with their headers.
    host: OwnedFd,
}

/// What there is only where the programs are attached.
struct Attached {
    /// Where one has the node's carrier to keep.
    _agent: Option<Agent>,
    programs: Programs,
    pins: Pins,
    /// What [`Bench::fence`] by itself is counted as.
    fence: Counts,
}

impl Bench {
    /// A node with the programs, as the agent sets it up.
    pub fn with_programs(mode: Mode) -> Result<Self> {
        Self::with_agent(mode, "")
    }

    /// As [`Bench::with_programs`], and tunnels are opened by XDP.
    pub fn with_xdp(mode: Mode) -> Result<Self> {
        let bench = Self::with_agent(mode, "xdp: native\n")?;
        bench.ensure_xdp()?;
        Ok(bench)
    }

    fn ensure_xdp(&self) -> Result<()> {
        let attached = self.programs.as_ref();
        ensure!(
            attached.is_some_and(|attached| {
                let mut hooks = attached.fence.keys().map(|(hook, _)| hook);
                hooks.any(|hook| *hook == Hook::XdpUplink)
            }),
            "there is no XDP on the uplink"
        );
        Ok(())
    }

    /// `config` is what the agent's configuration has besides.
    fn with_agent(mode: Mode, config: &str) -> Result<Self> {
        let lab = set_up::lab()?;
        let node = lab.node(NAMES[0]);
        let config = node.agent_config() + config;
        let agent = Agent::start(node, &config, &set_up::cluster(mode))?;
        node.wait_resolved()?;
        Self::of_programs(lab, Some(agent))
    }

    /// A node with the programs and without a carrier, where all else is as Calico sets it up.
    pub fn without_carrier(mode: Mode) -> Result<Self> {
        Self::without_carrier_with(mode, "xdp: off\n")
    }

    /// As [`Bench::without_carrier`], and tunnels are opened by XDP.
    pub fn without_carrier_with_xdp(mode: Mode) -> Result<Self> {
        let bench = Self::without_carrier_with(mode, "xdp: native\n")?;
        bench.ensure_xdp()?;
        Ok(bench)
    }

    fn without_carrier_with(mode: Mode, config: &str) -> Result<Self> {
        let lab = set_up::lab()?;
        let node = lab.node(NAMES[0]);
        let config = node.agent_config() + config;
        // It loads and attaches the programs, fills the maps, and ends.
        let agent = Agent::start(node, &config, &set_up::cluster(mode))?;
        node.wait_resolved()?;
        take_carrier(node, agent)?;
        set_up::be_calicos(node, mode)?;
        Self::of_programs(lab, None)
    }

    fn of_programs(lab: Lab, agent: Option<Agent>) -> Result<Self> {
        let node = lab.node(NAMES[0]);
        let attached = Attached {
            _agent: agent,
            programs: Programs::load(node)?,
            pins: Pins::new(node.pins()),
            fence: Counts::new(),
        };
        let mut bench = Self::new(lab, Some(attached))?;
        let before = bench.counts()?;
        bench.settle()?;
        let fence = since(&bench.counts()?, &before);
        if let Some(attached) = &mut bench.programs {
            attached.fence = fence;
        }
        Ok(bench)
    }

    /// A node without programs, as Calico sets it up; `None` where the kernel has no IPIP device.
    pub fn of_the_kernel(mode: Mode, kernel: Kernel) -> Result<Option<Self>> {
        if mode == Mode::Ipip && !kernel.ipip {
            return Ok(None);
        }
        let lab = set_up::lab()?;
        set_up::be_calicos(lab.node(NAMES[0]), mode)?;
        Self::new(lab, None).map(Some)
    }

    fn new(lab: Lab, programs: Option<Attached>) -> Result<Self> {
        let node = lab.node(NAMES[0]);
        for pod in node.pods() {
            pod.ns().exec("ip address flush dev eth0")?;
        }
        // Packets are processed where they are sent: on one processor, in one order.
        stay_on_this_processor()?;
        let pods = ["p0", "p1"].map(|pod| PacketSocket::open(node.pod(pod).ns(), "eth0"));
        let [p0, p1] = pods;
        Ok(Self {
            pods: [p0?, p1?],
            wire: PacketSocket::open(lab.node(NAMES[1]).ns(), "eth0")?,
            host: node.ns().run(raw_socket)?,
            programs,
            lab,
        })
    }

    /// Sends a case's frames, and returns what comes out, with what was counted.
    pub(super) fn play(&self, case: &Case) -> Result<(Frames, Counts)> {
        let [before, after] = &case.around;
        self.run_on_node(before)?;
        let counted = self.counts()?;
        for (port, frame) in &case.sent {
            self.send(*port, frame)
                .with_context(|| format!("send {} bytes at {port:?}", frame.len()))?;
        }
        let emitted = self.settle()?;
        let mut counted = since(&self.counts()?, &counted);
        if let Some(attached) = &self.programs {
            counted = since(&counted, &attached.fence);
        }
        self.run_on_node(after)?;
        Ok((emitted, counted))
    }

    /// The programs and the interface that a port's frames arrive on, for those of them to be run
    /// that see the frame first.
    pub(super) fn programs_at(&mut self, port: Port) -> Result<(&mut Programs, Hook, String)> {
        let node = self.lab.node(NAMES[0]);
        let (hook, interface) = match port {
            Port::P0 => (Hook::FromWorkload, node.pod("p0").host_ifname()),
            Port::P1 => (Hook::FromWorkload, node.pod("p1").host_ifname()),
            Port::Wire => (Hook::FromUplink, "eth0"),
            Port::Host => (Hook::FromStack, "underpass0"),
        };
        let interface = interface.to_owned();
        let attached = self.programs.as_mut();
        let attached = attached.context("no programs are attached here")?;
        Ok((&mut attached.programs, hook, interface))
    }

    /// What the programs have counted; nothing where there are none.
    pub(super) fn counts(&self) -> Result<Counts> {
        let Some(attached) = &self.programs else {
            return Ok(Counts::new());
        };
        let counters = inspect::counters(&attached.pins)?;
        Ok(counters
            .into_iter()
            .map(|(key, counter)| (key, counter.packets))
            .filter(|(_, packets)| *packets > 0)
            .collect())
    }

    fn send(&self, port: Port, frame: &[u8]) -> Result<()> {
        match self.socket(port) {
            Some(socket) => socket.send(frame),
            None => self.send_from_host(frame),
        }
    }

    fn socket(&self, port: Port) -> Option<&PacketSocket> {
        match port {
            Port::P0 => Some(&self.pods[0]),
            Port::P1 => Some(&self.pods[1]),
            Port::Wire => Some(&self.wire),
            Port::Host => None,
        }
    }

    fn send_from_host(&self, packet: &[u8]) -> Result<()> {
        let destination: [u8; 4] = packet[16..20].try_into()?;
        let [a, b, c, d] = destination;
        let destination = SockaddrIn::new(a, b, c, d, 0);
        let flags = MsgFlags::empty();
        sendto(self.host.as_raw_fd(), packet, &destination, flags).context("send a packet")?;
        Ok(())
    }

    fn run_on_node(&self, commands: &[&str]) -> Result<()> {
        let node = self.lab.node(NAMES[0]);
        for command in commands {
            node.ns().exec(command)?;
        }
        Ok(())
    }

    /// Waits until all that was sent has gone through the node, and returns what has come out.
    fn settle(&self) -> Result<Frames> {
        // What goes in and out once overtakes what goes round by another device, but not twice.
        let mut emitted = self.fence()?;
        emitted.extend(self.fence()?);
        emitted.sort_by_key(|(port, _)| *port);
        Ok(emitted)
    }

    /// Asks the node's stack for its address at every port. What has come out of a port when the
    /// answer does was there before it.
    fn fence(&self) -> Result<Frames> {
        let asked = [(Port::P0, P0), (Port::P1, P1), (Port::Wire, ASKER)];
        for (port, address) in asked {
            let question = frames::arp_request(FENCE_MAC, address, Mac::BROADCAST, NODE);
            self.send(port, &question)?;
        }
        let mut emitted = Frames::new();
        for (port, _) in asked {
            let socket = self.socket(port).context("the host only sends")?;
            let answer = socket.recv_matching(patient(PATIENCE), |frame| {
                let is_answer = is_fence(frame);
                if !is_answer {
                    emitted.push((port, frame.to_vec()));
                }
                is_answer
            })?;
            answer.with_context(|| format!("the node's stack does not answer at {port:?}"))?;
        }
        Ok(emitted)
    }
}

/// Who asks on the wire; nobody else there is this.
const ASKER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 250);

/// Who asks everywhere.
const FENCE_MAC: Mac = Mac([0x02, 0xfe, 0, 0, 0, 0]);

fn is_fence(frame: &[u8]) -> bool {
    const ARP: [u8; 2] = [0x08, 0x06];
    frame[12..14] == ARP
        && ArpPacketSlice::from_slice(&frame[14..]).is_ok_and(|arp| {
            arp.operation() == ArpOperation::REPLY && arp.target_hw_addr() == FENCE_MAC.0
        })
}

fn stay_on_this_processor() -> Result<()> {
    let mut processors = CpuSet::new();
    processors.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &processors).context("stay on one processor")
}

/// A socket of the current namespace for packets that bring their own header (raw(7)).
fn raw_socket() -> Result<OwnedFd> {
    socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .context("create a raw socket")
}

/// What has been counted since `earlier`.
pub(super) fn since(now: &Counts, earlier: &Counts) -> Counts {
    now.iter()
        .map(|(key, count)| (*key, count - earlier.get(key).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .collect()
}
