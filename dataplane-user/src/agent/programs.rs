//! The programs on their interfaces.

use std::collections::BTreeSet;

use anyhow::Result;
use dataplane_common::abi::Hook;
use tracing::{info, warn};

use crate::{
    config::Config,
    dataplane::{
        self, Attachment, Attachments, Dataplane, Pins, WhyOff, XdpLinks, XdpState, XdpUplink,
    },
    kernel::Netlink,
};

/// The loaded programs, and where they are attached.
pub(super) struct Programs {
    dataplane: Dataplane,
    attachments: Attachments,
    xdp: XdpLinks,
    pins: Pins,
    is_established: bool,
}

impl Programs {
    /// Takes over what another version has attached, and loads the programs.
    pub(super) fn load(config: &Config, pins: &Pins) -> Result<Self> {
        dataplane::adopt(pins)?;
        let mut dataplane = dataplane::load(pins)?;
        dataplane.forward_logs()?;
        Ok(Self {
            dataplane,
            attachments: Attachments::new(pins.clone(), config.attach),
            xdp: XdpLinks::new(pins.clone()),
            pins: pins.clone(),
            is_established: config.is_established(),
        })
    }

    /// Whether a program of ours is attached there.
    pub(super) fn are_on(&self, ifindex: u32, hooks: &[Hook]) -> bool {
        hooks
            .iter()
            .all(|hook| self.attachments.has(ifindex, *hook))
    }

    /// Attaches what is wanted, and takes off what is not. Connection tracking is as the programs
    /// need it for as long as they may be there.
    pub(super) async fn attach(
        &mut self,
        netlink: &Netlink,
        attachments: &BTreeSet<Attachment>,
        xdp: &BTreeSet<XdpUplink>,
    ) -> Result<()> {
        if self.is_established {
            dataplane::set_sysctls(&self.pins)?;
        }
        let taken_off = self.xdp.keep_only(xdp)?;
        netlink.wait_without_xdp(&taken_off).await?;
        let tc = self.attach_to_tc(attachments);
        let xdp = self.attach_to_xdp(xdp);
        tc.and(xdp)?;
        if !self.is_established {
            dataplane::restore_sysctls(&self.pins)?;
        }
        Ok(())
    }

    fn attach_to_tc(&mut self, attachments: &BTreeSet<Attachment>) -> Result<()> {
        let applied = self.attachments.apply(&mut self.dataplane, attachments);
        for attachment in &applied.attached {
            info!(
                interface = attachment.interface,
                "attached {}",
                attachment.hook.name()
            );
        }
        for name in &applied.detached {
            info!("detached {name}");
        }
        applied.errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Only where `from_uplink` is: it delivers what XDP takes out of tunnels.
    fn attach_to_xdp(&mut self, wanted: &BTreeSet<XdpUplink>) -> Result<()> {
        let has_next = |uplink: &&XdpUplink| self.attachments.has(uplink.ifindex, Hook::FromUplink);
        let uplinks = wanted.iter().filter(has_next).cloned().collect();
        for (uplink, state) in self.xdp.attach(&mut self.dataplane, &uplinks)? {
            let interface = uplink.interface;
            match state {
                XdpState::On(_) => info!(interface, "attached xdp_uplink, {}", state.name()),
                XdpState::Off(why @ WhyOff::Refused(_)) => {
                    warn!(
                        interface,
                        "no XDP, tunnels are opened on traffic control: {why}"
                    );
                }
                XdpState::Off(why) => info!(interface, "no XDP: {why}"),
            }
        }
        Ok(())
    }
}
