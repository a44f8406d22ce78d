//! BPF maps as tables of keys and values, each found by its pin.

use std::{collections::BTreeSet, io, path::Path};

use anyhow::{Context, Result};
use aya::maps::{
    Array, HashMap, Map, MapData, MapError,
    xdp::{DevMapHash, XdpMapError},
};
use dataplane_common::abi::maps;
use ipnet::Ipv4Net;
use nix::errno::Errno;

use super::Pins;

/// A map takes no more entries, because it is full or the kernel has no memory for them.
#[derive(Debug, thiserror::Error)]
#[error("the BPF map {map} takes no more: {why}")]
pub struct Full {
    map: &'static str,
    why: String,
}

impl Full {
    /// The map of this name takes no more, for this reason.
    pub(crate) fn new(map: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { map, why }
    }
}

/// What the reconciler needs of a map. A program's maps are one implementation, a
/// [`std::collections::BTreeMap`] in the tests the other.
pub trait Table<K, V> {
    /// Everything in the table.
    fn entries(&self) -> Result<Vec<(K, V)>>;
    /// Adds an entry, or replaces the one that `key` has, at once. An error that is [`Full`] means
    /// that there is no room for it.
    fn insert(&mut self, key: &K, value: &V) -> Result<()>;
    /// Removes an entry, which may be missing.
    fn remove(&mut self, key: &K) -> Result<()>;
}

/// The table of the routes, which says itself what it holds: a copy would be as large.
pub trait RouteTable: Table<Ipv4Net, u32> {
    /// What `prefix` itself leads to.
    fn get(&self, prefix: &Ipv4Net) -> Option<u32>;
}

/// What is said of a map that is not to be had at `path`.
pub(super) fn cannot_open(path: &Path) -> String {
    format!(
        "cannot open the BPF map {}: is the agent running or has it run, and are you root?",
        path.display()
    )
}

/// A map with a name, for messages.
pub struct BpfMap<M> {
    name: &'static str,
    map: M,
}

impl<M: TryFrom<Map, Error = MapError>> BpfMap<M> {
    /// The map that is pinned as `name`, one of [`dataplane_common::abi::maps`], of the kind that
    /// `wrap` makes of it.
    pub fn open(pins: &Pins, name: &'static str, wrap: fn(MapData) -> Map) -> Result<Self> {
        let path = pins.map(name);
        let map = MapData::from_pin(&path)
            .and_then(|data| M::try_from(wrap(data)))
            .with_context(|| cannot_open(&path))?;
        Ok(Self { name, map })
    }
}

impl<M> BpfMap<M> {
    /// The map itself.
    pub fn inner(&self) -> &M {
        &self.map
    }

    fn cannot(&self, doing: &str) -> String {
        format!("cannot {doing} the BPF map {}", self.name)
    }
}

impl<K: aya::Pod, V: aya::Pod> Table<K, V> for BpfMap<HashMap<MapData, K, V>> {
    fn entries(&self) -> Result<Vec<(K, V)>> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .with_context(|| self.cannot("read"))
    }

    fn insert(&mut self, key: &K, value: &V) -> Result<()> {
        match self.map.insert(key, value, 0) {
            Err(MapError::SyscallError(error)) if is_full(&error.io_error) => {
                Err(Full::new(self.name, error.io_error.to_string()).into())
            }
            result => result.with_context(|| self.cannot("write to")),
        }
    }

    fn remove(&mut self, key: &K) -> Result<()> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error).with_context(|| self.cannot("remove from")),
        }
    }
}

/// Whether it is for want of room that the kernel refuses an entry (bpf(2), `BPF_MAP_UPDATE_ELEM`).
fn is_full(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(error, Some(Errno::E2BIG | Errno::ENOSPC | Errno::ENOMEM))
}

/// The devices that a map holds, each by its interface index, until the kernel takes it out with the
/// interface.
pub type DeviceMap = BpfMap<DevMapHash<MapData>>;

impl DeviceMap {
    /// Opens the workload interfaces.
    pub fn open_devices(pins: &Pins) -> Result<Self> {
        Self::open(pins, maps::DEVICES, Map::DevMapHash)
    }

    /// The interfaces that are there still.
    pub fn indexes(&self) -> Result<BTreeSet<u32>> {
        let keys = self.map.keys().collect::<Result<_, _>>();
        keys.with_context(|| self.cannot("read"))
    }

    /// Adds interface `ifindex` under `key`; returns false if it is gone.
    pub fn add(&mut self, key: u32, ifindex: u32) -> Result<bool> {
        match self.map.insert(key, ifindex, None, 0) {
            Ok(()) => Ok(true),
            Err(XdpMapError::MapError(MapError::SyscallError(error)))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| self.cannot("write to")),
        }
    }

    /// Removes what is under `key`, if anything is.
    pub fn remove(&mut self, key: u32) -> Result<()> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            // The kernel's words for the same, of this kind of map.
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| self.cannot("remove from")),
        }
    }
}

/// An array map.
pub type BpfArray<V> = BpfMap<Array<MapData, V>>;

impl<V: aya::Pod> BpfArray<V> {
    /// Opens the array `name`.
    pub fn open_array(pins: &Pins, name: &'static str) -> Result<Self> {
        Self::open(pins, name, Map::Array)
    }

    /// The value at `index`.
    pub fn get(&self, index: u32) -> Result<V> {
        self.map.get(&index, 0).with_context(|| self.cannot("read"))
    }

    /// Writes the value at `index`.
    pub fn set(&mut self, index: u32, value: V) -> Result<()> {
        self.map
            .set(index, value, 0)
            .with_context(|| format!("cannot write to the BPF map {}", self.name))
    }
}

/// A hash map.
pub type BpfHash<K, V> = BpfMap<HashMap<MapData, K, V>>;

impl<K: aya::Pod, V: aya::Pod> BpfHash<K, V> {
    /// Opens the hash map `name`.
    pub fn open_hash(pins: &Pins, name: &'static str) -> Result<Self> {
        Self::open(pins, name, Map::HashMap)
    }
}
