//! From a verdict to the kernel's action.

use aya_ebpf::bindings::{
    TC_ACT_SHOT, TC_ACT_UNSPEC,
    xdp_action::{XDP_DROP, XDP_PASS},
};
use dataplane_common::{
    abi::{Hook, NextHop},
    arp,
    decide::{Arrival, Decap, Verdict},
    packet::Packet,
    reason::{Action, Reason},
    rewrite,
    tables::Tables,
};

use crate::{count::count, frame::XdpFrame, helpers, packet::SkbPacket, tables::MAPS};

/// Rewrites the packet as `verdict` says, counts it, and hands it on.
#[inline(always)]
pub fn carry_out(hook: Hook, packet: &mut SkbPacket, verdict: Verdict<'_>) -> i32 {
    let bytes = packet.frame_length();
    match rewrite_and_redirect(packet, verdict) {
        Ok(action) => {
            count(hook, verdict.reason(), bytes);
            action
        }
        Err(reason) => {
            count(hook, reason, bytes);
            leave(reason)
        }
    }
}

#[inline(always)]
fn rewrite_and_redirect(packet: &mut SkbPacket, verdict: Verdict<'_>) -> Result<i32, Reason> {
    match verdict {
        Verdict::Leave(reason) => Err(reason),
        Verdict::AnswerArp(mac, true) => {
            arp::answer(packet, mac)?;
            Ok(helpers::redirect(packet.ifindex()))
        }
        Verdict::AnswerArp(mac, false) => {
            let request = arp::take(packet)?;
            arp::answer(packet, mac)?;
            packet.send_copy(packet.ifindex())?;
            arp::put_back(packet, request)?;
            Ok(TC_ACT_UNSPEC)
        }
        Verdict::Deliver(endpoint, arrival) => {
            let decap = match arrival {
                Arrival::Local | Arrival::Direct | Arrival::TakenOut(_) => None,
                Arrival::Tunnelled(decap) => Some(decap),
            };
            rewrite::deliver(packet, decap, endpoint)?;
            packet.clear_mark();
            Ok(helpers::redirect_peer(endpoint.ifindex))
        }
        Verdict::Send(send) => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::send(packet, config, &send)?;
            let next_hop = send.next_hop;
            Ok(helpers::redirect_neighbour(
                next_hop.ifindex,
                next_hop.gateway,
            ))
        }
        Verdict::Inject(decap, _) => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::inject(packet, config, decap)?;
            Ok(helpers::redirect_ingress(config.carrier))
        }
        Verdict::Detour => {
            let config = MAPS.config().ok_or(Reason::NoConfig)?;
            rewrite::address(packet, config.vtep_mac, config.vtep_mac)?;
            Ok(helpers::redirect_ingress(config.carrier))
        }
        Verdict::CarrierEncap(next_hop, tos) => carrier_encap(packet, next_hop, tos),
    }
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

/// Lets the packet continue into the carrier with directions for its encapsulation.
#[inline(always)]
fn carrier_encap(packet: &mut SkbPacket, next_hop: &NextHop, tos: u8) -> Result<i32, Reason> {
    let config = MAPS.config().ok_or(Reason::NoConfig)?;
    rewrite::address(packet, next_hop.vtep_mac, config.vtep_mac)?;
    packet.set_tunnel_key(next_hop.peer, config.vni, tos)?;
    Ok(TC_ACT_UNSPEC)
}

/// To the next program and the stack, which under tcx only `TC_ACT_UNSPEC` reaches, or dropped.
#[inline(always)]
fn leave(reason: Reason) -> i32 {
    match reason.action() {
        Action::Forward | Action::Stack => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
    }
}
