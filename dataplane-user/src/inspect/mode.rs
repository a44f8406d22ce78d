//! How packets cross the underlay.

use dataplane_common::reason::Reason;

/// How a packet that was carried on for this reason crossed the underlay, or is about to: `local`,
/// `direct`, `ipip` or `vxlan`; `none` for every other.
#[must_use]
pub const fn mode(reason: Reason) -> &'static str {
    match reason {
        Reason::DeliveredLocal => "local",
        Reason::SentDirect | Reason::ReceivedDirect => "direct",
        Reason::SentIpip | Reason::ReceivedIpip => "ipip",
        Reason::SentVxlan | Reason::ReceivedVxlan => "vxlan",
        _ => "none",
    }
}
