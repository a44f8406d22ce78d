//! The floor: the cheapest programs that carry packets from pod to pod over the devices that ours carry
//! them over, for benchmarks to compare with.
//!
//! Whatever is IPv4 is carried, to one place, with headers that the loader has made: nothing is parsed,
//! looked up or counted, and no TTL runs out. Only the lengths and the checksum that depends on them
//! are a packet's own.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
// The macro `classifier` emits functions of its own beside the documented ones.
#![allow(missing_docs)]
// And it passes the context by value.
#![allow(clippy::needless_pass_by_value)]
// A packet pointer that crosses a call that was not inlined loses its bounds.
#![allow(clippy::inline_always)]
// Words hold shorter ones, and lengths have 16 bits.
#![allow(clippy::cast_possible_truncation)]

#[path = "../room.rs"]
mod room;

use core::{arch::asm, ptr};

use aya_ebpf::{
    Global,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_xdp_adjust_head},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::room::{ENCAP_IPIP, ENCAP_L2_ETH, ENCAP_VXLAN, KEEP};

/// Interface index of the uplink.
#[unsafe(no_mangle)]
static UPLINK: Global<u32> = Global::new(0);
/// Interface index of the host side of the veth of the pod to which packets are delivered.
#[unsafe(no_mangle)]
static POD: Global<u32> = Global::new(0);
/// What a frame begins with on the uplink: Ethernet, and of a tunnel IPv4, UDP, VXLAN, Ethernet, with
/// lengths and checksums of zero. Bytes in the order of the wire.
#[unsafe(no_mangle)]
static OUTER: Global<[u64; 8]> = Global::new([0; 8]);
/// The sum of the 16-bit words of the outer IPv4 header.
#[unsafe(no_mangle)]
static OUTER_SUM: Global<u32> = Global::new(0);
/// The Ethernet header of what is delivered.
#[unsafe(no_mangle)]
static INNER: Global<[u64; 2]> = Global::new([0; 2]);
/// The Ethernet header of what XDP leaves to the uplink.
#[unsafe(no_mangle)]
static OPENED: Global<[u64; 2]> = Global::new([0; 2]);
/// The whole answer to an ARP request.
#[unsafe(no_mangle)]
static ANSWER: Global<[u64; 6]> = Global::new([0; 6]);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;

const ETHERNET: u32 = 14;
const IPV4: u32 = 20;
const IPIP: u32 = IPV4;
const VXLAN: u32 = IPV4 + 8 + 8 + ETHERNET;
/// Length of an ARP frame.
const ARP: u32 = ETHERNET + 28;

/// Where fields are in a frame.
const TOTAL_LENGTH: usize = 16;
const CHECKSUM: usize = 24;
const UDP_LENGTH: usize = 38;

/// TC ingress of a pod's veth: to another pod on the node.
#[classifier]
pub fn floor_local(ctx: TcContext) -> i32 {
    deliver_from(&ctx, 0)
}

/// TC ingress of a pod's veth: to the other node as it is. With `bpf_redirect_neigh`, which is one call
/// more for the kernel, packets took as long from socket to socket as one could tell, and no less.
#[classifier]
pub fn floor_none_out(ctx: TcContext) -> i32 {
    if !is(&ctx, ETHERTYPE_IPV4) {
        return TC_ACT_UNSPEC;
    }
    let Some(frame) = start(&ctx, ETHERNET) else {
        return TC_ACT_SHOT;
    };
    let [first, second, ..] = OUTER.load();
    address(frame, first, second);
    redirect(UPLINK.load())
}

/// TC ingress of a pod's veth: to the other node in IPIP.
#[classifier]
pub fn floor_ipip_out(ctx: TcContext) -> i32 {
    if !is(&ctx, ETHERTYPE_IPV4) {
        return TC_ACT_UNSPEC;
    }
    let length = ctx.len() - ETHERNET + IPIP;
    if !adjust_room(&ctx, IPIP.cast_signed(), ENCAP_IPIP) {
        return TC_ACT_SHOT;
    }
    let Some(frame) = start(&ctx, ETHERNET + IPIP) else {
        return TC_ACT_SHOT;
    };
    let words = OUTER.load();
    store_32(frame, &words);
    store_2::<32>(frame, words[4] as u16);
    set_length(frame, length as u16);
    redirect(UPLINK.load())
}

