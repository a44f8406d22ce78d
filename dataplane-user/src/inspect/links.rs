//! What holds a program on an interface.

use std::path::PathBuf;

use anyhow::Result;
use dataplane_common::abi::Hook;
use schemars::JsonSchema;
use serde::Serialize;

use super::{HookRow, Listed, Row, rows};
use crate::dataplane::{self, Attached, Pins, XdpState};

/// What holds a program on an interface: a pinned link, or, without tcx, a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkRow {
    /// The interface, the program, and how it is there.
    #[serde(flatten)]
    pub hook: HookRow,
    /// Index of the interface.
    pub ifindex: u32,
    /// The number of the program, where a link holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<u32>,
    /// Where the link is pinned, or what is recorded of it.
    pub pin: PathBuf,
}

impl Row for LinkRow {
    const COLUMNS: &'static [&'static str] = &["INTERFACE", "HOOK", "STATE", "PROGRAM"];
    const MORE: &'static [&'static str] = &["IFINDEX", "PIN", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.hook.interface.clone(),
            self.hook.hook.to_owned(),
            self.hook.state.to_owned(),
            rows::optional(self.program.as_ref()),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![
            self.ifindex.to_string(),
            self.pin.display().to_string(),
            rows::optional(self.hook.why.as_ref()),
        ]
    }
}

impl Listed for LinkRow {
    const KIND: &'static str = "Link";

    fn key(&self) -> String {
        format!("{} {}", self.hook.interface, self.pin.display())
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// What holds programs on interfaces, or is recorded of why none does.
pub fn links(pins: &Pins) -> Result<Vec<LinkRow>> {
    let links = attached(pins)?.into_iter().map(|(hook, ifindex, pin)| {
        Ok(LinkRow {
            hook,
            ifindex,
            program: dataplane::linked_program(&pin)?,
            pin,
        })
    });
    links.collect()
}

/// Every hook, the index of its interface, and its pin or record.
pub(super) fn attached(pins: &Pins) -> Result<Vec<(HookRow, u32, PathBuf)>> {
    let tc = dataplane::attached(pins)?.into_iter().map(|attached| {
        let Attached {
            ifindex,
            hook,
            way,
            pin,
        } = attached;
        let hook = HookRow {
            interface: rows::interface(ifindex),
            hook: hook.name(),
            state: way,
            why: None,
        };
        (hook, ifindex, pin)
    });
    let xdp = dataplane::xdp_states(pins)?.into_iter();
    let xdp = xdp.map(|(ifindex, state)| {
        let hook = HookRow {
            interface: rows::interface(ifindex),
            hook: Hook::XdpUplink.name(),
            state: state.name(),
            why: match state {
                XdpState::On(_) => None,
                XdpState::Off(why) => Some(why.to_string()),
            },
        };
        (hook, ifindex, dataplane::xdp_pin(pins, ifindex, state))
    });
    let mut all: Vec<_> = tc.chain(xdp).collect();
    all.sort();
    Ok(all)
}
