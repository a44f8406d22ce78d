//! The workload interfaces, of which the kernel takes out what is deleted.

use std::collections::BTreeSet;

use anyhow::Result;
use tracing::debug;

use crate::dataplane::DeviceMap;

/// The map of workload interfaces. What it holds has to be read every time: what was written may be
/// gone, and another interface have its index.
pub(super) struct Devices(DeviceMap);

impl Devices {
    pub(super) fn new(map: DeviceMap) -> Self {
        Self(map)
    }

    /// Adds what is missing; returns how many. An interface that is gone has no packets to get, and
    /// the kernel has announced it.
    pub(super) fn write(&mut self, desired: &BTreeSet<u32>) -> Result<usize> {
        let present = self.0.indexes()?;
        let mut written = 0;
        for &ifindex in desired.difference(&present) {
            if self.0.add(ifindex, ifindex)? {
                written += 1;
            } else {
                debug!(ifindex, "a workload interface is gone already");
            }
        }
        Ok(written)
    }

    /// Removes what is not in `desired`; returns how many.
    pub(super) fn sweep(&mut self, desired: &BTreeSet<u32>) -> Result<usize> {
        let present = self.0.indexes()?;
        let mut removed = 0;
        for &ifindex in present.difference(desired) {
            self.0.remove(ifindex)?;
            removed += 1;
        }
        Ok(removed)
    }
}
