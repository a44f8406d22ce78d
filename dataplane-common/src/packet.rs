//! A packet as parsing, deciding and rewriting see it.

use crate::{headers::Header, reason::Reason};

/// How a packet travels between nodes inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP, RFC 2003: 20 bytes.
    Ipip,
    /// VXLAN over UDP over IPv4, RFC 7348: 50 bytes.
    Vxlan,
}

impl Tunnel {
    /// Bytes that go between the Ethernet header and the inner IP header.
    #[inline(always)]
    #[must_use]
    pub const fn overhead(self) -> u16 {
        match self {
            Self::Ipip => 20,
            Self::Vxlan => 50,
        }
    }
}

/// An Ethernet frame and what the kernel knows about it. A reference to a header borrows the
/// packet; what moves the bytes takes `&mut self`, so no reference survives it, which is what the
/// verifier asks of packet pointers.
pub trait Packet {
    /// The header at `offset` bytes from the Ethernet header; `None` where the frame ends before.
    fn header<T: Header>(&self, offset: usize) -> Option<&T>;

    /// As [`Packet::header`], to be written.
    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T>;

    /// Bytes from the Ethernet header to the end of the frame, all of them, also where they are in
    /// pages that [`Packet::header`] does not reach.
    fn frame_length(&self) -> u32;

    /// Whether the frame's destination address is the receiving interface's own
    /// (`PACKET_HOST` in `skb->pkt_type`).
    fn is_to_interface(&self) -> bool;

    /// Whether the frame has a VLAN tag that is not in its bytes (`skb->vlan_tci`).
    fn has_vlan_tag(&self) -> bool;

    /// Payload bytes of each segment of a segmentation-offloaded packet, or 0.
    fn gso_size(&self) -> u32;

    /// Whether the outermost transport checksum is known to be right: the device verified it, or
    /// GRO did, or the packet never left this machine.
    fn is_checksum_verified(&self) -> bool;

    /// The tunnel that `xdp_uplink` has taken the packet out of, if it has.
    fn taken_out_of(&self) -> Option<Tunnel>;

    /// Whether the kernel forgets a tunnel that [`Packet::decap_room`] takes the packet out of.
    /// Else it takes an aggregate for one of tunnel packets for as long as it is one.
    fn forgets_tunnels(&self) -> bool;

    /// Makes room for `tunnel`'s headers behind the Ethernet header, and tells the kernel what will
    /// stand there. The new bytes hold anything.
    ///
    /// # Errors
    ///
    /// [`Reason::NoRoom`], or [`Reason::CutUp`] for an aggregate that the kernel takes to be in a
    /// tunnel already; and the packet is as it was.
    fn encap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason>;

    /// Removes `tunnel`'s headers from behind the Ethernet header.
    ///
    /// # Errors
    ///
    /// [`Reason::NoRoom`], and the packet is as it was.
    fn decap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason>;
}
