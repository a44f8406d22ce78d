//! The pods of this node, as they are in the maps.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::abi::{Addr, Endpoint, maps};

use super::{AddressMap, BpfArray, Pins, Table as _, settled};

/// The pods by address, of the maps pinned below `pins`.
pub fn endpoints(pins: &Pins) -> Result<BTreeMap<Addr, Endpoint>> {
    let numbers = AddressMap::read_addresses(pins)?;
    let entries = BpfArray::<Endpoint>::open_array(pins, maps::ENDPOINT_ENTRIES)?;
    let addresses = numbers.entries()?.into_iter();
    found(
        addresses.map(|(address, _)| address),
        |address| numbers.get(address),
        |number| entries.get(number),
    )
}

/// Those of `addresses` that have a number, each with the entry of that.
fn found(
    addresses: impl Iterator<Item = Addr>,
    number: impl Fn(Addr) -> Option<u32>,
    entry: impl Fn(u32) -> Result<Endpoint>,
) -> Result<BTreeMap<Addr, Endpoint>> {
    let mut endpoints = BTreeMap::new();
    for address in addresses {
        let (_, endpoint) = settled(
            || Ok(number(address)),
            |number| number.map(&entry).transpose(),
        )?;
        endpoints.extend(endpoint.map(|endpoint| (address, endpoint.anywhere())));
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const POD: Addr = [10, 244, 1, 10];
    const OTHER: Addr = [10, 244, 1, 11];

    fn behind(ifindex: u32) -> Endpoint {
        Endpoint {
            ifindex,
            ..Endpoint::default()
        }
    }

    #[test]
    fn a_pod_that_gets_another_number_meanwhile_is_read_by_that() {
        // Both had entries; as soon as one is read, that entry has been made zero, and the first pod has
        // got number 3, the other none.
        let changed = Cell::new(false);
        let number = |address| match (address, changed.get()) {
            (POD, false) => Some(1),
            (POD, true) => Some(3),
            (_, false) => Some(2),
            (_, true) => None,
        };
        let entry = |number| {
            changed.set(true);
            Ok(if number == 3 {
                behind(7)
            } else {
                Endpoint::default()
            })
        };
        for addresses in [[POD, OTHER], [OTHER, POD]] {
            changed.set(false);
            let found = found(addresses.into_iter(), number, entry).unwrap();
            assert_eq!(found, BTreeMap::from([(POD, behind(7))]), "{addresses:?}");
        }
    }
}
