//! What this kernel can do, found out by trying: distributions give old versions new features.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use dataplane_common::abi::{maps, probes};
use nix::time::{ClockId, clock_getres, clock_gettime};
use tracing::debug;

use super::{jiffies::Jiffies, load::verify};

/// An IPv4 packet that ends behind its TCP header, in an Ethernet frame: what is tried on does not
/// look at the rest.
const FRAME: [u8; 54] = {
    let mut frame = [0; 54];
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame[17] = 40;
    frame[23] = 6;
    frame
};

/// What this kernel can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    /// Whether `bpf_skb_adjust_room` takes the flag that says that an inner Ethernet header follows
    /// (5.13 and later).
    pub(super) knows_inner_ethernet: bool,
    /// Whether the kernel can be told that a packet has left its tunnel (7.x).
    pub(super) forgets_tunnels: bool,
    /// How the jiffies follow `CLOCK_MONOTONIC`.
    pub(super) jiffies: Jiffies,
}

/// Loads the object, with maps of its own as small as can be, and runs what is there to be tried.
pub(super) fn abilities(object: &[u8]) -> Result<Abilities> {
    let mut loader = EbpfLoader::new();
    for map in maps::ALL {
        loader.map_max_entries(map, 1);
    }
    let mut ebpf = loader.load(object).context(
        "cannot create the BPF maps: underpass needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN)",
    )?;
    let abilities = Abilities {
        knows_inner_ethernet: run(&mut ebpf, probes::VXLAN_ROOM)? == 0,
        forgets_tunnels: run(&mut ebpf, probes::NEXT_TUNNEL)? == 0,
        jiffies: jiffies(&mut ebpf)?,
    };
    if !abilities.knows_inner_ethernet {
        debug!("no BPF_F_ADJ_ROOM_ENCAP_L2_ETH here: VXLAN is segmented in software");
    }
    if !abilities.forgets_tunnels {
        debug!("no BPF_F_ADJ_ROOM_DECAP_L4_UDP here: what goes from tunnel to tunnel is cut up");
    }
    Ok(abilities)
}

/// The coarse clock is as fine as a jiffy is long.
fn jiffies(ebpf: &mut Ebpf) -> Result<Jiffies> {
    let length = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("cannot find out how often the timer interrupts")?;
    let low = run(ebpf, probes::JIFFIES)?;
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(Jiffies::new(length.tv_nsec().try_into()?, low, now.into()))
}

/// Loads one program, and returns what it returns.
fn run(ebpf: &mut Ebpf, name: &str) -> Result<u32> {
    let program = program(ebpf, name)?;
    verify(|| program.load())
        .with_context(|| format!("the kernel refused the BPF program {name}"))?;
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&FRAME),
            ..TestRunOptions::default()
        })
        .with_context(|| format!("cannot run the BPF program {name}"))?;
    Ok(result.return_value)
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    ebpf.program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?
        .try_into()
        .with_context(|| format!("the BPF program {name} is not a TC classifier"))
}
