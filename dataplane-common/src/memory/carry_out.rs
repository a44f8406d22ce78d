//! What a program does for a verdict, up to where only the kernel can go on.

use super::MemoryPacket;
use crate::{
    arp,
    decide::{Arrival, Decap, Verdict},
    packet::Packet,
    reason::{Action, Reason},
    rewrite,
    tables::Tables,
};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it went; [`Action::Forward`] is a redirect to some interface.
    pub action: Action,
    /// What it was counted as.
    pub reason: Reason,
}

/// Rewrites the packet as `verdict` says, and says where the program would let it go and what it
/// would count: `deliver.rs` of the programs, without the redirects.
pub fn carry_out<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    verdict: &Verdict<'_>,
) -> Outcome {
    match rewrite(packet, tables, verdict) {
        Ok(action) => Outcome {
            action,
            reason: verdict.reason(),
        },
        Err(reason) => left(reason),
    }
}

/// As [`carry_out`], for the XDP program: takes a frame out of its tunnel, if it was found right.
pub fn take_out(frame: &mut MemoryPacket, found: Result<Decap, Reason>) -> Outcome {
    let taken_out = found.and_then(|decap| {
        rewrite::take_out(frame, decap)?;
        Ok(decap.tunnel)
    });
    match taken_out {
        Ok(tunnel) => {
            frame.taken_out_of = Some(tunnel);
            left(Reason::TakenOut)
        }
        Err(reason) => left(reason),
    }
}

/// What goes on to the next program and the stack, or is dropped.
fn left(reason: Reason) -> Outcome {
    let action = match reason.action() {
        Action::Forward | Action::Stack => Action::Stack,
        Action::Drop => Action::Drop,
    };
    Outcome { action, reason }
}

fn rewrite<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    verdict: &Verdict<'_>,
) -> Result<Action, Reason> {
    let config = || tables.config().ok_or(Reason::NoConfig);
    match *verdict {
        Verdict::Leave(reason, _) => Err(reason),
        Verdict::AnswerArp(&mac, true) => {
            arp::answer(packet, mac)?;
            Ok(Action::Forward)
        }
        // A copy of the answer is sent, and the packet is the question again.
        Verdict::AnswerArp(&mac, false) => {
            let request = arp::take(packet)?;
            arp::answer(packet, mac)?;
            arp::put_back(packet, request)?;
            Ok(Action::Stack)
        }
        Verdict::Deliver(endpoint, arrival) => {
            let decap = match arrival {
                Arrival::Local | Arrival::Direct | Arrival::TakenOut(_) => None,
                Arrival::Tunnelled(decap) => Some(decap),
            };
            rewrite::deliver(packet, decap, endpoint)?;
            Ok(Action::Forward)
        }
        Verdict::Send(send) => {
            rewrite::send(packet, config()?, &send)?;
            Ok(Action::Forward)
        }
        Verdict::Inject(decap, ..) => {
            rewrite::inject(packet, config()?, decap)?;
            Ok(Action::Forward)
        }
        Verdict::Detour => {
            let vtep_mac = config()?.vtep_mac;
            rewrite::address(packet, vtep_mac, vtep_mac)?;
            Ok(Action::Forward)
        }
        Verdict::CarrierEncap(next_hop, _) => {
            rewrite::address(packet, next_hop.vtep_mac, config()?.vtep_mac)?;
            Ok(Action::Stack)
        }
    }
}
