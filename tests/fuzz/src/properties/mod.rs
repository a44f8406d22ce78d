//! What must hold of every packet at every hook.
//!
//! Everything here is read from the bytes by etherparse and from the tables by plain search, and
//! from a verdict only what it says to do: none of the code under test judges itself.

mod arp;
mod established;
mod leave;
mod reading;
mod receive;
mod send;
mod xdp;

use dataplane_common::{
    abi::{Config, Hook},
    decide::Verdict,
    memory::{MemoryTables, Outcome},
    reason::Reason,
};

use crate::{Case, Decision, Surroundings};

/// A packet that was decided upon, and the verdict carried out.
struct Run<'r> {
    case: &'r Case,
    tables: &'r MemoryTables,
    around: &'r Surroundings,
    before: &'r [u8],
    after: &'r [u8],
    outcome: Outcome,
}

impl Run<'_> {
    /// The configuration, without which nothing is done to a packet.
    fn config(&self) -> Config {
        self.tables
            .config
            .expect("a packet was changed without a configuration")
    }
}

/// Has the case decided, the verdict carried out, and looks at what became of the packet. Returns what
/// it was counted as.
///
/// # Panics
///
/// When something does not hold.
#[allow(clippy::must_use_candidate)] // for most it is enough that it returns
pub fn check(case: &Case, tables: &MemoryTables, around: &Surroundings) -> Reason {
    let flows = established::Known::of(tables);
    let decision = case.decide(tables, around);
    let mut packet = case.packet.clone();
    let outcome = decision.carry_out(&mut packet, tables);
    let run = Run {
        case,
        tables,
        around,
        before: &case.packet.bytes,
        after: &packet.bytes,
        outcome,
    };
    if outcome.reason == Reason::NoRoom {
        assert!(!case.packet.makes_room, "there was room");
        leave::is_untouched(&run);
        return outcome.reason;
    }
    match decision {
        Decision::Traffic(verdict) => {
            by_traffic_control(&run, &verdict);
            flows.allow(&run, &verdict);
        }
        Decision::Xdp(Ok(decap)) => xdp::taken_out(&run, decap),
        Decision::Xdp(Err(_)) => leave::holds(&run),
    }
    if case.hook == Hook::XdpUplink {
        xdp::changes_nothing_but_the_place(&run, packet.clone());
    }
    outcome.reason
}

fn by_traffic_control(run: &Run, verdict: &Verdict) {
    assert_eq!(
        run.outcome.reason,
        verdict.reason(),
        "decided upon, then not carried out"
    );
    match *verdict {
        Verdict::Leave(..) => leave::holds(run),
        Verdict::AnswerArp(mac, is_known) => arp::holds(run, *mac, is_known),
        Verdict::Deliver(endpoint, arrival) => receive::delivered(run, endpoint, arrival),
        Verdict::Inject(decap, ..) => receive::injected(run, decap),
        Verdict::Send(sent) => send::holds(run, &sent),
        Verdict::Detour => send::detoured(run),
        Verdict::CarrierEncap(next_hop, tos) => send::left_to_carrier(run, next_hop, tos),
    }
}

/// Says where bytes differ, rather than to show all of them.
#[track_caller]
fn same(left: &[u8], right: &[u8]) {
    let differing = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right);
    assert_eq!(differing, None, "byte {differing:?} differs");
    assert_eq!(left.len(), right.len());
}
