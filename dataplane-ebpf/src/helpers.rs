//! Kernel helpers that aya-ebpf leaves raw, each wrapped once.

use core::{hint::black_box, ptr};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_DEC, BPF_CSUM_LEVEL_QUERY, BPF_F_INGRESS, BPF_F_ZERO_CSUM_TX,
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LOOKUP_OUTPUT, TC_ACT_SHOT, xdp_md,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_csum_level, bpf_fib_lookup, bpf_get_prandom_u32, bpf_jiffies64,
        bpf_ktime_get_ns, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room,
        bpf_skb_get_tunnel_key, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_set_tunnel_key,
        bpf_xdp_adjust_head, bpf_xdp_adjust_meta,
    },
};
use dataplane_common::{
    abi::Addr,
    decide::{Origin, TunnelKey},
    monitor::Beginning,
    tuple::CUT_UP,
};

/// Address family of the neighbour in [`redirect_neighbour`].
const AF_INET: u8 = 2;

/// Size of `struct bpf_redir_neigh`. Ours ends with padding, of which older verifiers would complain.
const REDIRECT_NEIGHBOUR_SIZE: i32 = 20;

/// `struct bpf_redir_neigh`, aligned as a helper's stack argument has to be.
#[repr(C, align(8))]
struct RedirectNeighbour {
    family: u32,
    /// An IPv4 address is the first of the four; the others the kernel wants to have been written.
    address: [Addr; 4],
}

/// `struct bpf_fib_lookup` for IPv4; its unions are wider than what IPv4 needs of them.
#[repr(C, align(8))]
#[derive(Default)]
struct FibLookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    length: u16,
    ifindex: u32,
    flow: u32,
    source: [Addr; 4],
    destination: [Addr; 4],
    /// VLAN and Ethernet addresses, as an answer.
    found: [u32; 4],
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// The first fields of `struct bpf_tunnel_key`; the kernel takes this length as it took it before
/// the struct grew, on every version.
#[repr(C, align(8))]
#[derive(Default)]
struct RawTunnelKey {
    id: u32,
    /// In the host's byte order.
    remote: u32,
}

/// `struct bpf_tunnel_key` up to its TTL, another length that the kernel takes on every version.
/// Ours ends with padding.
#[repr(C, align(8))]
struct DirectingTunnelKey {
    id: u32,
    /// In the host's byte order; IPv4 is the first of the four.
    remote: [u32; 4],
    /// The TOS byte, the TTL, which is 0 for the system's default, and padding; in one word, since LLVM
    /// would write the three zeros as two, one of them across what the verifier takes for aligned.
    tos_and_ttl: u32,
}

/// Size of [`DirectingTunnelKey`] without its padding.
const DIRECTING_TUNNEL_KEY_SIZE: u32 = 22;

/// `struct bpf_tunnel_key` since Linux 6.0.
#[repr(C)]
#[derive(Default)]
struct FullTunnelKey {
    id: u32,
    remote: [u32; 4],
    options: [u32; 2],
    /// In the host's byte order.
    local: u32,
    unused: [u32; 3],
}

const _: () = assert!(size_of::<FullTunnelKey>() == 44);

/// `-EALREADY` of most architectures: the packet is in a tunnel already.
pub const ALREADY: i64 = -114;

/// The checksum of an outer UDP header.
#[derive(Clone, Copy)]
pub enum OuterChecksum {
    /// The sum.
    Computed,
    /// 0: there is none.
    Zero,
}

/// Sends the packet out of `ifindex`.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: the helper takes integers only.
    action(unsafe { bpf_redirect(ifindex, 0) })
}

/// Sends a copy of the packet out of `ifindex`.
#[inline(always)]
pub fn clone_redirect(skb: *mut __sk_buff, ifindex: u32) -> Result<(), ()> {
    // SAFETY: `skb` is the program's own context.
    let result = unsafe { bpf_clone_redirect(skb, ifindex, 0) };
    if result == 0 { Ok(()) } else { Err(()) }
}

/// Lets the packet arrive on `ifindex`.
#[inline(always)]
pub fn redirect_ingress(ifindex: u32) -> i32 {
    // SAFETY: the helper takes integers only.
    action(unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) })
}

