//! BPF maps as tables of keys and values, each found by its pin.

use anyhow::{Context, Result};
use aya::maps::{
    Array, HashMap, Map, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use dataplane_common::abi::{Addr, maps};
use ipnet::Ipv4Net;

use super::Pins;

/// What the reconciler needs of a map. A program's maps are one implementation, a
/// [`std::collections::BTreeMap`] in the tests the other.
pub trait Table<K, V> {
    /// Everything in the table.
    fn entries(&self) -> Result<Vec<(K, V)>>;
    /// Adds an entry, or replaces the one that `key` has, at once.
    fn insert(&mut self, key: &K, value: &V) -> Result<()>;
    /// Removes an entry, which may be missing.
    fn remove(&mut self, key: &K) -> Result<()>;
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
            .with_context(|| {
                format!(
                    "cannot open the BPF map {}: is the agent running or has it run, and are you \
                     root?",
                    path.display()
                )
            })?;
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
        self.map
            .insert(key, value, 0)
            .with_context(|| format!("cannot write to the BPF map {}; is it full?", self.name))
    }

    fn remove(&mut self, key: &K) -> Result<()> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error).with_context(|| self.cannot("remove from")),
        }
    }
}

impl Table<Ipv4Net, u32> for BpfMap<LpmTrie<MapData, Addr, u32>> {
    fn entries(&self) -> Result<Vec<(Ipv4Net, u32)>> {
        self.map
            .iter()
            .map(|entry| {
                let (key, id) = entry.with_context(|| self.cannot("read"))?;
                let length = u8::try_from(key.prefix_len())?;
                Ok((Ipv4Net::new(key.data().into(), length)?, id))
            })
            .collect()
    }

    fn insert(&mut self, prefix: &Ipv4Net, id: &u32) -> Result<()> {
        self.map
            .insert(&trie_key(*prefix), id, 0)
            .with_context(|| format!("cannot write {prefix} to the BPF map {}", self.name))
    }

    fn remove(&mut self, prefix: &Ipv4Net) -> Result<()> {
        match self.map.remove(&trie_key(*prefix)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error)
                .with_context(|| format!("cannot remove {prefix} from the BPF map {}", self.name)),
        }
    }
}

fn trie_key(prefix: Ipv4Net) -> Key<Addr> {
    Key::new(u32::from(prefix.prefix_len()), prefix.network().octets())
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

/// The routes' map.
pub type RouteMap = BpfMap<LpmTrie<MapData, Addr, u32>>;
/// A hash map.
pub type BpfHash<K, V> = BpfMap<HashMap<MapData, K, V>>;

impl RouteMap {
    /// Opens the routes.
    pub fn open_routes(pins: &Pins) -> Result<Self> {
        Self::open(pins, maps::ROUTES, Map::LpmTrie)
    }
}

impl<K: aya::Pod, V: aya::Pod> BpfHash<K, V> {
    /// Opens the hash map `name`.
    pub fn open_hash(pins: &Pins, name: &'static str) -> Result<Self> {
        Self::open(pins, name, Map::HashMap)
    }
}
