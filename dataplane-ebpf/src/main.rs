//! The BPF programs of underpass.
//!
//! A packet is parsed and decided upon by `dataplane-common`, rewritten by it, and delivered here.
//! Each program is three lines; what a packet meets on its way stands in
//! `dataplane_common::decide`.
#![no_std]
#![no_main]
// The macro `classifier` emits functions of its own beside the documented ones.
#![allow(missing_docs)]
// And it passes the context by value.
#![allow(clippy::needless_pass_by_value)]
// A packet pointer that crosses a call that was not inlined loses its bounds.
#![allow(clippy::inline_always)]

mod clock;
mod count;
mod deliver;
mod frame;
mod helpers;
mod monitor;
mod packet;
mod room;
mod tables;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use dataplane_common::{
    abi::Hook,
    decide,
    packet::{Packet as _, Tunnel},
    reason::Reason,
};

use crate::{
    deliver::{carry_out, pass, take_out},
    frame::XdpFrame,
    packet::{SkbPacket, mark},
    tables::MAPS,
};

/// Headers that `from_uplink` may read: Ethernet, IP, UDP, VXLAN, Ethernet, IP, TCP.
const UPLINK_HEADERS: u32 = 14 + 20 + 8 + 8 + 14 + 20 + 20;
/// Headers that the others may read: Ethernet, IP, TCP.
const INNER_HEADERS: u32 = 14 + 20 + 20;

/// TC ingress of the host side of a pod's veth.
#[classifier]
pub fn from_workload(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, INNER_HEADERS);
    monitor::observe(Hook::FromWorkload, &packet);
    let verdict = decide::from_workload(&packet, &MAPS, packet.ifindex());
    carry_out(Hook::FromWorkload, &mut packet, verdict)
}

/// TC ingress of an uplink.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, UPLINK_HEADERS);
    monitor::observe(Hook::FromUplink, &packet);
    let verdict = decide::from_uplink(&packet, &MAPS);
    carry_out(Hook::FromUplink, &mut packet, verdict)
}

/// TC egress of the carrier.
#[classifier]
pub fn from_stack(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, INNER_HEADERS);
    monitor::observe(Hook::FromStack, &packet);
    let origin = packet.origin();
    let verdict = decide::from_stack(&packet, &MAPS, origin, |next_hop| {
        packet.is_resolved(next_hop)
    });
    carry_out(Hook::FromStack, &mut packet, verdict)
}

/// TC ingress of the carrier.
#[classifier]
pub fn from_carrier(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, INNER_HEADERS);
    monitor::observe(Hook::FromCarrier, &packet);
    let verdict = decide::from_carrier(&packet, &MAPS, packet.origin());
    carry_out(Hook::FromCarrier, &mut packet, verdict)
}

/// TC egress of the host side of a pod's veth.
#[classifier]
pub fn to_workload(ctx: TcContext) -> i32 {
    learn(&ctx, Hook::ToWorkload, INNER_HEADERS, |packet, mark| {
        decide::to_workload(packet, &MAPS, mark)
    })
}

/// TC egress of an uplink.
#[classifier]
pub fn to_uplink(ctx: TcContext) -> i32 {
    learn(&ctx, Hook::ToUplink, UPLINK_HEADERS, |packet, mark| {
        decide::to_uplink(packet, &MAPS, mark)
    })
}

/// Lets a packet leave. What bears no mark, as all that is carried, is not looked into.
#[inline(always)]
fn learn(
    ctx: &TcContext,
    hook: Hook,
    headers: u32,
    decide: impl FnOnce(&SkbPacket, u16) -> Reason,
) -> i32 {
    let reason = match mark(ctx) {
        0 => Reason::Unmarked,
        mark => decide(&SkbPacket::new(ctx, headers), mark),
    };
    pass(hook, ctx, reason)
}

/// XDP on an uplink.
#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&ctx);
    monitor::observe_at_xdp(&frame);
    let found = decide::xdp_uplink(&frame, &MAPS);
    take_out(&mut frame, found)
}

/// Attached nowhere; see [`dataplane_common::abi::probes`].
#[classifier]
pub fn probe_vxlan_room(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, INNER_HEADERS);
    i32::from(packet.encap_room(Tunnel::Vxlan).is_err())
}

/// Attached nowhere; see [`dataplane_common::abi::probes`].
#[classifier]
pub fn probe_next_tunnel(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, INNER_HEADERS);
    let mut is_through = |tunnel| packet.enter(tunnel).is_ok() && packet.decap_room(tunnel).is_ok();
    let are_through =
        is_through(Tunnel::Ipip) && is_through(Tunnel::Vxlan) && is_through(Tunnel::Ipip);
    i32::from(!are_through)
}

/// Attached nowhere; see [`dataplane_common::abi::probes`].
#[classifier]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // their lower 32 bits
pub fn probe_jiffies(_ctx: TcContext) -> i32 {
    helpers::jiffies() as i32
}

/// GPL, without which the kernel refuses the redirect helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// The proof that no program can panic: the linker drops this handler with its call unless
/// something reaches it, and then the symbol is undefined in the object, which a test looks for
/// and no kernel loads.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: never executed; see above.
    unsafe { underpass_a_panic_is_reachable() }
}

unsafe extern "C" {
    fn underpass_a_panic_is_reachable() -> !;
}