/// Lets the packet arrive on the peer of veth `ifindex`, in its namespace, without a queue between.
#[inline(always)]
pub fn redirect_peer(ifindex: u32) -> i32 {
    // SAFETY: the helper takes integers only.
    action(unsafe { bpf_redirect_peer(ifindex, 0) })
}

/// Sends the packet out of `ifindex` to neighbour `address`, whose link-layer address the kernel
/// fills in, or resolves first.
#[inline(always)]
pub fn redirect_neighbour(ifindex: u32, address: Addr) -> i32 {
    let mut parameters = RedirectNeighbour {
        family: u32::from(AF_INET),
        // Zeros would be written by `memset`, byte by byte.
        address: [address; 4],
    };
    // SAFETY: the pointer is to a live `struct bpf_redir_neigh` (20 bytes) of at least that size.
    action(unsafe {
        bpf_redirect_neigh(
            ifindex,
            (&raw mut parameters).cast(),
            REDIRECT_NEIGHBOUR_SIZE,
            0,
        )
    })
}

/// Whether neighbour `address` on `ifindex` has a link-layer address. A neighbour that is not on
/// the link at all counts as resolved: there is nothing to wait for.
#[inline(always)]
pub fn is_neighbour_resolved(skb: *mut __sk_buff, ifindex: u32, address: Addr) -> bool {
    let mut parameters = FibLookup {
        family: AF_INET,
        ifindex,
        destination: [address; 4],
        ..FibLookup::default()
    };
    // SAFETY: `skb` is the program's own context; the pointer is to a live `struct bpf_fib_lookup`.
    let result = unsafe {
        bpf_fib_lookup(
            skb.cast(),
            (&raw mut parameters).cast(),
            size::<FibLookup>().cast_signed(),
            BPF_FIB_LOOKUP_OUTPUT,
        )
    };
    result != i64::from(BPF_FIB_LKUP_RET_NO_NEIGH)
}

/// Inserts (or, negative, removes) bytes behind the Ethernet header.
#[inline(always)]
pub fn adjust_room(skb: *mut __sk_buff, difference: i32, flags: u64) -> Result<(), i64> {
    const BPF_ADJ_ROOM_MAC: u32 = 1;
    // SAFETY: `skb` is the program's own context.
    let result = unsafe { bpf_skb_adjust_room(skb, difference, BPF_ADJ_ROOM_MAC, flags) };
    if result == 0 { Ok(()) } else { Err(result) }
}

/// Makes the first `length` bytes of the packet readable in place.
#[inline(always)]
pub fn pull_data(skb: *mut __sk_buff, length: u32) {
    // A failure shows where the header is then out of reach.
    // SAFETY: `skb` is the program's own context.
    let _: i64 = unsafe { bpf_skb_pull_data(skb, length) };
}

/// A number by chance.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_prandom_u32() }
}

/// How many jiffies the kernel has counted. The verifier makes one load of it.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_jiffies64() }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn monotonic_time() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// Copies the beginning of the packet, up to `most` bytes; returns how many.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // 512
pub fn copy_packet(skb: *mut __sk_buff, to: &mut Beginning, most: u32) -> u32 {
    // SAFETY: `skb` is the program's own context, valid while it runs.
    let length = unsafe { (*skb).len }.min(most);
    // Less by one, since older verifiers do not learn from a comparison that a number is not zero; and hidden,
    // else LLVM compares a copy, of which they do not know that it is one.
    let last = black_box(u64::from(length).wrapping_sub(1));
    if last >= to.len() as u64 {
        return 0;
    }
    let length = last as u32 + 1;
    // SAFETY: as above; there are so many bytes at the pointer.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), 0, to.as_mut_ptr().cast(), length) };
    if result == 0 { length } else { 0 }
}

/// Whether the device, or GRO, has verified the outermost checksum (`CHECKSUM_UNNECESSARY`).
#[inline(always)]
pub fn is_checksum_unnecessary(skb: *mut __sk_buff) -> bool {
    // SAFETY: `skb` is the program's own context.
    unsafe { bpf_csum_level(skb, u64::from(BPF_CSUM_LEVEL_QUERY)) >= 0 }
}

