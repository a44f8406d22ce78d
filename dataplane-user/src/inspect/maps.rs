//! The BPF maps.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use aya::maps::{MapInfo, MapType};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Listed, Row, rows};
use crate::dataplane::{self, Pins};

/// A map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MapRow {
    /// Its name.
    pub name: String,
    /// Its type, as bpftool(8) calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many entries it holds, where they come and go; of the routes, how many lines of 64 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u32>,
    /// How many it can hold, in the same unit.
    pub max_entries: u32,
    /// Its number.
    pub id: u32,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Where it is pinned.
    pub pin: PathBuf,
}

impl Row for MapRow {
    const COLUMNS: &'static [&'static str] = &["NAME", "TYPE", "ENTRIES", "MAX-ENTRIES"];
    const MORE: &'static [&'static str] = &["ID", "KEY", "VALUE", "FLAGS", "PIN"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.clone(),
            rows::optional(self.entries.as_ref()),
            self.max_entries.to_string(),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.key_bytes.to_string(),
            self.value_bytes.to_string(),
            format!("{:#x}", self.flags),
            self.pin.display().to_string(),
        ]
    }
}

impl Listed for MapRow {
    const KIND: &'static str = "Map";

    fn key(&self) -> String {
        self.name.clone()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// Our maps.
pub fn maps(pins: &Pins) -> Result<Vec<MapRow>> {
    let fills = dataplane::fills(pins)?.into_iter();
    let fills: BTreeMap<_, _> = fills.map(|fill| (fill.map, fill)).collect();
    let maps = dataplane::pinned_maps(pins)?.into_iter();
    let row = |(name, pin, info): (String, PathBuf, MapInfo)| {
        let fill = fills.get(name.as_str());
        MapRow {
            kind: kind(&info),
            entries: fill.map(|fill| fill.entries),
            max_entries: fill.map_or(info.max_entries(), |fill| fill.max_entries),
            id: info.id(),
            key_bytes: info.key_size(),
            value_bytes: info.value_size(),
            flags: info.map_flags(),
            name,
            pin,
        }
    };
    Ok(maps.map(row).collect())
}

fn kind(info: &MapInfo) -> String {
    match info.map_type() {
        Ok(MapType::Array) => "array".to_owned(),
        Ok(MapType::Hash) => "hash".to_owned(),
        Ok(MapType::LruHash) => "lru_hash".to_owned(),
        Ok(MapType::PerCpuArray) => "percpu_array".to_owned(),
        Ok(MapType::DevMapHash) => "devmap_hash".to_owned(),
        Ok(MapType::ArrayOfMaps) => "array_of_maps".to_owned(),
        Ok(other) => format!("{other:?}").to_lowercase(),
        Err(_) => "unknown".to_owned(),
    }
}
