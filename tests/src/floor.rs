//! The floor: the cheapest programs that carry packets over the devices of a lab, for benchmarks to
//! compare with. They are in `dataplane-ebpf/src/bin/floor.rs`.

use std::env;
use std::fs;

use anyhow::{Context as _, Result, bail};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType, Xdp};
use aya::{Ebpf, EbpfLoader};
use dataplane_common::abi::Addr;
use dataplane_user::dataplane::verify;
use nix::net::if_::if_nametoindex;

use crate::frames::{self, GATEWAY};
use crate::{Ip, Lab, Mac, Mode, Node, Pod};

/// The network of the floor's VXLAN.
const VNI: u32 = 4096;

const INGRESS: TcAttachType = TcAttachType::Ingress;

/// Bytes of the IPv4 header in an outer frame.
const IPV4: std::ops::Range<usize> = 14..34;

/// Programs that carry whatever is IPv4 from pod to pod, and nothing else: nodes cannot talk while they
/// are attached. Until this is dropped, pods know their gateway, which no program answers for.
#[derive(Debug)]
pub struct Floor {
    _links: Vec<SchedClassifierLink>,
    pods: Vec<Pod>,
}

impl Floor {
    /// Between the first pods of the lab's two nodes.
    pub fn attach(lab: &Lab, mode: Mode) -> Result<Self> {
        let [one, other] = lab.nodes() else {
            bail!("the floor is between two nodes");
        };
        let word = match mode {
            Mode::None => "none",
            Mode::Ipip => "ipip",
            Mode::Vxlan => "vxlan",
            Mode::CrossSubnet => bail!("there is no floor for {mode}"),
        };
        let mut links = Vec::new();
        for (here, there) in [(one, other), (other, one)] {
            let pod = first_pod(here)?;
            let mut object = FloorObject::load(here, &Headers::between(here, there, mode), pod)?;
            for (way, ifname) in [("out", pod.host_ifname()), ("in", "eth0")] {
                let name = format!("floor_{word}_{way}");
                links.push(object.attach(here, &name, (ifname, INGRESS), LinkOrder::first())?);
            }
        }
        Self::new(
            links,
            vec![first_pod(one)?.clone(), first_pod(other)?.clone()],
        )
    }

    /// Between the two pods of a node.
    pub fn attach_local(node: &Node) -> Result<Self> {
        let [one, other] = node.pods() else {
            bail!("the floor is between two pods");
        };
        let mut links = Vec::new();
        for (from, to) in [(one, other), (other, one)] {
            let mut object = FloorObject::load(node, &Headers::NONE, to)?;
            let place = (from.host_ifname(), INGRESS);
            links.push(object.attach(node, "floor_local", place, LinkOrder::first())?);
        }
        Self::new(links, node.pods().to_vec())
    }

    fn new(links: Vec<SchedClassifierLink>, pods: Vec<Pod>) -> Result<Self> {
        let floor = Self {
            _links: links,
            pods,
        };
        for pod in &floor.pods {
            pod.ns().exec(&format!(
                "ip neigh replace {GATEWAY} lladdr {} nud permanent dev eth0",
                Mac::CALICO
            ))?;
        }
        Ok(floor)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for pod in &self.pods {
            // A pod that is gone has taken its neighbour along.
            let _ = pod
                .ns()
                .exec(&format!("ip neigh delete {GATEWAY} dev eth0"));
        }
    }
}

fn first_pod(node: &Node) -> Result<&Pod> {
    let pod = node.pods().first();
    pod.with_context(|| format!("{} has no pod", node.name()))
}

/// What frames begin with on the wire.
#[derive(Debug)]
pub struct Headers([u8; 64]);

impl Headers {
    /// What stays on its node.
    pub const NONE: Self = Self([0; 64]);

