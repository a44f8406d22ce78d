//! The pods of this node, as they are in the maps.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::abi::{Addr, Endpoint, maps};

use super::{AddressMap, BpfArray, Pins, Table as _};

/// The pods by address, of the maps pinned below `pins`.
pub fn endpoints(pins: &Pins) -> Result<BTreeMap<Addr, Endpoint>> {
    let numbers = AddressMap::read_addresses(pins)?;
    let entries = BpfArray::<Endpoint>::open_array(pins, maps::ENDPOINT_ENTRIES)?;
    let numbers = numbers.entries()?.into_iter();
    numbers
        .map(|(address, number)| Ok((address, entries.get(number)?.anywhere())))
        .collect()
}
