//! Telling `underpass monitor` of packets: what came to a hook, and what became of it.
//!
//! Invariant: while nobody listens, a packet costs one load and one branch where it is observed, and the
//! same where it is reported. What is done while somebody does stands in functions of its own, which the
//! verifier looks at once, and waits for nobody: what there is no room for is counted, and lost.

use core::{cell::UnsafeCell, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_NO_WAKEUP, xdp_md},
    macros::map,
    maps::{PerCpuArray, RingBuf},
    programs::TcContext,
};
use dataplane_common::{
    abi::{EVENTS_SIZE, Endpoint, Event, Hook, Monitor, NextHop, NextHopKind, Observed, TO_POD},
    monitor::is_wanted,
    packet::Packet as _,
    reason::Reason,
};

use crate::{frame::XdpFrame, helpers, packet::SkbPacket, tables::next_hop_entry};

/// What userspace changes while the programs run.
#[repr(transparent)]
struct Shared(UnsafeCell<Monitor>);

// SAFETY: the programs only ever read it, but for the one word that says that nobody listens; it holds
// numbers, of which a torn one is one too.
unsafe impl Sync for Shared {}

/// [`dataplane_common::abi::maps::MONITOR`].
#[unsafe(no_mangle)]
static MONITOR: Shared = Shared(UnsafeCell::new(Monitor::OFF));
#[map]
static OBSERVED: PerCpuArray<Observed> = PerCpuArray::with_max_entries(1, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_SIZE, 0);

/// Looks at a packet before anything is changed, if somebody listens.
#[inline(always)]
pub fn observe(hook: Hook, packet: &SkbPacket) {
    if is_on() {
        observe_packet(packet.context(), hook as u32);
    }
}

/// Notes that what was observed is to go to `next_hop`.
#[inline(always)]
pub fn towards_node(next_hop: &NextHop) {
    if is_on() {
        note_towards(next_hop.kind.into(), next_hop.entry.into());
    }
}

/// Notes that what was observed is to go to a pod.
#[inline(always)]
pub fn towards_pod(endpoint: &Endpoint) {
    if is_on() {
        note_towards(TO_POD.into(), endpoint.ifindex);
    }
}

/// As [`observe`], before the packet is a socket buffer.
#[inline(always)]
pub fn observe_at_xdp(frame: &XdpFrame) {
    if is_on() {
        observe_frame(frame.context());
    }
}

/// Tells that what was observed went where it went for `reason`.
#[inline(always)]
pub fn report(reason: Reason) {
    if is_on() {
        report_observed(reason as u32);
    }
}

/// Observes and reports a packet that nothing is changed of.
#[inline(always)]
pub fn tell(hook: Hook, ctx: &TcContext, reason: Reason) {
    if is_on() {
        observe_packet(ctx.skb.skb, hook as u32);
        report_observed(reason as u32);
    }
}

#[inline(always)]
fn is_on() -> bool {
    session() != 0
}

#[inline(always)]
fn session() -> u64 {
    // SAFETY: an aligned word, whatever it says.
    unsafe { ptr::read_volatile(&raw const (*MONITOR.0.get()).session) }
}

/// What is asked for.
#[inline(always)]
fn monitor() -> &'static Monitor {
    // SAFETY: see [`Shared`]; whoever listens changes it while no session is on, and what is reported
    // for one that has ended is not looked at.
    unsafe { &*MONITOR.0.get() }
}

/// See [`observe`]. Called, not inlined, as is all that follows: see [`crate::tables`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn observe_packet(skb: *mut __sk_buff, hook: u32) -> u32 {
    let Some(observed) = begin(hook) else {
        return 0;
    };
    let event = &mut observed.event;
    // SAFETY: `skb` is the program's own context, valid while it runs.
    (event.ifindex, event.length) = unsafe { ((*skb).ifindex, (*skb).len) };
    event.captured = helpers::copy_packet(skb, &mut event.frame, monitor().snap);
    finish(observed);
    0
}

