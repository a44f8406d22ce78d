//! The BPF programs.

use anyhow::Result;
use aya::programs::ProgramInfo;
use humantime::format_rfc3339_seconds;
use schemars::JsonSchema;
use serde::Serialize;

use super::{LinkRow, Listed, Row, links, rows};
use crate::dataplane::{self, Pins};

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgramRow {
    /// Its name, which is that of its hook.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// On how many interfaces it is.
    pub interfaces: usize,
    /// Which code it is: the same wherever it is loaded (16 hexadecimal digits).
    pub tag: String,
    /// When it was loaded, to the second (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<String>,
    /// How many instructions the verifier looked at (from Linux 5.16 on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_instructions: Option<u32>,
    /// Its length in bytes, as the verifier left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
}

impl ProgramRow {
    fn new(info: &ProgramInfo, links: &[LinkRow]) -> Self {
        let name = info.name_as_str().unwrap_or_default();
        // A filter's program has no link that would say its number.
        let holds = |link: &&LinkRow| match link.program {
            Some(program) => program == info.id(),
            None => link.hook.hook == name && link.hook.state == "clsact",
        };
        Self {
            name: name.to_owned(),
            id: info.id(),
            interfaces: links.iter().filter(holds).count(),
            tag: format!("{:016x}", info.tag()),
            loaded: info
                .loaded_at()
                .map(|time| format_rfc3339_seconds(time).to_string()),
            verified_instructions: info.verified_instruction_count(),
            bytes: info.size_translated(),
        }
    }
}

impl Row for ProgramRow {
    const COLUMNS: &'static [&'static str] = &["NAME", "ID", "INTERFACES", "LOADED"];
    const MORE: &'static [&'static str] = &["TAG", "VERIFIED-INSTRUCTIONS", "BYTES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.to_string(),
            self.interfaces.to_string(),
            rows::optional(self.loaded.as_ref()),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![
            self.tag.clone(),
            rows::optional(self.verified_instructions.as_ref()),
            rows::optional(self.bytes.as_ref()),
        ]
    }
}

impl Listed for ProgramRow {
    const KIND: &'static str = "Program";

    fn key(&self) -> String {
        format!("{} {}", self.name, self.id)
    }

    /// The time at which it was loaded is counted back from now, and may be a second off.
    fn says_as(&self, other: &Self) -> bool {
        self.interfaces == other.interfaces
    }
}

/// Our programs.
pub fn programs(pins: &Pins) -> Result<Vec<ProgramRow>> {
    let links = links(pins)?;
    let programs = dataplane::programs(pins)?.into_iter();
    let mut rows: Vec<_> = programs
        .map(|program| ProgramRow::new(&program, &links))
        .collect();
    rows.sort_by_key(ProgramRow::key);
    Ok(rows)
}