/// Tells the kernel that the outermost verified checksum is no longer in the packet.
#[inline(always)]
pub fn drop_checksum_level(skb: *mut __sk_buff) {
    // It fails where nothing was verified, and then there is nothing to take back.
    // SAFETY: `skb` is the program's own context.
    let _: i64 = unsafe { bpf_csum_level(skb, u64::from(BPF_CSUM_LEVEL_DEC)) };
}

/// Moves the beginning of a frame, and its metadata along with it.
#[inline(always)]
pub fn adjust_head(xdp: *mut xdp_md, difference: i32) -> Result<(), ()> {
    // SAFETY: `xdp` is the program's own context.
    let result = unsafe { bpf_xdp_adjust_head(xdp, difference) };
    if result == 0 { Ok(()) } else { Err(()) }
}

/// Makes room for `length` bytes of metadata in front of a frame, if the driver keeps any.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // up to 32
pub fn reserve_metadata(xdp: *mut xdp_md, length: usize) -> Result<(), ()> {
    // SAFETY: as in `adjust_head`.
    let result = unsafe { bpf_xdp_adjust_meta(xdp, -(length as i32)) };
    if result == 0 { Ok(()) } else { Err(()) }
}

/// Where a VXLAN device in external mode says the packet came from, or has been told to send it.
#[inline(always)]
pub fn origin(skb: *mut __sk_buff) -> Origin {
    /// `EINVAL`: the packet has no tunnel metadata. Metadata of IPv6 is another error.
    const NO_METADATA: i64 = -22;
    let mut key = RawTunnelKey::default();
    match get_tunnel_key(skb, &mut key) {
        0 => Origin::Tunnel(TunnelKey {
            remote: key.remote.to_be_bytes(),
            vni: key.id,
            local: outer_destination(skb),
            cut_up: mark(skb) == CUT_UP,
        }),
        NO_METADATA => Origin::Program,
        _ => Origin::Foreign,
    }
}

/// What the packet bears, or 0: `skb->tc_index`, which has 16 bits.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)]
pub fn mark(skb: *mut __sk_buff) -> u16 {
    // SAFETY: `skb` is the program's own context, valid while it runs.
    unsafe { (*skb).tc_index as u16 }
}

/// The outer destination; `None` on kernels whose tunnel key does not have it, which take this
/// length of one for a mistake.
#[inline(always)]
fn outer_destination(skb: *mut __sk_buff) -> Option<Addr> {
    let mut key = FullTunnelKey::default();
    (get_tunnel_key(skb, &mut key) == 0).then_some(key.local.to_be_bytes())
}

#[inline(always)]
fn get_tunnel_key<K>(skb: *mut __sk_buff, key: &mut K) -> i64 {
    // SAFETY: `skb` is the program's own context; the pointer is to as many live bytes as given.
    unsafe { bpf_skb_get_tunnel_key(skb, ptr::from_mut(key).cast(), size::<K>(), 0) }
}

/// Tells a VXLAN device in external mode where to send the packet, with this TOS byte but for ECN.
#[inline(always)]
pub fn set_tunnel_key(
    skb: *mut __sk_buff,
    remote: Addr,
    vni: u32,
    tos: u8,
    checksum: OuterChecksum,
) -> Result<(), ()> {
    let flags = match checksum {
        OuterChecksum::Computed => 0,
        OuterChecksum::Zero => u64::from(BPF_F_ZERO_CSUM_TX),
    };
    let mut key = DirectingTunnelKey {
        id: vni,
        remote: [u32::from_be_bytes(remote), 0, 0, 0],
        tos_and_ttl: u32::from_ne_bytes([tos, 0, 0, 0]),
    };
    // SAFETY: `skb` is the program's own context; the pointer is to more live bytes than given.
    let result = unsafe {
        bpf_skb_set_tunnel_key(skb, (&raw mut key).cast(), DIRECTING_TUNNEL_KEY_SIZE, flags)
    };
    if result == 0 { Ok(()) } else { Err(()) }
}

/// The size of a helper's argument, which is on the stack of 512 bytes.
#[allow(clippy::cast_possible_truncation)]
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// What a redirect helper returns is an action: the redirect, or a drop where it refuses.
#[inline(always)]
fn action(result: i64) -> i32 {
    i32::try_from(result).unwrap_or(TC_ACT_SHOT)
}
