//! What `bpf_skb_adjust_room` is told of the tunnel that it makes room for.

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_ADJ_ROOM_NO_CSUM_RESET,
};

/// `BPF_F_ADJ_ROOM_ENCAP_L2_ETH` of `linux/bpf.h`.
pub const ENCAP_L2_ETH: u64 = 1 << 6;
/// `BPF_F_ADJ_ROOM_ENCAP_L2(14)`: an inner Ethernet header.
const ENCAP_L2_LENGTH: u64 = 14 << 56;

/// Segments stay as they are, and so do checksums: both are right after the change.
pub const KEEP: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64 | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;
/// Into IPIP.
pub const ENCAP_IPIP: u64 = KEEP | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64;
/// Into VXLAN, but for [`ENCAP_L2_ETH`], which not every kernel knows.
pub const ENCAP_VXLAN: u64 = ENCAP_IPIP | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64 | ENCAP_L2_LENGTH;
