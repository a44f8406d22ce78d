//! What is around the data in JSON and YAML: the version, and what kind of thing it is.

use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use serde::Serialize;

use super::{Change, Explanation, Listed, Status};
use crate::bugtool::Manifest;

/// The version of what is printed as JSON and YAML. What has this one only ever gains fields and
/// kinds.
pub const API_VERSION: &str = "underpass/v1";

/// A list of rows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<'r, R> {
    api_version: &'static str,
    kind: String,
    items: &'r [R],
}

impl<'r, R: Listed> List<'r, R> {
    pub(super) fn new(items: &'r [R]) -> Self {
        Self {
            api_version: API_VERSION,
            kind: list_kind::<R>(),
            items,
        }
    }
}

/// What is called a list of these rows.
pub(super) fn list_kind<R: Listed>() -> String {
    format!("{}List", R::KIND)
}

/// A row that has changed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event<'r, R> {
    api_version: &'static str,
    kind: String,
    change: Change,
    time: String,
    item: &'r R,
}

impl<'r, R: Listed> Event<'r, R> {
    pub(super) fn new(change: Change, time: SystemTime, item: &'r R) -> Self {
        Self {
            api_version: API_VERSION,
            kind: event_kind::<R>(),
            change,
            time: format_rfc3339_millis(time).to_string(),
            item,
        }
    }
}

/// What is called a change of such a row.
pub(super) fn event_kind<R: Listed>() -> String {
    format!("{}Event", R::KIND)
}

/// Something of which there is one.
pub(crate) trait Single: Serialize {
    /// What it is called.
    const KIND: &'static str;
}

impl Single for Status {
    const KIND: &'static str = "Status";
}

impl Single for Explanation {
    const KIND: &'static str = "Explanation";
}

impl Single for Manifest {
    const KIND: &'static str = "Manifest";
}

/// It, with the version in front.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object<'o, T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    fields: &'o T,
}

impl<'o, T: Single> Object<'o, T> {
    pub(super) fn new(fields: &'o T) -> Self {
        Self {
            api_version: API_VERSION,
            kind: T::KIND,
            fields,
        }
    }
}
