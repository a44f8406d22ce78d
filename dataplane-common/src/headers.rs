//! Packet headers as Rust structs that lie on the packet's bytes.

use network_types::{arp::ArpHdr, ip::Ipv4Hdr, udp::UdpHdr};
use zerocopy::native_endian::{U16, U32, U64};

/// A header that may be read from any place in a packet.
///
/// # Safety
///
/// The type is `repr(C)`, has alignment 1 and no padding, and every bit pattern is a value of it.
pub unsafe trait Header: Copy {
    /// Proof that a reference may point anywhere; evaluated wherever a header is read.
    const ALIGNMENT_IS_ONE: () = assert!(align_of::<Self>() == 1);
}

/// An Ethernet II header. network-types' own has an aligned `u16` in it, which a reference into a
/// packet need not be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// Ethertype, in network byte order.
    pub ethertype: [u8; 2],
}

/// An [`EthernetHeader`] to be written: in words, since LLVM copies six bytes one by one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EthernetWords {
    first: U64,
    second: U32,
    third: U16,
}

impl EthernetWords {
    /// The header with these addresses and this ethertype, each as on the wire.
    #[inline(always)]
    #[must_use]
    pub fn new(destination: [u8; 6], source: [u8; 6], ethertype: [u8; 2]) -> Self {
        let [to0, to1, to2, to3, to4, to5] = destination;
        let [from0, from1, from2, from3, from4, from5] = source;
        Self {
            first: U64::new(u64::from_ne_bytes([
                to0, to1, to2, to3, to4, to5, from0, from1,
            ])),
            second: U32::new(u32::from_ne_bytes([from2, from3, from4, from5])),
            third: U16::new(u16::from_ne_bytes(ethertype)),
        }
    }
}

/// Length of an Ethernet header; the IP header of a packet begins here.
pub const ETHERNET_LEN: usize = size_of::<EthernetHeader>();
/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = size_of::<Ipv4Hdr>();
/// Length of a UDP header.
pub const UDP_LEN: usize = size_of::<UdpHdr>();
/// Length of a VXLAN header.
pub const VXLAN_LEN: usize = size_of::<VxlanBytes>();

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Ethertype of a VLAN tag, IEEE 802.1Q.
pub const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Ethertype of a service VLAN tag, IEEE 802.1ad.
pub const ETHERTYPE_QINQ: [u8; 2] = [0x88, 0xa8];
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

/// A VXLAN header (RFC 7348 section 5) as bytes: flags, 24 reserved bits, VNI, 8 reserved bits.
/// It is only ever compared as a whole, reserved bits included.
pub type VxlanBytes = [u8; 8];

/// The header of network `vni`: the I flag, and nothing reserved set.
#[inline(always)]
#[must_use]
pub const fn vxlan_header(vni: u32) -> VxlanBytes {
    let [_, a, b, c] = vni.to_be_bytes();
    [0x08, 0, 0, 0, a, b, c, 0]
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Header for EthernetHeader {}
// SAFETY: `repr(C)`, words of alignment 1 only.
unsafe impl Header for EthernetWords {}
// SAFETY: network-types: `repr(C)`, bytes and byte arrays only.
unsafe impl Header for ArpHdr {}
// SAFETY: as above.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Header for UdpHdr {}
// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}

const _: () = assert!(size_of::<EthernetHeader>() == 14);
const _: () = assert!(size_of::<EthernetWords>() == ETHERNET_LEN);
const _: () = assert!(size_of::<ArpHdr>() == 28);
const _: () = assert!(size_of::<Ipv4Hdr>() == 20);
const _: () = assert!(size_of::<UdpHdr>() == 8);

/// The header at `offset` of `bytes`, if they reach that far.
#[cfg(any(test, feature = "memory"))]
#[must_use]
pub fn at<T: Header>(bytes: &[u8], offset: usize) -> Option<&T> {
    let () = T::ALIGNMENT_IS_ONE;
    let bytes = bytes.get(offset..)?.get(..size_of::<T>())?;
    // SAFETY: `bytes` is as long as `T`, whose alignment is 1 and whose every bit pattern is valid.
    Some(unsafe { &*bytes.as_ptr().cast() })
}

/// As [`at`], to be written.
#[cfg(any(test, feature = "memory"))]
#[must_use]
pub fn at_mut<T: Header>(bytes: &mut [u8], offset: usize) -> Option<&mut T> {
    let () = T::ALIGNMENT_IS_ONE;
    let bytes = bytes.get_mut(offset..)?.get_mut(..size_of::<T>())?;
    // SAFETY: as in `at`; the borrow is exclusive.
    Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
}
