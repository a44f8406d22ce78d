//! XDP on the uplinks, as far as can be told without attaching it.

use anyhow::Result;

use super::{Finding, node::Node, others::Other};
use crate::{
    config::{Config, Xdp},
    dataplane::{Side, WhyOff, XdpMode},
    kernel::has_native_xdp,
    plan,
};

pub(super) struct Facts {
    interface: String,
    wanted: Result<XdpMode, WhyOff>,
    /// Whether the configuration asks for this mode, not for the best there is.
    is_asked_for: bool,
    /// Whether the driver has native XDP; `None` where the kernel does not tell.
    native: Result<Option<bool>>,
    /// The program of somebody else's that is there.
    taken: Option<String>,
}

pub(super) async fn read(config: &Config, node: &Node, others: &Result<Vec<Other>>) -> Vec<Facts> {
    let uplinks: Vec<_> = node.uplinks.iter().collect();
    let others = others.as_deref().unwrap_or_default();
    let mut facts = Vec::new();
    for uplink in plan::xdp(config, &uplinks) {
        let mut others = others.iter();
        let taken = others
            .find(|other| other.interface == uplink.interface && other.side == Side::Xdp)
            .map(|other| other.name.clone());
        facts.push(Facts {
            native: has_native_xdp(uplink.ifindex).await,
            interface: uplink.interface,
            wanted: uplink.wanted,
            is_asked_for: config.xdp != Xdp::Auto,
            taken,
        });
    }
    facts
}

pub(super) fn judge(uplinks: &[Facts]) -> Vec<Finding> {
    uplinks.iter().map(uplink).collect()
}

fn uplink(facts: &Facts) -> Finding {
    let subject = format!("XDP on {}", facts.interface);
    let off = |why: WhyOff| format!("tunnels are opened on traffic control: {why}");
    let mode = match facts.wanted {
        Ok(mode) => mode,
        Err(why) => return Finding::ok(subject, "off").means(why.to_string()),
    };
    if let Some(program) = &facts.taken {
        return Finding::warning(subject, format!("taken by {program}"))
            .means(off(WhyOff::Refused(libc::EBUSY)))
            .remedy(format!(
                "if it is of no use any more, ip link set {} xdp off; else `xdp: off`",
                facts.interface
            ));
    }
    match (mode, &facts.native) {
        (XdpMode::Generic, _) => Finding::ok(subject, "generic"),
        (XdpMode::Native, Ok(Some(true))) => Finding::ok(subject, "native"),
        (XdpMode::Native, Ok(Some(false))) => {
            let why = off(WhyOff::Refused(libc::EOPNOTSUPP));
            if facts.is_asked_for {
                Finding::warning(subject, "off").means(why).remedy("`xdp: auto`")
            } else {
                Finding::ok(subject, "off").means(why)
            }
        }
        (XdpMode::Native, Ok(None)) => Finding::ok(subject, "not known").means(
            "kernels before 6.3 do not tell what a driver can: the agent tries, and takes a refusal for \
             an answer",
        ),
        (XdpMode::Native, Err(error)) => Finding::unknown(subject, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome::{Ok as Fine, Warning};

    fn native(native: Option<bool>) -> Facts {
        Facts {
            interface: "eth0".to_owned(),
            wanted: Ok(XdpMode::Native),
            is_asked_for: false,
            native: Ok(native),
            taken: None,
        }
    }

    fn said(facts: Facts) -> (crate::check::Outcome, String) {
        let finding = judge(&[facts]).remove(0);
        (finding.result, finding.found)
    }

    #[test]
    fn what_the_driver_can_do_is_told_where_the_kernel_tells() {
        assert_eq!(said(native(Some(true))), (Fine, "native".to_owned()));
        assert_eq!(said(native(Some(false))), (Fine, "off".to_owned()));
        assert_eq!(said(native(None)), (Fine, "not known".to_owned()));
        let asked_for = Facts {
            is_asked_for: true,
            ..native(Some(false))
        };
        assert_eq!(said(asked_for), (Warning, "off".to_owned()));
    }

    #[test]
    fn what_is_off_by_design_is_fine() {
        for why in [WhyOff::Veth, WhyOff::Configured] {
            let facts = Facts {
                wanted: Err(why),
                ..native(Some(true))
            };
            assert_eq!(said(facts), (Fine, "off".to_owned()));
        }
    }

    #[test]
    fn a_place_that_is_taken_is_told_with_whose_it_is() {
        let facts = Facts {
            taken: Some("count".to_owned()),
            ..native(Some(true))
        };
        assert_eq!(said(facts), (Warning, "taken by count".to_owned()));
    }
}
