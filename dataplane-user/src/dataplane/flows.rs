//! What is remembered of flows.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData, MapError};
use dataplane_common::abi::{Asker, FLOW_WORDS, Flow, FlowKey, MAX_FLOWS, TICK_SHIFT, maps};

use super::{BpfHash, BpfMap, Pins, monotonic_time};
use crate::kernel::{ConnTuple, Detail};

/// The map of flows. To look into it does not make an entry look used.
pub struct Flows {
    map: BpfMap<HashMap<MapData, FlowKey, [u64; FLOW_WORDS]>>,
}

impl Flows {
    /// The map pinned below `pins`.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            map: BpfHash::open_hash(pins, maps::FLOWS)?,
        })
    }

    /// What is remembered of one flow.
    pub fn get(&self, key: &FlowKey) -> Result<Option<Flow>> {
        match self.map.inner().get(key, 0) {
            Ok(words) => Ok(Some(Flow::from(words))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("cannot read the BPF map FLOWS"),
        }
    }

    /// Hands every flow over, as it is at that moment. Flows come and go meanwhile: one may come twice
    /// or be missed.
    pub fn each(&self, mut each: impl FnMut(FlowKey, Flow)) -> Result<()> {
        for key in self.keys() {
            let key = key?;
            if let Some(flow) = self.get(&key)? {
                each(key, flow);
            }
        }
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> Result<u32> {
        let mut count = 0;
        for key in self.keys() {
            key?;
            count += 1;
        }
        Ok(count.min(MAX_FLOWS))
    }

    /// The kernel begins anew where the key has gone that was the last, so that there would be no end
    /// to it while flows come and go quickly.
    fn keys(&self) -> impl Iterator<Item = Result<FlowKey>> {
        let keys = self.map.inner().keys();
        let keys = keys.map(|key| key.context("cannot read the keys of the BPF map FLOWS"));
        keys.take(MAX_FLOWS as usize * 2)
    }
}

/// The time now, in the ticks of flows.
#[must_use]
pub fn now() -> u64 {
    ticks(monotonic_time())
}

/// A time, in the ticks of flows.
#[must_use]
pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() >> TICK_SHIFT).unwrap_or(u64::MAX)
}

/// How long so many ticks are.
#[must_use]
pub fn time(ticks: u64) -> Duration {
    Duration::from_nanos(ticks << TICK_SHIFT)
}

/// What conntrack finds a flow's packets by, in the order of its directions; `None` for what is no
/// flow.
#[must_use]
pub fn flow_tuples(key: &FlowKey) -> Option<[ConnTuple; 2]> {
    const ICMP: u8 = 1;
    const ECHO_REPLY: u8 = 0;
    const ECHO_REQUEST: u8 = 8;
    let [lower, higher] = [key.lower_port, key.higher_port].map(u16::from_be_bytes);
    let detail = match (key.protocol, key.asker) {
        (ICMP, asker) if asker == Asker::Lower as u8 => Detail::Icmp(lower, ECHO_REQUEST),
        (ICMP, asker) if asker == Asker::Higher as u8 => Detail::Icmp(lower, ECHO_REPLY),
        (ICMP, _) => return None,
        _ => Detail::Ports(lower, higher),
    };
    let there = ConnTuple {
        source: key.lower.into(),
        destination: key.higher.into(),
        protocol: key.protocol,
        detail,
    };
    Some([there, there.turned_around()])
}
