//! The device that the agent makes where the routes come from a cluster file, and the VXLAN devices that
//! it uses where they are the kernel's.

use anyhow::Result;

use super::{Finding, node::Node, words::some_of};
use crate::{
    config::Config,
    kernel::{CARRIER_NAME, Link, check_carrier},
};

pub(super) struct Facts {
    /// Whether the carrier can be had, where there is to be one.
    carrier: Option<Result<()>>,
    port: u16,
    /// The kernel's VXLAN devices, in the order of their indexes, without the carrier.
    vxlans: Vec<Link>,
}

pub(super) fn read(config: &Config, node: &Node) -> Facts {
    let port = config.tunnel.vxlan.port;
    let links = node.links.iter();
    let vxlans = links.filter(|link| link.up && link.vxlan.is_some() && link.name != CARRIER_NAME);
    Facts {
        carrier: node
            .has_carrier
            .then(|| check_carrier(CARRIER_NAME, port, &node.links)),
        port,
        vxlans: vxlans.cloned().collect(),
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    const SUBJECT: &str = "carrier";
    vec![match &facts.carrier {
        Some(Ok(())) => Finding::ok(SUBJECT, format!("UDP port {} is free for it", facts.port)),
        Some(Err(error)) => Finding::refused(SUBJECT, "cannot be had", error)
            .remedy("or `source: kernel`, with which there is none"),
        None => vxlans(&facts.vxlans),
    }]
}

/// One network is carried.
fn vxlans(devices: &[Link]) -> Finding {
    const SUBJECT: &str = "VXLAN";
    match devices {
        [] => Finding::ok(SUBJECT, "no device"),
        [device] => Finding::ok(SUBJECT, &device.name),
        [first, others @ ..] => {
            let names = some_of(devices.iter().map(|device| &*device.name));
            let others = some_of(others.iter().map(|device| &*device.name));
            Finding::warning(SUBJECT, names)
                .means(format!(
                    "one VXLAN network is carried, that of {}; what goes by {others} is the stack's",
                    first.name
                ))
                .remedy("nothing, if that is the pods'; else remove what nobody uses any more")
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{Fails, Ok as Fine, Warning};

    fn judged(carrier: Option<Result<()>>, vxlans: &[&str]) -> Finding {
        let vxlans = vxlans.iter().map(|name| Link {
            name: (*name).to_owned(),
            ..Link::default()
        });
        let facts = Facts {
            carrier,
            port: 4789,
            vxlans: vxlans.collect(),
        };
        judge(&facts).remove(0)
    }

    #[test]
    fn a_carrier_needs_its_port() {
        assert_eq!(judged(Some(Ok(())), &["vxlan.other"]).result, Fine);
        let taken = judged(Some(Err(anyhow!("UDP port 4789 is held"))), &[]);
        assert_eq!(taken.result, Fails);
        assert_eq!(taken.meaning.as_deref(), Some("UDP port 4789 is held"));
    }

    #[test]
    fn of_several_vxlan_devices_one_is_used() {
        assert_eq!(judged(None, &[]).result, Fine);
        assert_eq!(judged(None, &["flannel.1"]).result, Fine);
        let two = judged(None, &["vxlan.calico", "flannel.1"]);
        assert_eq!(two.result, Warning);
        assert!(two.meaning.unwrap().contains("that of vxlan.calico"));
    }
}
