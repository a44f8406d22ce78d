//! What has gone through the pods' veths, as the kernel counts it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};

use super::Netlink;

/// What has gone through a veth since it was made, seen from its far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VethTraffic {
    /// What the far side sent, before anything here saw it.
    pub sent: Volume,
    /// What came out at the far side: what the stack here sent, and on kernels that count it, what
    /// `bpf_redirect_peer` handed over. `None` where the far side cannot be asked.
    pub received: Option<Volume>,
}

/// Packets and their bytes; a segmentation-offloaded packet counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
}

impl Netlink {
    /// The traffic of these interfaces, by index; of those that are gone, none.
    ///
    /// The far side is asked by the number that its network namespace has here
    /// (`IFLA_TARGET_NETNSID`), so that no namespace has to be entered.
    pub async fn veth_traffic(
        &self,
        interfaces: &BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, VethTraffic>> {
        let all = self
            .list(RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await
            .context("cannot list the network interfaces with what they have counted")?;
        let mut traffic = BTreeMap::new();
        for message in all {
            let RouteNetlinkMessage::NewLink(near) = message else {
                continue;
            };
            if interfaces.contains(&near.header.index)
                && let Some(sent) = received(&near)
            {
                let veth = VethTraffic {
                    sent,
                    received: self.received_by_far_side(&near).await,
                };
                traffic.insert(near.header.index, veth);
            }
        }
        Ok(traffic)
    }

    /// What the other side of a pair has received. There is none to be known where that is no pair,
    /// is gone by now, or is in a namespace that we may not look into.
    async fn received_by_far_side(&self, near: &LinkMessage) -> Option<Volume> {
        let mut request = LinkMessage::default();
        for attribute in &near.attributes {
            match attribute {
                LinkAttribute::Link(index) => request.header.index = *index,
                LinkAttribute::LinkNetNsId(id) => {
                    request.attributes.push(LinkAttribute::IfNetnsId(*id));
                }
                _ => {}
            }
        }
        if request.header.index == 0 {
            return None;
        }
        let answer = self.get(RouteNetlinkMessage::GetLink(request)).await;
        match answer.ok()?? {
            RouteNetlinkMessage::NewLink(far) => received(&far),
            _ => None,
        }
    }
}

/// What an interface has received.
fn received(link: &LinkMessage) -> Option<Volume> {
    let mut attributes = link.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Stats64(statistics) => Some(Volume {
            packets: statistics.rx_packets,
            bytes: statistics.rx_bytes,
        }),
        _ => None,
    })
}
