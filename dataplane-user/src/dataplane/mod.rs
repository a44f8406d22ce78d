//! The half that touches BPF: the object, its maps and programs, their pins and attachments.
//!
//! Invariant: everything is pinned below `<pins>/v<ABI version>`, so that the dataplane outlives
//! the agent, and nothing of another layout is ever reused.

mod addresses;
mod attach;
mod audit;
mod clock;
mod clsact;
mod described;
mod endpoints;
mod fill;
mod flows;
mod generation;
mod intact;
mod jiffies;
mod lines;
mod listener;
mod load;
mod mapping;
mod maps;
mod next_hops;
mod object;
mod others;
mod pinned;
mod pins;
mod probe;
mod redirected;
mod removal;
mod routes;
mod settled;
mod sysctls;
mod trial;
mod trie;
mod xdp;

pub use addresses::AddressMap;
pub use attach::{Applied, Attached, Attachment, Attachments, attached};
pub use audit::audit;
pub use clock::monotonic_time;
pub use clsact::forget_qdisc;
pub use described::{linked_program, pinned_maps, programs};
pub use endpoints::endpoints;
pub use fill::{Fill, fills};
pub use flows::{Flows, flow_tuples, now, ticks, time};
pub use generation::Generations;
pub use intact::check_intact;
pub use listener::Listener;
pub use load::{Dataplane, load, verify};
pub use maps::{BpfArray, BpfHash, BpfMap, DeviceMap, Full, RouteTable, Table};
pub use next_hops::{LiveNextHops, live_next_hops};
pub use object::bpf_object;
pub use others::{LoadedPrograms, Side};
pub use pins::{PinLock, Pins};
pub use redirected::redirected_is_counted;
pub use removal::{Removal, Removals, removals, remove_others};
pub use routes::RouteMap;
pub use sysctls::{
    Changed, ON, SYSCTLS, changed_sysctls, restore_sysctls, set_sysctls, spare_connections,
};
pub use trial::{Trial, Way, trial};
pub use xdp::{WhyOff, XdpLinks, XdpMode, XdpState, XdpUplink, xdp_pin, xdp_states};

pub(crate) use settled::settled;

use anyhow::Result;
use tracing::warn;

/// Takes the pins for this process, of which there can be only one, and makes their directories.
///
/// # Errors
///
/// Another process has them, or something is pinned there that is not ours; then nothing was changed.
pub fn claim(pins: &Pins) -> Result<PinLock> {
    pins.check_file_system()?;
    let mut lock = pins.lock()?;
    for stranger in audit(pins)? {
        warn!(
            "{} is not underpass's: it is left alone",
            stranger.display()
        );
    }
    pins.create_locked(&mut lock)?;
    Ok(lock)
}

/// Takes over what another version of underpass has attached, which stays attached until our own
/// programs replace it.
pub fn adopt(pins: &Pins) -> Result<()> {
    pins.adopt_links(attach::understands)?;
    pins.adopt_xdp(xdp::understands)?;
    pins.adopt_sysctls(sysctls::understands)
}
