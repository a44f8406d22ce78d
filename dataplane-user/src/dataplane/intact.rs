//! Whether what the agent has made still is there.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::SchedClassifier;
use dataplane_common::abi::maps;

use super::{Attachment, Pins, attach::side, attached, clsact};
use crate::kernel::{Netlink, interface_name};

/// Checks that the maps are pinned, and that the programs are where they have been attached.
///
/// # Errors
///
/// Somebody else has removed what is missing.
pub async fn check_intact(pins: &Pins, programs: &BTreeSet<Attachment>) -> Result<()> {
    for name in maps::ALL {
        let pin = pins.map(name);
        ensure!(
            pin.exists(),
            "the map {} is not pinned any more: somebody has removed it; restart the agent",
            pin.display()
        );
    }
    let attached = attached(pins)?;
    let (netlink, _events) = Netlink::connect()?;
    for program in programs {
        // What is attached to an interface goes with it, before the agent hears of that.
        let Some(interface) = interface_name(program.ifindex) else {
            continue;
        };
        let way = attached
            .iter()
            .find(|there| (there.ifindex, there.hook) == (program.ifindex, program.hook));
        let is_on = match way.map(|there| there.way) {
            None => false,
            Some("tcx") => is_on_tcx(&interface, program)?,
            Some(_) => clsact::is_on(&netlink, program).await?,
        };
        if !is_on {
            bail!("{program} is gone: somebody has taken it off; restart the agent");
        }
    }
    Ok(())
}

/// `interface` is what the interface is called now.
fn is_on_tcx(interface: &str, attachment: &Attachment) -> Result<bool> {
    let (_, programs) = SchedClassifier::query_tcx(interface, side(attachment.hook))
        .with_context(|| format!("cannot ask which programs are on {interface}"))?;
    Ok(programs
        .iter()
        .any(|program| program.name_as_str() == Some(attachment.hook.name())))
}
