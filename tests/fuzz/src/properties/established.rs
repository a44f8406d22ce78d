//! What is carried beside netfilter.

use std::collections::BTreeSet;

use dataplane_common::{
    abi::{Asker, Direction, FlowKey, Hook, flags},
    decide::{Arrival, Verdict},
    memory::MemoryTables,
    packet::Tunnel,
    reason::Reason,
};
use etherparse::{IpNumber, Ipv4Header, TcpHeader};

use super::{Run, reading::ETHERNET};
use crate::Decision;

/// The flows that were verified both ways before a packet came.
pub(super) struct Known(BTreeSet<FlowKey>);

impl Known {
    pub(super) fn of(tables: &MemoryTables) -> Self {
        let period = tables.config.map_or(0, |config| config.reverify);
        let is_verified = |direction: &Direction| {
            let (generation, then) = direction.verified.parts();
            generation == tables.generation && then != 0 && then + u64::from(period) >= tables.now
        };
        let flows = tables.flows();
        let verified = flows
            .iter()
            .filter(|(_, flow)| flow.directions.iter().all(is_verified));
        Self(verified.map(|(key, _)| *key).collect())
    }

    /// What passes beneath the stack is of one of them, and what the stack is to verify bears a mark.
    /// Decided upon once more, it gets the same: by the way that is known now.
    pub(super) fn allow(&self, run: &Run, verdict: &Verdict) {
        let is_on = run
            .tables
            .config
            .is_some_and(|config| config.flags & flags::ESTABLISHED != 0);
        let is_entry = matches!(run.case.hook, Hook::FromWorkload | Hook::FromUplink);
        let is_asked = matches!(verdict.reason(), Reason::NotEstablished | Reason::Reverify);
        if is_entry {
            assert!(is_asked || verdict.mark() == 0, "{verdict:?}");
            // An acknowledgement begins no flow, and then bears none.
        } else {
            let may_bear = is_on && verdict.reason() == Reason::Accepted;
            assert!(verdict.mark() == 0 || may_bear, "{verdict:?}");
        }
        if !is_on {
            assert!(run.tables.flows().is_empty(), "learned, though not asked");
            return;
        }
        let is_carried = match verdict {
            // Without a carrier XDP has asked.
            Verdict::Deliver(_, Arrival::TakenOut(_)) => run.config().carrier != 0,
            Verdict::Deliver(..) => true,
            Verdict::Send(_) => is_entry,
            _ => false,
        };
        if is_carried {
            let packet = &run.before[inner(verdict)..];
            let key = key(packet).expect("carried, though of no flow");
            assert!(self.0.contains(&key), "not verified: {key:?}");
        }
        let Decision::Traffic(again) = run.case.decide(run.tables, run.around) else {
            panic!("from traffic control to XDP")
        };
        // What answers a SYN begins the flow anew, and then bears another mark.
        if verdict.mark() == 0 {
            assert_eq!(again, *verdict, "the second time");
        } else {
            assert_eq!(again.reason(), verdict.reason(), "the second time");
            assert_ne!(again.mark(), 0, "the second time");
        }
    }
}

/// Where the packet is that is carried.
fn inner(verdict: &Verdict) -> usize {
    let Verdict::Deliver(_, Arrival::Tunnelled(decap)) = verdict else {
        return ETHERNET;
    };
    match decap.tunnel {
        Tunnel::Ipip => ETHERNET + 20,
        Tunnel::Vxlan => ETHERNET + 50,
    }
}

/// The flow of a packet that goes on with one; of no other.
fn key(packet: &[u8]) -> Option<FlowKey> {
    const SCTP: IpNumber = IpNumber(132);
    let (header, _) = Ipv4Header::from_slice(packet).ok()?;
    let transport = packet.get(20..)?;
    let ports = |at: usize| -> Option<[u8; 2]> { transport.get(at..at + 2)?.try_into().ok() };
    let is_up = header.source < header.destination;
    let (from, to, asker) = match header.protocol {
        IpNumber::TCP => {
            // Whatever its length says: its flags tell.
            let mut fixed: [u8; 20] = transport.get(..20)?.try_into().ok()?;
            fixed[12] = 0x50;
            let (tcp, _) = TcpHeader::from_slice(&fixed).ok()?;
            assert!(!tcp.syn && !tcp.fin && !tcp.rst, "carried: {tcp:?}");
            (ports(0)?, ports(2)?, Asker::Either)
        }
        IpNumber::UDP => (ports(0)?, ports(2)?, Asker::Either),
        SCTP => {
            let chunk = *transport.get(12)?;
            assert!([0, 3].contains(&chunk), "carried: chunk {chunk}");
            (ports(0)?, ports(2)?, Asker::Either)
        }
        IpNumber::ICMP => {
            let asks = match (transport.first()?, transport.get(1)?) {
                (8, 0) => true,
                (0, 0) => false,
                _ => return None,
            };
            let asker = if asks == is_up {
                Asker::Lower
            } else {
                Asker::Higher
            };
            (ports(4)?, ports(4)?, asker)
        }
        _ => return None,
    };
    let (lower, higher, lower_port, higher_port) = if is_up {
        (header.source, header.destination, from, to)
    } else {
        (header.destination, header.source, to, from)
    };
    Some(FlowKey {
        lower,
        higher,
        lower_port,
        higher_port,
        protocol: header.protocol.0,
        asker: asker as u8,
        padding: [0; 2],
    })
}