/// See [`observe_at_xdp`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn observe_frame(xdp: *mut xdp_md) -> u32 {
    let Some(observed) = begin(Hook::XdpUplink as u32) else {
        return 0;
    };
    let event = &mut observed.event;
    let frame = XdpFrame::of(xdp);
    event.ifindex = frame.ifindex();
    event.length = frame.frame_length();
    event.captured = frame.copy(&mut event.frame, monitor().snap);
    finish(observed);
    0
}

/// See [`towards_node`] and [`towards_pod`]: `which` is the entry of a next hop, or the index of a pod's
/// interface.
#[inline(never)]
#[unsafe(no_mangle)]
#[allow(clippy::cast_possible_truncation)] // it has 8 bits
extern "C" fn note_towards(towards: u32, which: u32) -> u32 {
    if let Some(observed) = observed() {
        set_towards(&mut observed.event, towards as u8, which);
    }
    0
}

/// See [`report`].
#[inline(never)]
#[unsafe(no_mangle)]
#[allow(clippy::cast_possible_truncation)] // below 128
extern "C" fn report_observed(reason: u32) -> u32 {
    let Some(observed) = observed() else {
        return 0;
    };
    let event = &mut observed.event;
    // Of one that has ended, or of none: not every packet is observed.
    if event.session != session() || !is_reason_wanted(event.hook.into(), reason) {
        return 0;
    }
    event.reason = reason as u8;
    let told = event.told();
    // Nobody is woken, which would take as long as all else: the buffer is looked into often enough.
    if told.is_some_and(|told| {
        EVENTS
            .output::<[u8]>(told, BPF_RB_NO_WAKEUP.into())
            .is_err()
    }) {
        observed.lost += 1;
    }
    event.session = 0;
    0
}

/// Where the event is made of a packet at `hook`, if it may be wanted.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // below 7
fn begin(hook: u32) -> Option<&'static mut Observed> {
    let observed = observed()?;
    let event = &mut observed.event;
    event.session = 0;
    let monitor = monitor();
    let reasons = monitor.reasons.get(hook as usize)?;
    if reasons[0] | reasons[1] == 0 || helpers::random() > monitor.sample {
        return None;
    }
    event.time = helpers::monotonic_time();
    if event.time > monitor.until {
        end_session();
        return None;
    }
    event.hook = hook as u8;
    set_towards(event, 0, 0);
    Some(observed)
}

/// Has the packet reported, if it is meant.
#[inline(always)]
fn finish(observed: &mut Observed) {
    let filter = &monitor().filter;
    let event = &mut observed.event;
    let is_interface = filter.ifindex == 0 || filter.ifindex == event.ifindex;
    if is_interface && is_wanted(filter, &event.frame, event.captured) {
        event.session = session();
    }
}

#[inline(always)]
fn set_towards(event: &mut Event, towards: u8, which: u32) {
    let next_hop = match NextHopKind::from_byte(towards) {
        Some(_) => next_hop_entry(which).copied().unwrap_or_default(),
        None => NextHop {
            ifindex: which,
            ..NextHop::default()
        },
    };
    event.towards = towards;
    event.egress = next_hop.ifindex;
    event.peer = next_hop.peer;
    event.gateway = next_hop.gateway;
    event.source = next_hop.source;
}

#[inline(always)]
fn is_reason_wanted(hook: u32, reason: u32) -> bool {
    let reasons = monitor().reasons.get(hook as usize);
    // A mask is what the verifier understands best.
    reasons.is_some_and(|reasons| reasons[reason as usize / 64 % 2] >> (reason % 64) & 1 != 0)
}

/// This CPU's own.
#[inline(always)]
fn observed() -> Option<&'static mut Observed> {
    // SAFETY: the kernel gave a pointer to this CPU's own entry, and a program is not interrupted by
    // another: see `count`. Of those that call this, none keeps the reference while it calls another.
    OBSERVED
        .get_ptr_mut(0)
        .map(|observed| unsafe { &mut *observed })
}

#[inline(always)]
fn end_session() {
    // SAFETY: as in `session`; whoever listens still writes it again.
    unsafe { ptr::write_volatile(&raw mut (*MONITOR.0.get()).session, 0) }
}
