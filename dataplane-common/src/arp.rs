//! Proxy ARP: pods ask for their gateway, and the program answers.
//!
//! Calico gives every pod the gateway 169.254.1.1, which no interface has; the kernel's own proxy
//! ARP would answer for it only where the node has a route to it, and late.

use network_types::arp::ArpHdr;

use crate::{
    abi::{Addr, Config, Mac},
    headers::{ETHERNET_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, EthernetHeader},
    packet::Packet,
    reason::Reason,
};

const HARDWARE_ETHERNET: [u8; 2] = [0, 1];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
const UNSPECIFIED: Addr = [0; 4];

/// Who asks, if a frame is a pod's question for one of its gateways: broadcast or unicast (RFC 826, RFC 1122 section 2.3.2.1). Probes for duplicates have no sender
/// address and announcements ask for their own (RFC 5227): neither is answered.
#[inline(always)]
pub fn asks_for_gateway<P: Packet>(packet: &P, config: &Config) -> Result<Asker, Reason> {
    let arp: &ArpHdr = packet.header(ETHERNET_LEN).ok_or(Reason::ArpOther)?;
    let is_request = arp.htype == HARDWARE_ETHERNET
        && arp.ptype == ETHERTYPE_IPV4
        && arp.hlen == 6
        && arp.plen == 4
        && arp.oper == REQUEST;
    if !is_request || arp.spa == UNSPECIFIED || arp.spa == arp.tpa || is_group(arp.sha) {
        return Err(Reason::ArpOther);
    }
    if arp.tpa != UNSPECIFIED && is_gateway(config, arp.tpa) {
        Ok(Asker {
            address: arp.spa,
            mac: arp.sha,
        })
    } else {
        Err(Reason::ArpOther)
    }
}

/// Who asks. Aligned for the stack, where the verifier takes no word that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Asker {
    /// The sender's address.
    pub address: Addr,
    /// The sender's Ethernet address.
    pub mac: Mac,
}

/// Turns a request into the reply that `mac` has the address asked for.
#[inline(always)]
pub fn answer<P: Packet>(packet: &mut P, mac: Mac) -> Result<(), Reason> {
    let arp: &mut ArpHdr = packet.header_mut(ETHERNET_LEN).ok_or(Reason::Rewrite)?;
    let (asker_mac, asker, target) = (arp.sha, arp.spa, arp.tpa);
    arp.oper = REPLY;
    arp.sha = mac;
    arp.spa = target;
    arp.tha = asker_mac;
    arp.tpa = asker;
    let ethernet: &mut EthernetHeader = packet.header_mut(0).ok_or(Reason::Rewrite)?;
    *ethernet = EthernetHeader {
        destination: asker_mac,
        source: mac,
        ethertype: ETHERTYPE_ARP,
    };
    Ok(())
}

/// The bytes of an ARP packet and its frame.
type Frame = (EthernetHeader, ArpHdr);

/// A copy of the request, before it is turned into its answer.
#[inline(always)]
pub fn take<P: Packet>(packet: &P) -> Result<Frame, Reason> {
    let ethernet: &EthernetHeader = packet.header(0).ok_or(Reason::Rewrite)?;
    let arp: &ArpHdr = packet.header(ETHERNET_LEN).ok_or(Reason::Rewrite)?;
    Ok((*ethernet, *arp))
}

/// Makes the packet the request again.
#[inline(always)]
pub fn put_back<P: Packet>(packet: &mut P, (ethernet, arp): Frame) -> Result<(), Reason> {
    *packet.header_mut(0).ok_or(Reason::Rewrite)? = ethernet;
    *packet.header_mut(ETHERNET_LEN).ok_or(Reason::Rewrite)? = arp;
    Ok(())
}

#[inline(always)]
fn is_gateway(config: &Config, address: Addr) -> bool {
    let [a, b, c, d] = config.gateways;
    address == a || address == b || address == c || address == d
}

/// Whether a frame to `mac` goes to more than one interface (IEEE 802: the first bit on the wire).
#[inline(always)]
const fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}
