//! From a verdict to the kernel's action.

use aya_ebpf::{
    bindings::{
        TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    programs::TcContext,
};
use dataplane_common::{
    abi::{Config, Hook},
    arp,
    decide::{Arrival, Decap, Mark, Send, Verdict},
    packet::Packet,
    reason::{Action, Reason},
    rewrite,
    tables::Tables,
    tuple::CUT_UP,
};

use crate::{
    count::count,
    frame::XdpFrame,
    helpers::{self, OuterChecksum},
    monitor,
    packet::SkbPacket,
    tables::MAPS,
};

/// Rewrites the packet as `verdict` says, counts it, and hands it on.
#[inline(always)]
pub fn carry_out(hook: Hook, packet: &mut SkbPacket, verdict: Verdict<'_>) -> i32 {
    let bytes = packet.frame_length();
    mark(hook, packet, verdict.mark());
    let (reason, action) = match rewrite_and_redirect(packet, verdict) {
        Ok(done) => done,
        Err(reason) => (reason, leave(reason)),
    };
    count(hook, reason, bytes);
    monitor::report(reason);
    action
}

/// Has the packet bear `mark`, or none. What comes from outside bears nobody else's; where a packet passes
/// on its way through the stack, what it bears is left alone.
#[inline(always)]
fn mark(hook: Hook, packet: &mut SkbPacket, mark: Mark) {
    match hook {
        Hook::FromWorkload | Hook::FromUplink => packet.set_mark(mark),
        _ if mark != 0 => packet.set_mark(mark),
        _ => {}
    }
}

/// Returns the kernel's action, and what it is counted as.
#[inline(always)]
fn rewrite_and_redirect(
    packet: &mut SkbPacket,
    verdict: Verdict<'_>,
) -> Result<(Reason, i32), Reason> {
    let action = match verdict {
        Verdict::Leave(reason, _) => return Err(reason),
        Verdict::AnswerArp(mac, true) => {
            arp::answer(packet, *mac)?;
            helpers::redirect(packet.ifindex())
        }
        Verdict::AnswerArp(mac, false) => {
            let request = arp::take(packet)?;
            arp::answer(packet, *mac)?;
            packet.send_copy(packet.ifindex())?;
            arp::put_back(packet, request)?;
            TC_ACT_UNSPEC
        }
        Verdict::Deliver(endpoint, arrival) => {
            let decap = match arrival {
                Arrival::Local | Arrival::Direct | Arrival::TakenOut(_) => None,
                Arrival::Tunnelled(decap) => Some(decap),
            };
            rewrite::deliver(packet, decap, endpoint)?;
            packet.clear_mark();
            monitor::towards_pod(endpoint);
            helpers::redirect_peer(endpoint.ifindex)
        }
        Verdict::Send(send) => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            match rewrite::send(packet, config, &send) {
                Ok(()) => {}
                Err(Reason::CutUp) => {
                    return Ok((Reason::CutUp, cut_up(packet, config, &send)?));
                }
                Err(reason) => return Err(reason),
            }
            if packet.mark() == CUT_UP {
                packet.set_mark(0);
            }
            let next_hop = send.next_hop;
            monitor::towards_node(next_hop);
            helpers::redirect_neighbour(next_hop.ifindex, next_hop.gateway)
        }
        Verdict::Inject(decap, ..) => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::inject(packet, config, decap)?;
            helpers::redirect_ingress(config.carrier)
        }
        Verdict::Detour => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::address(packet, config.vtep_mac, config.vtep_mac)?;
            helpers::redirect_ingress(config.carrier)
        }
        Verdict::CarrierEncap(next_hop, tos) => {
            monitor::towards_node(next_hop);
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::address(packet, next_hop.vtep_mac, config.vtep_mac)?;
            packet.direct(next_hop.peer, config.vni, tos, OuterChecksum::Computed)?;
            TC_ACT_UNSPEC
        }
    };
    Ok((verdict.reason(), action))
}

/// Hands an aggregate to the carrier with directions for its encapsulation, and, where it will come
/// back, with a mark by which to know it again. Where there is no carrier, the stack gets it as it is:
/// the kernel's own tunnel devices offload nothing for tunnel packets either.
#[inline(always)]
fn cut_up(packet: &mut SkbPacket, config: &Config, send: &Send) -> Result<i32, Reason> {
    if packet.mark() == CUT_UP {
        // In vain, it seems: it would go round for ever.
        return Err(Reason::NoRoom);
    }
    if config.carrier == 0 {
        return Err(Reason::NoCarrier);
    }
    let remote = rewrite::cut_up(packet, config, send)?;
    let tos = config.tunnel_tos(send.ip.tos);
    packet.direct(remote, config.vni, tos, OuterChecksum::Zero)?;
    packet.set_mark(if remote == config.node {
        CUT_UP.into()
    } else {
        0
    });
    Ok(helpers::redirect(config.carrier))
}

/// To the next program and the stack, which under tcx only `TC_ACT_UNSPEC` reaches, or dropped.
#[inline(always)]
fn leave(reason: Reason) -> i32 {
    match reason.action() {
        Action::Forward | Action::Stack => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
    }
}

/// Counts a packet that goes on as it is.
#[inline(always)]
pub fn pass(hook: Hook, ctx: &TcContext, reason: Reason) -> i32 {
    count(hook, reason, ctx.len());
    monitor::tell(hook, ctx, reason);
    TC_ACT_UNSPEC
}

/// Takes a frame out of its tunnel, if it was found right, counts it, and hands it on.
#[inline(always)]
pub fn take_out(frame: &mut XdpFrame, found: Result<Decap, Reason>) -> u32 {
    let bytes = frame.frame_length();
    let reason = match found.and_then(|decap| rewrite_taken_out(frame, decap)) {
        Ok(()) => Reason::TakenOut,
        Err(reason) => reason,
    };
    count(Hook::XdpUplink, reason, bytes);
    monitor::report(reason);
    match reason.action() {
        Action::Forward | Action::Stack => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

/// The mark comes last: what is still in its tunnel must not bear it.
#[inline(always)]
fn rewrite_taken_out(frame: &mut XdpFrame, decap: Decap) -> Result<(), Reason> {
    frame.reserve_mark()?;
    rewrite::take_out(frame, decap)?;
    frame.mark_taken_out(decap.tunnel)
}