    /// From a node to its neighbour.
    #[must_use]
    pub fn between(here: &Node, there: &Node, mode: Mode) -> Self {
        // Identifications of zero are those of packets that nobody may fragment (RFC 6864).
        let ip = Ip::new(here.address().addr(), there.address().addr()).dont_fragment(true);
        let packet = match mode {
            Mode::None | Mode::CrossSubnet => Vec::new(),
            Mode::Ipip => ip.ipip(&[]),
            Mode::Vxlan => {
                let inner = frames::ethernet(here.vtep_mac(), there.vtep_mac(), &[]);
                ip.vxlan(VNI, &inner, false)
            }
        };
        let frame = frames::ethernet(here.mac(), there.mac(), &packet);
        let mut bytes = [0; 64];
        bytes[..frame.len()].copy_from_slice(&frame);
        let mut headers = Self(bytes);
        headers.clear(16, 2);
        headers.clear(24, 2);
        headers
    }

    fn clear(&mut self, offset: usize, length: usize) {
        self.0[offset..offset + length].fill(0);
    }

    /// The sum of the words of the IPv4 header, as a little-endian machine adds them.
    fn sum(&self) -> u32 {
        let words = self.0[IPV4].chunks_exact(2);
        words
            .map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])))
            .sum()
    }
}

/// The floor's programs, loaded but not attached, with what they write into packets.
#[derive(Debug)]
pub struct FloorObject(Ebpf);

impl FloorObject {
    /// For packets that leave `node` with these headers, or are delivered to `pod` on it.
    pub fn load(node: &Node, headers: &Headers, pod: &Pod) -> Result<Self> {
        let index = |ifname: &str| {
            let found = node.ns().run(|| Ok(if_nametoindex(ifname)?));
            found.with_context(|| format!("find the interface {ifname}"))
        };
        let (uplink, workload) = (index("eth0")?, index(pod.host_ifname())?);
        let gateway: Addr = GATEWAY.octets();
        let inner = padded::<16>(&frames::ethernet(Mac::CALICO, pod.mac(), &[]));
        let opened = padded::<16>(&frames::ethernet(Mac::ZERO, node.mac(), &[]));
        let answer = padded::<48>(&frames::arp_reply(
            Mac::CALICO,
            gateway.into(),
            pod.mac(),
            pod.address(),
        ));
        let path = env::var_os("UNDERPASS_FLOOR_OBJECT")
            .context("UNDERPASS_FLOOR_OBJECT is not set: run this by `cargo xtask`")?;
        let object = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let ebpf = EbpfLoader::new()
            .override_global("UPLINK", &uplink, true)
            .override_global("POD", &workload, true)
            .override_global("OUTER", &headers.0, true)
            .override_global("OUTER_SUM", &headers.sum(), true)
            .override_global("INNER", &inner, true)
            .override_global("OPENED", &opened, true)
            .override_global("ANSWER", &answer, true)
            .load(&object)
            .context("load the floor's object")?;
        Ok(Self(ebpf))
    }

    /// A program on TC, loaded.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        let program = self.0.program_mut(name);
        let program = program.with_context(|| format!("the floor has no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        if program.fd().is_err() {
            verify(|| program.load()).with_context(|| format!("load {name}"))?;
        }
        Ok(program)
    }

    /// A program on XDP, loaded.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.0.program_mut(name);
        let program = program.with_context(|| format!("the floor has no program {name}"))?;
        let program: &mut Xdp = program.try_into()?;
        if program.fd().is_err() {
            verify(|| program.load()).with_context(|| format!("load {name}"))?;
        }
        Ok(program)
    }

    /// Attaches a program to a side of one of the node's interfaces, by tcx, until the link is dropped.
    pub fn attach(
        &mut self,
        node: &Node,
        name: &str,
        (ifname, side): (&str, TcAttachType),
        order: LinkOrder,
    ) -> Result<SchedClassifierLink> {
        let program = self.program(name)?;
        let options = TcAttachOptions::TcxOrder(order);
        let attached = node.ns().run(|| {
            let link = program.attach_with_options(ifname, side, options)?;
            Ok(program.take_link(link)?)
        });
        attached.with_context(|| format!("attach {name} to {ifname}"))
    }
}

fn padded<const LENGTH: usize>(bytes: &[u8]) -> [u8; LENGTH] {
    let mut padded = [0; LENGTH];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}
