//! What an entry of a map holds, in words: all of it, since any of it may be what differs.

use std::net::Ipv4Addr;

use dataplane_common::abi::{
    Addr, Config, Endpoint, NextHop, NextHopKind, Peer, WAYS, Workload, flags,
};

use crate::{address::Mac, inspect::rows};

/// A value of a map that people read.
pub(super) trait Words {
    /// One line.
    fn words(&self) -> String;
}

impl Words for NextHop {
    fn words(&self) -> String {
        let kind = rows::kind(self).to_owned();
        if !self.kind().is_some_and(NextHopKind::is_remote) {
            return kind;
        }
        let via = set(self.gateway).filter(|_| self.gateway != self.peer);
        let named = [
            ("to", set(self.peer)),
            ("via", via),
            ("by", Some(rows::interface(self.ifindex))),
            ("from", set(self.source)),
            ("VTEP", resolved(self.vtep_mac)),
            ("MTU", Some(self.mtu.to_string())),
        ];
        let named = named.into_iter();
        let words = named.filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        [kind]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The places of a next hop with many ways, those beside each other that lead to the same in one.
impl Words for [NextHop; WAYS] {
    fn words(&self) -> String {
        let mut first = 0;
        let runs = self.chunk_by(PartialEq::eq).map(|run| {
            let from = first;
            first += run.len();
            format!("places {from} to {}: {}", first - 1, run[0].words())
        });
        runs.collect::<Vec<_>>().join("; ")
    }
}

impl Words for Endpoint {
    fn words(&self) -> String {
        format!(
            "{} MAC {} host MAC {} MTU {}",
            rows::interface(self.ifindex),
            resolved(self.mac).unwrap_or_else(|| "unresolved".to_owned()),
            Mac(self.host_mac),
            self.mtu
        )
    }
}

impl Words for Peer {
    fn words(&self) -> String {
        let tunnel = set(self.tunnel).unwrap_or_else(|| "none".to_owned());
        format!("tunnel address {tunnel} VTEP {}", Mac(self.vtep_mac))
    }
}

impl Words for Workload {
    fn words(&self) -> String {
        format!("MAC {}", Mac(self.mac))
    }
}

impl Words for Config {
    fn words(&self) -> String {
        let has = |flag| self.flags & flag != 0;
        let gateways: Vec<_> = self.gateways.iter().copied().filter_map(set).collect();
        let gateways = if gateways.is_empty() {
            "none".to_owned()
        } else {
            gateways.join(",")
        };
        let dscp = if has(flags::INHERIT_DSCP) {
            "inherited".to_owned()
        } else {
            self.dscp.to_string()
        };
        let carrier = match self.carrier {
            0 => "none".to_owned(),
            index => rows::interface(index),
        };
        format!(
            "node {} VNI {} port {} VTEP {} carrier {carrier} gateways {gateways} DSCP {dscp} UDP checksums {} \
             tunnels of pods {} established {} verified after {} ticks",
            Ipv4Addr::from(self.node),
            self.vni,
            u16::from_be_bytes(self.vxlan_port),
            Mac(self.vtep_mac),
            has(flags::VXLAN_CHECKSUM),
            has(flags::WORKLOAD_TUNNELS),
            has(flags::ESTABLISHED),
            self.reverify,
        )
    }
}

fn set(address: Addr) -> Option<String> {
    let address = Ipv4Addr::from(address);
    (!address.is_unspecified()).then(|| address.to_string())
}

fn resolved(mac: [u8; 6]) -> Option<String> {
    let mac = Mac(mac);
    (!mac.is_zero()).then(|| mac.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interface that is not there, so that it has a number for a name.
    const GONE: u32 = 4_000_000;

    fn vxlan(peer: u8) -> NextHop {
        NextHop {
            kind: NextHopKind::Vxlan as u8,
            mtu: 1450,
            ifindex: GONE,
            peer: [192, 168, 1, peer],
            gateway: [192, 168, 1, peer],
            source: [192, 168, 1, 10],
            vtep_mac: [0x66, 0, 0, 0, 0, peer],
            ..NextHop::default()
        }
    }

    #[test]
    fn a_next_hop_says_all_that_it_has() {
        assert_eq!(NextHop::default().words(), "unset");
        assert_eq!(
            vxlan(12).words(),
            "vxlan to 192.168.1.12 by #4000000 (gone) from 192.168.1.10 VTEP 66:00:00:00:00:0c MTU 1450"
        );
        let routed = NextHop {
            kind: NextHopKind::Direct as u8,
            gateway: [192, 168, 1, 1],
            source: [0; 4],
            vtep_mac: [0; 6],
            ..vxlan(12)
        };
        assert_eq!(
            routed.words(),
            "direct to 192.168.1.12 via 192.168.1.1 by #4000000 (gone) MTU 1450"
        );
    }

    #[test]
    fn ways_are_told_by_the_places_they_have() {
        let mut ways = [vxlan(12); WAYS];
        ways[8..].fill(NextHop::default());
        assert_eq!(
            ways.words(),
            format!(
                "places 0 to 7: {}; places 8 to 31: unset",
                vxlan(12).words()
            )
        );
    }

    #[test]
    fn the_configuration_is_told_whole() {
        let config = Config {
            node: [192, 168, 1, 10],
            vni: 4096,
            flags: flags::INHERIT_DSCP | flags::ESTABLISHED,
            vxlan_port: 4789_u16.to_be_bytes(),
            vtep_mac: [0x66, 0, 0, 0, 0, 1],
            reverify: 7,
            ..Config::default()
        };
        assert_eq!(
            config.words(),
            "node 192.168.1.10 VNI 4096 port 4789 VTEP 66:00:00:00:00:01 carrier none gateways none DSCP \
             inherited UDP checksums false tunnels of pods false established true verified after 7 ticks"
        );
    }
}
