//! What runs on this node, as the pins say.

use anyhow::Result;
use dataplane_common::abi::maps;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Acceleration, Row, SysctlRow, acceleration, links, rows};
use crate::dataplane::{self, Pins};

/// What runs on this node.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Whether an agent keeps the dataplane true. Without one it goes on as it is.
    pub agent_running: bool,
    /// The directory of pins.
    pub pins: String,
    /// What is accelerated, once the maps are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<Acceleration>,
    /// The settings of the kernel that were changed for that.
    pub sysctls: Vec<SysctlRow>,
    /// The programs, by interface.
    pub hooks: Vec<HookRow>,
    /// How full the maps are.
    pub maps: Vec<FillRow>,
}

/// A hook of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookRow {
    /// The interface.
    pub interface: String,
    /// The hook, and its program.
    pub hook: &'static str,
    /// `tcx`, `clsact`, `native`, `generic` or `off`.
    pub state: &'static str,
    /// Why it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Row for HookRow {
    const COLUMNS: &'static [&'static str] = &["INTERFACE", "HOOK", "STATE", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.interface.clone(),
            self.hook.to_owned(),
            self.state.to_owned(),
            rows::optional(self.why.as_ref()),
        ]
    }
}

/// A map that may become full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FillRow {
    /// Its name.
    pub map: &'static str,
    /// How many entries it holds; of the routes, how many lines of 64 bytes.
    pub entries: u32,
    /// How many it can hold. The routes take memory for those that they need alone.
    pub max_entries: u32,
}

impl Row for FillRow {
    const COLUMNS: &'static [&'static str] = &["MAP", "ENTRIES", "MAX-ENTRIES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.map.to_owned(),
            self.entries.to_string(),
            self.max_entries.to_string(),
        ]
    }
}

/// Reads what runs with these pins.
pub fn status(pins: &Pins) -> Result<Status> {
    let hooks = links::attached(pins)?.into_iter();
    Ok(Status {
        maps: fill_rows(pins)?,
        acceleration: pins
            .map(maps::CONFIG)
            .exists()
            .then(|| Acceleration::read(pins))
            .transpose()?,
        sysctls: acceleration::sysctls(pins)?,
        agent_running: pins.are_locked()?,
        pins: pins.base().display().to_string(),
        hooks: hooks.map(|(hook, _, _)| hook).collect(),
    })
}

/// How full the maps are that are pinned there.
pub fn fill_rows(pins: &Pins) -> Result<Vec<FillRow>> {
    let fills = dataplane::fills(pins)?.into_iter();
    let rows = fills.map(|fill| FillRow {
        map: fill.map,
        entries: fill.entries,
        max_entries: fill.max_entries,
    });
    Ok(rows.collect())
}
