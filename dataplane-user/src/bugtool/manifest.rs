//! What is in an archive.

use schemars::JsonSchema;
use serde::Serialize;

/// What is in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of underpass that made it.
    pub version: &'static str,
    /// The node.
    pub node: String,
    /// When it was begun, to the second (RFC 3339).
    pub time: String,
    /// The parts, in the order in which they were collected.
    pub parts: Vec<PartRow>,
}

/// A part of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartRow {
    /// Its name, below the one directory of the archive.
    pub name: String,
    /// Its length; without one it is not in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// How long it took.
    pub milliseconds: u64,
    /// Why it is not there, or not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
