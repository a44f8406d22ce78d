//! How values of a [`Config`](super::Config) are written that Rust would write otherwise.

use std::{net::SocketAddr, time::Duration};

use serde::{Serialize, Serializer};

use super::{Dscp, WorkloadPatterns};

pub(super) fn duration<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*time))
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
pub(super) fn listener<S: Serializer>(
    listener: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match listener {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str("off"),
    }
}

impl Serialize for WorkloadPatterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl Serialize for Dscp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(dscp) => serializer.serialize_u8(*dscp),
            Self::Inherit => serializer.serialize_str("inherit"),
        }
    }
}
