//! How a next hop is reached: device, tunnel, underlay.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use dataplane_common::{
    abi::{Mac, NextHop, NextHopKind},
    packet::Tunnel,
};

use super::{Fib, Via};
use crate::kernel::{Link, Underlay};

/// The outer destination of a tunnel, and what else its next hop says.
struct Outer {
    tunnel: Tunnel,
    remote: Ipv4Addr,
    source: Option<Ipv4Addr>,
    vtep_mac: Mac,
}

impl Fib {
    /// The next hop for `via`, or what is in the way.
    pub fn way(&self, via: &Via) -> Result<NextHop, String> {
        let link = self.links.get(&via.oif).ok_or("its interface is gone")?;
        if !link.up {
            return Err(format!("{} is down", link.name));
        }
        match self.outer(via, link)? {
            Some(outer) => self.tunnelled(via, link, &outer),
            None => self.direct(via, link),
        }
    }

    /// The outer destinations of the tunnels that `vias` lead into.
    pub fn remotes<'a>(&self, vias: impl Iterator<Item = &'a Via>) -> BTreeSet<Ipv4Addr> {
        let remotes = vias.filter_map(|via| {
            let outer = self.outer(via, self.links.get(&via.oif)?).ok()??;
            Some(outer.remote)
        });
        remotes.collect()
    }

    /// Whether it is known how `remote` is reached, or that it is not.
    #[must_use]
    pub fn has_underlay(&self, remote: Ipv4Addr) -> bool {
        self.underlays.contains_key(&remote)
    }

    /// Takes in how the outer destinations are reached, all that there are.
    pub fn set_underlays(&mut self, underlays: BTreeMap<Ipv4Addr, Option<Underlay>>) {
        self.underlays = underlays;
    }

    /// The VXLAN device that is carried: the programs know one network. The one with the smallest
    /// index, which is there the longest.
    #[must_use]
    pub fn vxlan(&self) -> Option<&Link> {
        self.links.values().find(|link| {
            link.up
                && link
                    .vxlan
                    .is_some_and(|vxlan| !vxlan.external && !vxlan.special && vxlan.vni != 0)
        })
    }

    fn outer(&self, via: &Via, link: &Link) -> Result<Option<Outer>, String> {
        if let Some(vxlan) = link.vxlan {
            if vxlan.external {
                return Err(format!(
                    "{} takes its outer headers from elsewhere (external)",
                    link.name
                ));
            }
            let carried = self.vxlan().map(|carried| carried.index);
            if carried != Some(link.index) {
                return Err(format!(
                    "{} is not the VXLAN device that is carried",
                    link.name
                ));
            }
            return self.by_vxlan(via, link, vxlan.local).map(Some);
        }
        if let Some(ipip) = link.ipip {
            if ipip.special {
                return Err(format!("{} is more than IPv4 in IPv4", link.name));
            }
            let remote = ipip
                .remote
                .or(via.gateway)
                .ok_or("an IPIP interface, and no gateway")?;
            return Ok(Some(Outer {
                tunnel: Tunnel::Ipip,
                remote,
                source: ipip.local,
                vtep_mac: Mac::default(),
            }));
        }
        Ok(None)
    }

    /// Gateway, its Ethernet address, and where the device sends that.
    fn by_vxlan(&self, via: &Via, link: &Link, source: Option<Ipv4Addr>) -> Result<Outer, String> {
        let name = &link.name;
        let gateway = via.gateway.ok_or("a VXLAN interface, and no gateway")?;
        let vtep_mac = self
            .neighbour(link.index, gateway)
            .ok_or_else(|| format!("{name} has no neighbour {gateway}"))?;
        let entry = self.fdb.get(&(link.index, vtep_mac)).ok_or_else(|| {
            let mac = crate::address::Mac(vtep_mac);
            format!("{name} has no forwarding entry for {mac}, the neighbour {gateway}")
        })?;
        let remote = entry.remote.filter(|_| !entry.special).ok_or_else(|| {
            format!("the forwarding entry of {name} for {gateway} is not to an IPv4 address alone")
        })?;
        Ok(Outer {
            tunnel: Tunnel::Vxlan,
            remote,
            source,
            vtep_mac,
        })
    }

    fn tunnelled(&self, via: &Via, link: &Link, outer: &Outer) -> Result<NextHop, String> {
        let remote = outer.remote;
        let underlay = self
            .underlays
            .get(&remote)
            .copied()
            .flatten()
            .ok_or_else(|| format!("there is no way to {remote}, the other end of the tunnel"))?;
        let uplink = self.uplink(underlay.oif)?;
        let path_mtu = underlay.mtu.map_or(uplink.mtu, |mtu| mtu.min(uplink.mtu));
        let inner = path_mtu.saturating_sub(u32::from(outer.tunnel.overhead()));
        let kind = match outer.tunnel {
            Tunnel::Ipip => NextHopKind::Ipip,
            Tunnel::Vxlan => NextHopKind::Vxlan,
        };
        Ok(NextHop {
            kind: kind as u8,
            mtu: mtu(via, inner.min(link.mtu)),
            ifindex: uplink.index,
            peer: remote.octets(),
            gateway: underlay.gateway.unwrap_or(remote).octets(),
            source: outer.source.unwrap_or(underlay.source).octets(),
            vtep_mac: outer.vtep_mac,
            ..NextHop::default()
        })
    }

    /// Whose the prefix is does not show: the gateway may be the node, or a router before it. So the
    /// next hop has no peer.
    fn direct(&self, via: &Via, link: &Link) -> Result<NextHop, String> {
        let uplink = self.uplink(link.index)?;
        let gateway = via.gateway.ok_or("no gateway")?;
        Ok(NextHop {
            kind: NextHopKind::Direct as u8,
            mtu: mtu(via, uplink.mtu),
            ifindex: uplink.index,
            gateway: gateway.octets(),
            ..NextHop::default()
        })
    }

    /// The interface with this index, if it is an Ethernet that leads out of the node.
    fn uplink(&self, index: u32) -> Result<&Link, String> {
        let link = self.links.get(&index).ok_or("its interface is gone")?;
        let name = &link.name;
        if self.is_workload(index) {
            return Err(format!("by way of {name}, a pod's interface"));
        }
        if !link.up {
            return Err(format!("{name} is down"));
        }
        if link.mac.is_none() || link.noarp || link.vxlan.is_some() || link.ipip.is_some() {
            return Err(format!("by way of {name}, which is no plain Ethernet"));
        }
        Ok(link)
    }
}

/// IPv4 cannot say more than 65,535 anyway; loopback and some virtual links have more.
fn mtu(via: &Via, interface: u32) -> u16 {
    let mtu = via.mtu.map_or(interface, |mtu| mtu.min(interface));
    u16::try_from(mtu).unwrap_or(u16::MAX)
}
