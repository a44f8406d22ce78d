//! The BPF programs held against the host's implementation of them, packet by packet.

mod maps;
mod report;

use std::{net::Ipv4Addr, ops::RangeInclusive};

use anyhow::{Result, bail, ensure};
use dataplane_common::{
    abi::{Counter, Hook, taken_out_mark},
    decide::{Origin, Verdict},
    memory::{MemoryPacket, MemoryTables},
    reason::{Action, Reason},
};
use dataplane_fuzz::{Case, Decision, Interface, Surroundings, packets};

use crate::{
    Mac, Node,
    programs::{
        Context, DROPPED, Programs, REDIRECTED, TO_STACK, XDP_DROPPED, XDP_PASSED,
        test_runs_show_metadata,
    },
};
use maps::{Counted, Maps};

/// Frames that `BPF_PROG_TEST_RUN` takes: an Ethernet header at the least, and not more than fits
/// into a page beside what a socket buffer needs.
const LENGTHS: RangeInclusive<usize> = 14..=3500;

/// A firewall mark, which what a pod gets has lost.
const MARK: u32 = 0x5ca1_ab1e;

/// What became of a packet, here or there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    action: i32,
    mark: u32,
    bytes: Vec<u8>,
    counted: Vec<Counted>,
}

/// The programs on a node without an agent, whose maps and interfaces are ours.
pub struct Differential {
    programs: Programs,
    maps: Maps,
    around: Surroundings,
    tables: MemoryTables,
    /// Whether the kernel shows what XDP has marked.
    shows_metadata: bool,
}

impl Differential {
    /// Loads the programs for `node`, where no agent runs.
    pub fn new(node: &Node) -> Result<Self> {
        let around = surroundings(node)?;
        Ok(Self {
            programs: Programs::load(node)?,
            maps: Maps::open(node)?,
            around,
            tables: MemoryTables::default(),
            shows_metadata: test_runs_show_metadata()?,
        })
    }

    /// The node, to make cases for.
    #[must_use]
    pub fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Replaces what both know.
    pub fn set_tables(&mut self, tables: MemoryTables) -> Result<()> {
        self.maps.replace(&self.tables, &tables)?;
        self.tables = tables;
        Ok(())
    }

    /// Has both treat a packet, which has to come out the same: where it goes, its bytes, and what
    /// is counted. Returns what it was counted as, or nothing if the kernel does not take it.
    ///
    /// # Errors
    ///
    /// Something differs; the error has all there is to know.
    pub fn compare(&mut self, case: &Case) -> Result<Option<Reason>> {
        if !LENGTHS.contains(&case.packet.bytes.len()) {
            return Ok(None);
        }
        let [here, there] = match self.by_both(case)? {
            None => return Ok(None),
            Some([here, there]) if here == there => return Ok(Some(here.counted[0].reason)),
            Some(both) => both,
        };
        let smaller = report::shrunk(case, |case| {
            let both = self.by_both(case)?;
            Ok(both.is_some_and(|[here, there]| here != there))
        })?;
        let [here, there] = self.by_both(&smaller)?.unwrap_or([here, there]);
        bail!(report::difference(
            &self.tables,
            case,
            &smaller,
            &here,
            &there
        ))
    }

    /// That nothing was counted beside what [`Differential::compare`] has seen.
    pub fn compare_counters(&mut self) -> Result<()> {
        let others = self.maps.counted()?;
        ensure!(others.is_empty(), "counted besides: {others:?}");
        Ok(())
    }