/// TC ingress of a pod's veth: to the other node in VXLAN.
#[classifier]
pub fn floor_vxlan_out(ctx: TcContext) -> i32 {
    if !is(&ctx, ETHERTYPE_IPV4) {
        return TC_ACT_UNSPEC;
    }
    let length = ctx.len() - ETHERNET + VXLAN;
    if !adjust_room(&ctx, VXLAN.cast_signed(), ENCAP_VXLAN | ENCAP_L2_ETH) {
        return TC_ACT_SHOT;
    }
    let Some(frame) = start(&ctx, ETHERNET + VXLAN) else {
        return TC_ACT_SHOT;
    };
    let words = OUTER.load();
    store_32(frame, &words);
    store_8::<32>(frame, words[4]);
    store_8::<40>(frame, words[5]);
    store_8::<48>(frame, words[6]);
    store_8::<56>(frame, words[7]);
    set_length(frame, length as u16);
    store_2::<UDP_LENGTH>(frame, ((length - IPV4) as u16).to_be());
    redirect(UPLINK.load())
}

/// TC ingress of the uplink: to the pod, as it is.
#[classifier]
pub fn floor_none_in(ctx: TcContext) -> i32 {
    deliver_from(&ctx, 0)
}

/// TC ingress of the uplink: out of IPIP, to the pod.
#[classifier]
pub fn floor_ipip_in(ctx: TcContext) -> i32 {
    deliver_from(&ctx, IPIP)
}

/// TC ingress of the uplink: out of VXLAN, to the pod.
#[classifier]
pub fn floor_vxlan_in(ctx: TcContext) -> i32 {
    deliver_from(&ctx, VXLAN)
}

/// TC ingress of a pod's veth: the answer to an ARP request.
#[classifier]
pub fn floor_arp(ctx: TcContext) -> i32 {
    if !is(&ctx, ETHERTYPE_ARP) {
        return TC_ACT_UNSPEC;
    }
    let Some(frame) = start(&ctx, ARP) else {
        return TC_ACT_SHOT;
    };
    let words = ANSWER.load();
    store_32(frame, &words);
    store_8::<32>(frame, words[4]);
    store_2::<40>(frame, words[5] as u16);
    redirect(POD.load())
}

/// XDP on the uplink: out of IPIP.
#[xdp]
pub fn floor_ipip_open(ctx: XdpContext) -> u32 {
    open(&ctx, IPIP)
}

/// XDP on the uplink: out of VXLAN.
#[xdp]
pub fn floor_vxlan_open(ctx: XdpContext) -> u32 {
    open(&ctx, VXLAN)
}

