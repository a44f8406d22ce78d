//! What the uplinks do for the stack.

use anyhow::Result;
use dataplane_common::packet::Tunnel;

use super::{Finding, node::Node};
use crate::kernel::{Link, Offloads};

pub(super) struct Facts<'n> {
    interface: &'n str,
    is_veth: bool,
    offloads: Result<Offloads>,
    tunnel: Option<Tunnel>,
}

pub(super) async fn read<'n>(node: &'n Node, uplink: &'n Link) -> Facts<'n> {
    Facts {
        interface: &uplink.name,
        is_veth: uplink.is_veth(),
        offloads: Offloads::read(&uplink.name).await,
        tunnel: node.tunnel,
    }
}

/// Something that a device should do.
struct Wanted {
    /// What people call it.
    name: &'static str,
    /// What ethtool(8) does: any of these will do.
    features: &'static [&'static str],
    /// How it is switched on.
    switch: &'static str,
}

const WANTED: [Wanted; 4] = [
    Wanted {
        name: "GRO",
        features: &["rx-gro"],
        switch: "gro",
    },
    Wanted {
        name: "GSO",
        features: &["tx-generic-segmentation"],
        switch: "gso",
    },
    Wanted {
        name: "checksums",
        features: &["tx-checksum-ip-generic", "tx-checksum-ipv4"],
        switch: "tx",
    },
    Wanted {
        name: "TSO",
        features: &["tx-tcp-segmentation"],
        switch: "tso",
    },
];

pub(super) fn judge(facts: &Facts) -> Finding {
    let Facts {
        interface, tunnel, ..
    } = facts;
    let subject = format!("offloads of {interface}");
    let offloads = match &facts.offloads {
        Ok(offloads) => offloads,
        Err(error) => return Finding::unknown(subject, error),
    };
    if offloads.has("rx-lro") {
        return Finding::fails(subject, "LRO")
            .means(
                "what it has merged is longer than any MTU and cannot be taken apart again as it was: \
                 forwarding it loses packets",
            )
            .remedy(format!("ethtool -K {interface} lro off"));
    }
    let is_on = |wanted: &Wanted| wanted.features.iter().any(|name| offloads.has(name));
    // What comes by a veth comes as its peer sends it, and nobody has to put it together again.
    let wanted = WANTED.into_iter();
    let wanted = wanted.filter(|wanted| !(facts.is_veth && wanted.name == "GRO"));
    let (on, off): (Vec<_>, Vec<_>) = wanted.partition(is_on);
    let names = |list: &[Wanted]| {
        let names: Vec<_> = list.iter().map(|wanted| wanted.name).collect();
        names.join(", ")
    };
    if !off.is_empty() {
        let switches = off.iter().map(|wanted| format!(" {} on", wanted.switch));
        let switches: String = switches.collect();
        return Finding::warning(subject, format!("no {}", names(&off)))
            .means("the processors do for each packet what the device could do for many")
            .remedy(format!("ethtool -K {interface}{switches}"));
    }
    let finding = Finding::ok(subject, names(&on));
    match tunnel {
        Some(tunnel) if !offloads.has(segmentation(*tunnel)) => finding.means(format!(
            "no {}: aggregates in tunnels are cut up before the device",
            segmentation(*tunnel)
        )),
        _ => finding,
    }
}

/// What cuts up aggregates in tunnels.
const fn segmentation(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Ipip => "tx-ipxip4-segmentation",
        Tunnel::Vxlan => "tx-udp_tnl-segmentation",
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{Fails, Ok as Fine, Warning};

    const ALL: [&str; 5] = [
        "rx-gro",
        "tx-generic-segmentation",
        "tx-checksum-ip-generic",
        "tx-tcp-segmentation",
        "tx-udp_tnl-segmentation",
    ];

    fn judged(offloads: Result<Offloads>) -> Finding {
        judge(&Facts {
            interface: "eth0",
            is_veth: false,
            offloads,
            tunnel: Some(Tunnel::Vxlan),
        })
    }

    #[test]
    fn a_device_with_everything_is_fine() {
        let found = judged(Ok(Offloads::from(ALL)));
        assert_eq!((found.result, found.meaning), (Fine, None));
        let [gro, gso, _, tso, _] = ALL;
        // As some devices have checksums, and without segmentation of tunnels.
        let found = judged(Ok(Offloads::from([gro, gso, "tx-checksum-ipv4", tso])));
        assert_eq!(found.result, Fine);
        assert!(found.meaning.unwrap().contains("tx-udp_tnl-segmentation"));
    }

    #[test]
    fn what_is_off_is_named_with_how_to_switch_it_on() {
        let [_, gso, checksums, _, tunnels] = ALL;
        let found = judged(Ok(Offloads::from([gso, checksums, tunnels])));
        assert_eq!((found.result, &*found.found), (Warning, "no GRO, TSO"));
        assert_eq!(found.remedy.unwrap(), "ethtool -K eth0 gro on tso on");
    }

    #[test]
    fn a_veth_needs_no_gro() {
        let [_, gso, checksums, tso, tunnels] = ALL;
        let found = judge(&Facts {
            interface: "eth0",
            is_veth: true,
            offloads: Ok(Offloads::from([gso, checksums, tso, tunnels])),
            tunnel: None,
        });
        assert_eq!(found.result, Fine);
    }

    #[test]
    fn lro_breaks_forwarding() {
        let [gro, gso, checksums, tso, tunnels] = ALL;
        let found = judged(Ok(Offloads::from([
            gro, gso, checksums, tso, tunnels, "rx-lro",
        ])));
        assert_eq!(found.result, Fails);
        assert_eq!(found.remedy.unwrap(), "ethtool -K eth0 lro off");
    }

    #[test]
    fn where_the_kernel_does_not_tell_it_is_not_known() {
        assert_eq!(judged(Err(anyhow!("no ethtool"))).result, Warning);
    }
}
