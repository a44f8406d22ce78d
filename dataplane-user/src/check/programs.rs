//! Whether the kernel takes the programs, and what it lacks that they would use.

use anyhow::Result;
use dataplane_common::abi::Hook;

use super::Finding;
use crate::dataplane::{Trial, Way};

pub(super) fn judge(trial: Result<Trial>) -> Vec<Finding> {
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => return vec![Finding::refused("BPF programs", "not loaded", &error)],
    };
    let mut findings = verified(&trial);
    if !trial.verified.is_empty() {
        findings.push(compiled(trial.is_compiled));
    }
    findings.extend(trial.way.map(attached));
    findings.push(vxlan_room(trial.knows_inner_ethernet));
    findings.push(next_tunnel(trial.forgets_tunnels));
    findings
}

fn verified(trial: &Trial) -> Vec<Finding> {
    let refused = trial.refused.iter().map(|(hook, error)| {
        Finding::refused(format!("BPF program {}", hook.name()), "refused", error)
            .remedy("report it with `underpass bugtool`, or boot a kernel that there are tests for")
    });
    let count = format!("{} of {} verified", trial.verified.len(), Hook::ALL.len());
    let verified = (!trial.verified.is_empty()).then(|| Finding::ok("BPF programs", count));
    verified.into_iter().chain(refused).collect()
}

fn compiled(is_compiled: bool) -> Finding {
    const SUBJECT: &str = "BPF JIT";
    if is_compiled {
        return Finding::ok(SUBJECT, "on");
    }
    Finding::warning(SUBJECT, "off")
        .means("programs are interpreted: every packet takes several times as long")
        .remedy("sysctl -w net.core.bpf_jit_enable=1")
}

fn attached(way: Result<Way>) -> Finding {
    const SUBJECT: &str = "attachment";
    match way {
        Ok(Way::Tcx) => Finding::ok(SUBJECT, "tcx"),
        Ok(Way::Clsact) => {
            Finding::ok(SUBJECT, "clsact").means("programs are filters on a clsact qdisc")
        }
        Err(error) => Finding::refused(SUBJECT, "refused", &error)
            .remedy("`attach: auto`, on a kernel with tcx (6.6) or with sch_ingress and cls_bpf"),
    }
}

fn vxlan_room(knows_inner_ethernet: bool) -> Finding {
    const SUBJECT: &str = "VXLAN segmentation";
    if knows_inner_ethernet {
        return Finding::ok(SUBJECT, "by devices");
    }
    Finding::warning(SUBJECT, "in software")
        .means(
            "no BPF_F_ADJ_ROOM_ENCAP_L2_ETH (before 5.13): VXLAN is segmented and checksummed in \
             software, before the uplink",
        )
        .remedy("a newer kernel, where VXLAN has to be fast")
}

fn next_tunnel(forgets_tunnels: bool) -> Finding {
    const SUBJECT: &str = "tunnel to tunnel";
    if forgets_tunnels {
        return Finding::ok(SUBJECT, "whole");
    }
    Finding::ok(SUBJECT, "cut up").means(
        "no BPF_F_ADJ_ROOM_DECAP_L4_UDP (before 7.3): aggregates that go from one tunnel into the next \
         are cut up by the kernel, and aggregated UDP in VXLAN is opened by it",
    )
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{self, Fails, Ok as Fine, Warning};

    fn good() -> Trial {
        Trial {
            knows_inner_ethernet: true,
            forgets_tunnels: true,
            verified: Hook::ALL.to_vec(),
            refused: Vec::new(),
            is_compiled: true,
            way: Some(Ok(Way::Tcx)),
        }
    }

    fn worst(trial: Trial) -> (String, Outcome) {
        let findings = judge(Ok(trial)).into_iter();
        let worst = findings.max_by_key(|finding| finding.result).unwrap();
        (worst.subject, worst.result)
    }

    #[test]
    fn a_kernel_with_everything_is_fine() {
        assert_eq!(worst(good()).1, Fine);
        let old = Trial {
            forgets_tunnels: false,
            way: Some(Ok(Way::Clsact)),
            ..good()
        };
        assert_eq!(worst(old).1, Fine);
    }

    #[test]
    fn a_program_that_is_refused_is_named() {
        let trial = Trial {
            verified: vec![Hook::FromStack],
            refused: vec![(Hook::FromUplink, anyhow!("too complex"))],
            ..good()
        };
        assert_eq!(worst(trial), ("BPF program from_uplink".to_owned(), Fails));
    }

    #[test]
    fn what_is_slower_is_a_warning() {
        let interpreted = Trial {
            is_compiled: false,
            ..good()
        };
        assert_eq!(worst(interpreted), ("BPF JIT".to_owned(), Warning));
        let old = Trial {
            knows_inner_ethernet: false,
            ..good()
        };
        assert_eq!(worst(old), ("VXLAN segmentation".to_owned(), Warning));
    }

    #[test]
    fn what_cannot_be_loaded_or_attached_fails() {
        let unattached = Trial {
            way: Some(Err(anyhow!("no tcx"))),
            ..good()
        };
        assert_eq!(worst(unattached), ("attachment".to_owned(), Fails));
        let findings = judge(Err(anyhow!("cannot create the BPF maps")));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].result, Fails);
    }
}