/// Nothing, on TC: what it costs to run a program.
#[classifier]
pub fn nothing(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Nothing, on XDP.
#[xdp]
pub fn nothing_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// What times are divided by that are to be compared between machines: 64 rounds of Marsaglia's
/// xorshift, each of which waits for the one before. It must never change. The packet goes on.
#[classifier]
pub fn reference(ctx: TcContext) -> i32 {
    let mut state = u64::from(ctx.len()) | 1;
    for _ in 0..64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    // It never is zero, which is not for LLVM to know.
    if state == 0 {
        TC_ACT_SHOT
    } else {
        TC_ACT_UNSPEC
    }
}

#[inline(always)]
fn deliver_from(ctx: &TcContext, overhead: u32) -> i32 {
    if !is(ctx, ETHERTYPE_IPV4) {
        return TC_ACT_UNSPEC;
    }
    if overhead != 0 && !adjust_room(ctx, -overhead.cast_signed(), KEEP) {
        return TC_ACT_SHOT;
    }
    let Some(frame) = start(ctx, ETHERNET) else {
        return TC_ACT_SHOT;
    };
    let [first, second] = INNER.load();
    address(frame, first, second);
    // SAFETY: the helper takes integers only.
    unsafe { bpf_redirect_peer(POD.load(), 0) as i32 }
}

#[inline(always)]
fn redirect(ifindex: u32) -> i32 {
    // SAFETY: the helper takes integers only.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

#[inline(always)]
fn adjust_room(ctx: &TcContext, difference: i32, flags: u64) -> bool {
    const BPF_ADJ_ROOM_MAC: u32 = 1;
    ctx.adjust_room(difference, BPF_ADJ_ROOM_MAC, flags).is_ok()
}

/// Whether the kernel takes the packet to be of `ethertype`.
#[inline(always)]
fn is(ctx: &TcContext, ethertype: u16) -> bool {
    // SAFETY: the program's own context, valid while it runs.
    unsafe { (*ctx.skb.skb).protocol == u32::from(ethertype.to_be()) }
}

/// Where the frame is, if so many of its bytes are in reach. Volatile, else LLVM would keep the 32 bits
/// of the context's fields.
#[inline(always)]
fn start(ctx: &TcContext, length: u32) -> Option<usize> {
    let skb = ctx.skb.skb;
    // SAFETY: as in `is`.
    let (data, end) = unsafe {
        (
            ptr::read_volatile(&raw const (*skb).data) as usize,
            ptr::read_volatile(&raw const (*skb).data_end) as usize,
        )
    };
    (data + length as usize <= end).then_some(data)
}

/// Sets the addresses of the frame: its first twelve bytes.
#[inline(always)]
fn address(frame: usize, first: u64, second: u64) {
    store_8::<0>(frame, first);
    store_4::<8>(frame, second as u32);
}

/// Sets the length of the outer IPv4 packet, and with it the checksum (RFC 1071).
#[inline(always)]
fn set_length(frame: usize, length: u16) {
    let length = length.to_be();
    let sum = OUTER_SUM.load() + u32::from(length);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    store_2::<TOTAL_LENGTH>(frame, length);
    store_2::<CHECKSUM>(frame, !sum as u16);
}

#[inline(always)]
fn open(ctx: &XdpContext, overhead: u32) -> u32 {
    let Some(frame) = xdp_start(ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: in bounds; bytes may lie anywhere.
    let ethertype = unsafe { *((frame + 12) as *const [u8; 2]) };
    if ethertype != ETHERTYPE_IPV4.to_be_bytes() {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the program's own context.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, overhead.cast_signed()) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let Some(frame) = xdp_start(ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    let [first, second] = OPENED.load();
    address(frame, first, second);
    store_2::<12>(frame, (second >> 32) as u16);
    xdp_action::XDP_PASS
}

/// As [`start`], for the Ethernet header.
#[inline(always)]
fn xdp_start(ctx: &XdpContext) -> Option<usize> {
    // SAFETY: the program's own context, valid while it runs.
    let (data, end) = unsafe {
        (
            ptr::read_volatile(&raw const (*ctx.ctx).data) as usize,
            ptr::read_volatile(&raw const (*ctx.ctx).data_end) as usize,
        )
    };
    (data + ETHERNET as usize <= end).then_some(data)
}

/// Stores the first four of some words at the beginning of a frame.
#[inline(always)]
fn store_32<const WORDS: usize>(frame: usize, words: &[u64; WORDS]) {
    store_8::<0>(frame, words[0]);
    store_8::<8>(frame, words[1]);
    store_8::<16>(frame, words[2]);
    store_8::<24>(frame, words[3]);
}

/// Stores eight bytes at an offset in a frame, wherever that is: BPF asks for no alignment there, but
/// Rust would, or store byte by byte. The verifier checks the bounds.
#[inline(always)]
fn store_8<const OFFSET: usize>(frame: usize, value: u64) {
    // SAFETY: writes to the packet alone, else the verifier refuses the program.
    unsafe { asm!("*(u64 *)({0} + {1}) = {2}", in(reg) frame, const OFFSET, in(reg) value) }
}

/// As [`store_8`], four bytes.
#[inline(always)]
fn store_4<const OFFSET: usize>(frame: usize, value: u32) {
    // SAFETY: as in `store_8`.
    unsafe {
        asm!("*(u32 *)({0} + {1}) = {2}", in(reg) frame, const OFFSET, in(reg) u64::from(value));
    }
}

/// As [`store_8`], two bytes.
#[inline(always)]
fn store_2<const OFFSET: usize>(frame: usize, value: u16) {
    // SAFETY: as in `store_8`.
    unsafe {
        asm!("*(u16 *)({0} + {1}) = {2}", in(reg) frame, const OFFSET, in(reg) u64::from(value));
    }
}

/// GPL, without which the kernel refuses the redirect helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