    /// What host and program do, or nothing if the kernel refuses the packet.
    fn by_both(&mut self, case: &Case) -> Result<Option<[Done; 2]>> {
        let mut case = as_in_test_run(case, &self.around);
        case.packet.forgets_tunnels = self.programs.forgets_tunnels();
        let (reason, here) = self.by_host(&case);
        match self.by_program(&case, reason) {
            Ok(there) => Ok(Some([here, there])),
            Err(_) if may_be_refused(&case.packet.bytes) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the host does, and as what it is counted.
    fn by_host(&self, case: &Case) -> (Reason, Done) {
        let decision = case.decide(&self.tables, &self.around);
        let mut packet = case.packet.clone();
        let outcome = decision.carry_out(&mut packet, &self.tables);
        let is_delivered = matches!(decision, Decision::Traffic(Verdict::Deliver(..)))
            && outcome.action == Action::Forward;
        let is_xdp = case.hook == Hook::XdpUplink;
        let done = Done {
            action: match outcome.action {
                Action::Stack if is_xdp => XDP_PASSED,
                Action::Drop if is_xdp => XDP_DROPPED,
                Action::Forward => REDIRECTED,
                Action::Stack => TO_STACK,
                Action::Drop => DROPPED,
            },
            mark: if is_delivered || is_xdp { 0 } else { MARK },
            bytes: match packet.taken_out_of {
                Some(tunnel) if self.shows_metadata => {
                    [&taken_out_mark(tunnel)[..], &packet.bytes].concat()
                }
                _ => packet.bytes,
            },
            counted: vec![Counted {
                hook: case.hook,
                reason: outcome.reason,
                counter: Counter {
                    packets: 1,
                    bytes: case.packet.bytes.len() as u64,
                },
            }],
        };
        (outcome.reason, done)
    }

    /// What the program does, which is `likely` counted as that.
    fn by_program(&mut self, case: &Case, likely: Reason) -> Result<Done> {
        let MemoryPacket {
            bytes, gso_size, ..
        } = &case.packet;
        let ran = match case.hook {
            Hook::XdpUplink => self.programs.run_xdp(bytes)?,
            hook => {
                let context = Context {
                    ifindex: case.ifindex,
                    gso_size: *gso_size,
                    mark: MARK,
                };
                self.programs.run_in(hook, context, bytes)?
            }
        };
        Ok(Done {
            action: ran.action,
            mark: ran.mark,
            bytes: ran.frame,
            counted: self.maps.counted_as(case.hook, likely)?,
        })
    }
}

/// The case as the kernel puts it together for `BPF_PROG_TEST_RUN`, which cannot vary:
///
/// - VLAN tags, tunnel metadata and the mark of what XDP has taken out: there are none, so that on the
///   carrier everything seems to come from a program;
/// - checksums: none is verified, so that they count as such only on what is offloaded;
/// - the kind of an offload: there is none beside the size, so that the kernel, which changes only
///   what is offloaded TCP or UDP, makes no room in such packets;
/// - pages: everything is in the first one;
/// - where a redirect leads: it is never followed.
///
/// A copy that a program sends is sent, though, which fails for an offload of no kind: ARP gets none.
fn as_in_test_run(case: &Case, around: &Surroundings) -> Case {
    let bytes = case.packet.bytes.clone();
    if case.hook == Hook::XdpUplink {
        return Case {
            packet: packets::in_frame(bytes),
            ..*case
        };
    }
    let interface = around.interface(case.ifindex);
    let is_arp = bytes[12..14] == [0x08, 0x06];
    let gso_size = if is_arp { 0 } else { case.packet.gso_size };
    Case {
        origin: Origin::Program,
        packet: MemoryPacket {
            to_interface: interface.is_some_and(|interface| bytes[..6] == interface.mac),
            gso_size,
            checksum_verified: gso_size != 0,
            makes_room: gso_size == 0,
            ..MemoryPacket::new(bytes)
        },
        ..*case
    }
}

/// Whether the kernel refuses a frame as too short for what its type says, as it does since "bpf:
/// reject short IPv4/IPv6 inputs in `bpf_prog_test_run_skb`" (April 2026).
fn may_be_refused(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.len() < 14 + 20,
        [0x86, 0xdd] => frame.len() < 14 + 40,
        _ => false,
    }
}

/// The interfaces of `node`, and two addresses on its subnet, of which it is told where one is.
fn surroundings(node: &Node) -> Result<Surroundings> {
    let index =
        |name: &str| -> Result<u32> { node.ns().run(|| Ok(nix::net::if_::if_nametoindex(name)?)) };
    let [a, b, c, d] = node.address().addr().octets();
    let (resolved, unresolved) = ([a, b, c, d + 1], [a, b, c, d + 2]);
    let neighbour = Ipv4Addr::from(resolved);
    node.ns().exec(&format!(
        "ip neigh replace {neighbour} lladdr 02:00:00:00:00:01 nud permanent dev eth0"
    ))?;
    let workloads = node.pods().iter().map(|pod| {
        Ok(Interface {
            index: index(pod.host_ifname())?,
            mac: Mac::CALICO.0,
        })
    });
    Ok(Surroundings {
        uplink: Interface {
            index: index("eth0")?,
            mac: node.mac().0,
        },
        workloads: workloads.collect::<Result<_>>()?,
        resolved,
        unresolved,
    })
}
