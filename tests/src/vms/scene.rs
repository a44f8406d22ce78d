//! Two nodes, and who opens tunnels on the one that receives.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Load, Received, loads::TakenOut};
use crate::{
    Agent, Counters, Mode, Pair, PingOptions, Side,
    calico::{be_a_calico_node, route_by_ipip, route_by_vxlan},
    ping,
};

/// Who takes packets out of their tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// The kernel's own tunnel device, as Calico sets it up.
    Kernel,
    /// underpass on traffic control.
    Tc,
    /// underpass by XDP in the driver.
    Xdp,
}

impl Opener {
    /// Every one, baselines before what is compared with them.
    pub(super) const ALL: [Self; 3] = [Self::Kernel, Self::Tc, Self::Xdp];

    /// What `ip link` says of a device with an XDP program, where there is to be one.
    fn word_of_link(self) -> Option<&'static str> {
        match self {
            Self::Kernel | Self::Tc => None,
            Self::Xdp => Some("xdp"),
        }
    }
}

impl fmt::Display for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Kernel => "kernel",
            Self::Tc => "TC",
            Self::Xdp => "XDP",
        })
    }
}

/// This machine's part of the two.
pub(super) struct Scene {
    pair: Pair,
    mode: Mode,
    opener: Opener,
    _agent: Option<Agent>,
}

impl Scene {
    /// Makes this machine's node, and waits until pods of both reach one another.
    pub(super) fn begin(mode: Mode, opener: Opener) -> Result<Self> {
        let pair = Pair::join(1)?;
        let agent = match (pair.side(), opener) {
            (Side::Left, _) | (Side::Right, Opener::Tc) => {
                Some(pair.start_agent(mode, "xdp: off\n")?)
            }
            (Side::Right, Opener::Xdp) => Some(pair.start_agent(mode, "xdp: native\n")?),
            (Side::Right, Opener::Kernel) => {
                route_by_kernel(&pair, mode)?;
                None
            }
        };
        let scene = Self {
            pair,
            mode,
            opener,
            _agent: agent,
        };
        scene.check_link()?;
        scene.pair.meet("the nodes are ready")?;
        if scene.side() == Side::Left {
            let (pod, remote) = (scene.pair.node().pod("p0"), scene.pair.remote_pod("p0"));
            let report = ping(pod.ns(), remote, &PingOptions::default())?;
            ensure!(report.received > 0, "the pods do not talk: {report:?}");
        }
        scene.pair.meet("the pods talk")?;
        Ok(scene)
    }

    /// Which side this machine is.
    pub(super) fn side(&self) -> Side {
        self.pair.side()
    }

    /// Puts a load on both nodes for so long. The side that receives it returns what came, and fails
    /// unless it was opened by whom it was to be.
    pub(super) fn measure(&self, load: Load, duration: Duration) -> Result<Option<Received>> {
        let what = || format!("{load:?} by {}, {}", self.mode, self.opener);
        match self.side() {
            Side::Left => {
                load.send(&self.pair, duration).with_context(what)?;
                Ok(None)
            }
            Side::Right => self.receive(load).with_context(what).map(Some),
        }
    }

    fn receive(&self, load: Load) -> Result<Received> {
        let node = self.pair.node();
        if self.opener == Opener::Kernel {
            return load.receive(&self.pair);
        }
        let before = Counters::read(node)?;
        let received = load.receive(&self.pair)?;
        let counted = Counters::read(node)?.since(&before);
        let taken_out = self.taken_out(&counted)?;
        Ok(Received {
            taken_out: Some(taken_out),
            ..received
        })
    }

    /// How many packets XDP took out of how many: nearly all, or none.
    fn taken_out(&self, counted: &Counters) -> Result<TakenOut> {
        let by_xdp = counted.get("xdp_uplink", "taken-out").packets;
        let seen = match self.opener {
            Opener::Xdp => counted.at("xdp_uplink").packets,
            Opener::Tc | Opener::Kernel => counted.at("from_uplink").packets,
        };
        let word = if self.mode == Mode::Ipip {
            "ipip"
        } else {
            "vxlan"
        };
        let received = counted.get("from_uplink", &format!("received-{word}"));
        let is_as_it_was_to_be = match self.opener {
            Opener::Xdp => by_xdp * 10 > seen * 9,
            Opener::Tc | Opener::Kernel => by_xdp == 0,
        };
        ensure!(
            is_as_it_was_to_be && seen > 100 && received.packets > 0,
            "XDP took {by_xdp} of {seen} packets out: {counted:?}"
        );
        Ok(TakenOut { by_xdp, seen })
    }

    /// Fails unless the driver runs XDP where it is to, and nowhere else.
    fn check_link(&self) -> Result<()> {
        let expected = match self.side() {
            Side::Left => None,
            Side::Right => self.opener.word_of_link(),
        };
        let link = self.pair.node().ns().exec("ip link show dev eth0")?;
        let mut words = link.split_whitespace();
        let word = words.find(|word| word.starts_with("xdp"));
        ensure!(word == expected, "eth0 is to have {expected:?}: {link}");
        Ok(())
    }
}

/// Has the kernel open tunnels, and send what goes back.
fn route_by_kernel(pair: &Pair, mode: Mode) -> Result<()> {
    let (node, remote) = (pair.node(), pair.remote_node());
    be_a_calico_node(node)?;
    match mode {
        Mode::Ipip => route_by_ipip(node, remote),
        Mode::Vxlan => route_by_vxlan(node, remote, "noudpcsum"),
        Mode::None | Mode::CrossSubnet => bail!("{mode} opens no tunnels"),
    }
}
