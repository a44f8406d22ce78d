//! The half that touches BPF: the object, its maps and programs, their pins and attachments.
//!
//! Invariant: everything is pinned below `<pins>/v<ABI version>`, so that the dataplane outlives
//! the agent, and nothing of another layout is ever reused.

mod attach;
mod clsact;
mod fill;
mod intact;
mod lines;
mod load;
mod maps;
mod object;
mod pins;
mod probe;
mod routes;
mod trie;
mod xdp;

pub use attach::{Applied, Attachment, Attachments, attached, detach_all};
pub use clsact::take_owned_qdiscs;
pub use fill::{Fill, fills};
pub use intact::check_intact;
pub use load::{Dataplane, load};
pub use maps::{BpfArray, BpfHash, BpfMap, Full, RouteTable, Table};
pub use object::bpf_object;
pub use pins::{PinLock, Pins};
pub use routes::RouteMap;
pub use xdp::{WhyOff, XdpLinks, XdpMode, XdpState, XdpUplink, detach_xdp, xdp_states};

use anyhow::Result;

/// Takes over what another version of underpass has attached, which stays attached until our own
/// programs replace it.
pub fn adopt(pins: &Pins) -> Result<()> {
    pins.adopt_links(attach::understands)?;
    pins.adopt_xdp(xdp::understands)
}
