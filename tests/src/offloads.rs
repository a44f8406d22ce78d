//! What the devices of a lab do for the stacks, switched by ethtool(8).

use anyhow::Result;
use aya::util::KernelVersion;

use crate::NetNs;

/// Every segmentation that a veth has from its creation and is of use here.
const SEGMENTATION: [&str; 5] = [
    "tso",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-ipxip4-segmentation",
];

/// The name of [`Receiving::AggregatesUdp`].
const FORWARDED_UDP: &str = "rx-udp-gro-forwarding";

/// Whether a veth passes on aggregated UDP as it is, as it does since 5.11.
pub fn leaves_udp_whole(ns: &NetNs, ifname: &str) -> Result<bool> {
    Ok(features(ns, ifname)?.contains("tx-udp-segmentation: on"))
}

/// Whether a veth without XDP aggregates what it receives (GRO), as it does since 5.13.
pub fn veths_aggregate() -> Result<bool> {
    Ok(KernelVersion::current()? >= KernelVersion::new(5, 13, 0))
}

fn features(ns: &NetNs, ifname: &str) -> Result<String> {
    ns.exec(&format!("ethtool -k {ifname}"))
}

/// What a device does for those who send by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Checksums and segmentation: packets and checksums pass it unfinished.
    All,
    /// Checksums: the kernel cuts aggregates up before the device gets them.
    NoSegmentation,
    /// Nothing: packets are what a wire would carry.
    Nothing,
}

impl Sending {
    /// Every choice.
    pub const CHOICES: [Self; 3] = [Self::All, Self::NoSegmentation, Self::Nothing];

    /// Has interface `ifname` do this.
    pub fn apply(self, ns: &NetNs, ifname: &str) -> Result<()> {
        let switch = |is_on| if is_on { "on" } else { "off" };
        let segmentation = SEGMENTATION
            .iter()
            .flat_map(|feature| [*feature, switch(self == Self::All)]);
        ns.command("ethtool")
            .args(["-K", ifname, "tx", switch(self != Self::Nothing)])
            .args(segmentation)
            .run()?;
        Ok(())
    }
}

/// What a device does with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiving {
    /// It passes it on as it came.
    Plain,
    /// It aggregates what a stack would have sent as one (GRO): TCP, and UDP for whoever asked.
    Aggregates,
    /// It chains what belongs together, UDP too (`rx-gro-list`).
    Chains,
    /// It aggregates UDP that is to be forwarded as well (`rx-udp-gro-forwarding`, where the kernel
    /// has it: 5.12).
    AggregatesUdp,
}

impl Receiving {
    /// Every choice.
    pub const CHOICES: [Self; 4] = [
        Self::Plain,
        Self::Aggregates,
        Self::Chains,
        Self::AggregatesUdp,
    ];

    /// Has interface `ifname` do this.
    pub fn apply(self, ns: &NetNs, ifname: &str) -> Result<()> {
        let switch = |is_on| if is_on { "on" } else { "off" };
        let mut command = ns
            .command("ethtool")
            .args(["-K", ifname, "gro", switch(self != Self::Plain)])
            .args(["rx-gro-list", switch(self == Self::Chains)]);
        if features(ns, ifname)?.contains(FORWARDED_UDP) {
            command = command.args([FORWARDED_UDP, switch(self == Self::AggregatesUdp)]);
        }
        command.run()?;
        Ok(())
    }
}
