//! The programs that others have on uplinks and pods' interfaces.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::abi::Hook;

use super::{Finding, node::Node, words::some_of};
use crate::{
    dataplane::{self, LoadedPrograms, Pins, Side},
    kernel::{Link, Netlink},
};

/// A program that is not of these pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) interface: String,
    pub(super) is_uplink: bool,
    pub(super) side: Side,
    pub(super) name: String,
}

/// Whose a program is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Cilium,
    Calico,
    Underpass,
    Unknown,
}

pub(super) async fn read(pins: &Pins, node: &Node) -> Result<Vec<Other>> {
    let loaded = LoadedPrograms::read()?;
    let ours = if pins.exist() {
        dataplane::programs(pins)?
    } else {
        Vec::new()
    };
    let is_ours = |program: u32| ours.iter().any(|ours| ours.id() == program);
    let (netlink, _events) = Netlink::connect()?;
    let mut others = Vec::new();
    let uplinks = node.uplinks.iter().map(|link| (link, true));
    let workloads = node.workloads.iter().map(|link| (link, false));
    for (link, is_uplink) in uplinks.chain(workloads) {
        let Link { name, .. } = link;
        let programs = loaded.on(&netlink, link).await?.into_iter();
        let programs = programs.filter(|(_, program, _)| !is_ours(*program));
        others.extend(programs.map(|(side, _, program)| Other {
            interface: name.clone(),
            is_uplink,
            side,
            name: program,
        }));
    }
    Ok(others)
}

pub(super) fn judge(others: &Result<Vec<Other>>) -> Vec<Finding> {
    const SUBJECT: &str = "programs of others";
    let others = match others {
        Ok(others) => others,
        Err(error) => return vec![Finding::unknown(SUBJECT, error)],
    };
    // A node has hundreds of pods, all with the same.
    let mut groups: BTreeMap<_, Vec<&Other>> = BTreeMap::new();
    for other in others {
        let key = (other.name.as_str(), other.side, other.is_uplink);
        groups.entry(key).or_default().push(other);
    }
    if groups.is_empty() {
        return vec![Finding::ok(SUBJECT, "none")];
    }
    groups.values().map(|group| program(group)).collect()
}

/// A program, on all interfaces where it is.
fn program(group: &[&Other]) -> Finding {
    let Other {
        name,
        side,
        is_uplink,
        ..
    } = group[0];
    let interfaces = some_of(group.iter().map(|other| &*other.interface));
    let subject = format!("program {name}");
    let found = format!("{} of {interfaces}", side.name());
    match owner(name, *side) {
        Owner::Cilium => Finding::fails(subject, found)
            .means(
                "Cilium carries pods' packets from hook to hook itself, with its policy: underpass would \
                 see none of them, or take them from it",
            )
            .remedy("do not run underpass on this node"),
        Owner::Calico => Finding::fails(subject, found)
            .means(
                "Calico's own eBPF dataplane, which takes the place of netfilter and of underpass, and \
                 whose policy underpass would pass by",
            )
            .remedy("do not run underpass on this node, or switch Calico's off (`bpfEnabled: false`)"),
        Owner::Underpass => Finding::fails(subject, found)
            .means("another underpass, with other pins, carries packets here")
            .remedy("stop that agent, and `underpass detach` with its --pins"),
        Owner::Unknown if *side == Side::Egress && !is_uplink => Finding::warning(subject, found)
            .means(
                "what underpass carries goes straight into the pod's namespace and passes this program \
                 by: if it is for policy, that does not hold",
            )
            .remedy("find out whose it is (bpftool net); if it is for policy, do not run underpass here"),
        Owner::Unknown => Finding::warning(subject, found)
            .means(
                "what it drops or redirects underpass does not see, and where it answers TC_ACT_OK it \
                 takes the mark off by which flows are verified: they stay the stack's",
            )
            .remedy("find out whose it is (bpftool net), and whether it passes packets on"),
    }
}

fn owner(name: &str, side: Side) -> Owner {
    if name.starts_with("cil_") {
        Owner::Cilium
    } else if side != Side::Xdp && (name.starts_with("cali_") || name.starts_with("calico_")) {
        // In XDP Calico has programs beside netfilter, too.
        Owner::Calico
    } else if Hook::ALL.iter().any(|hook| hook.name() == name) {
        Owner::Underpass
    } else {
        Owner::Unknown
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{Fails, Ok as Fine, Warning};

    fn other(interface: &str, is_uplink: bool, side: Side, name: &str) -> Other {
        Other {
            interface: interface.to_owned(),
            is_uplink,
            side,
            name: name.to_owned(),
        }
    }

    #[test]
    fn those_that_would_be_passed_by_fail() {
        for (name, result) in [
            ("cil_from_container", Fails),
            ("cil_to_netdev", Fails),
            ("cali_tc_preambl", Fails),
            ("calico_tc_main", Fails),
            ("from_workload", Fails),
            ("handle_ingress", Warning),
        ] {
            let found = judge(&Ok(vec![other("eth0", true, Side::Ingress, name)]));
            assert_eq!((found.len(), found[0].result), (1, result), "{name}");
            assert!(found[0].subject.contains(name));
        }
        // Against floods, beside iptables.
        let found = judge(&Ok(vec![other("eth0", true, Side::Xdp, "cali_xdp_preamb")]));
        assert_eq!(found[0].result, Warning);
    }

    #[test]
    fn one_program_on_many_interfaces_is_one_finding() {
        let on = |interface, side| other(interface, false, side, "count");
        let found = judge(&Ok(vec![
            on("cali1", Side::Ingress),
            on("cali1", Side::Egress),
            on("cali2", Side::Ingress),
            on("cali2", Side::Egress),
        ]));
        let places: Vec<_> = found.iter().map(|finding| &*finding.found).collect();
        assert_eq!(
            places,
            ["ingress of cali1, cali2", "egress of cali1, cali2"]
        );
        let egress = found[1].meaning.as_ref().unwrap();
        assert!(egress.contains("passes this program by"), "{egress}");
    }

    #[test]
    fn none_is_fine_and_not_to_know_is_not() {
        assert_eq!(judge(&Ok(Vec::new()))[0].result, Fine);
        assert_eq!(judge(&Err(anyhow!("not root")))[0].result, Warning);
    }
}
