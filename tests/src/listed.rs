//! The lists that `underpass ... -o json` prints.

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// The rows of a list in JSON.
pub fn items<T: DeserializeOwned>(json: &[u8]) -> Result<Vec<T>> {
    let list: List<T> = serde_json::from_slice(json)
        .with_context(|| format!("read the list {}", String::from_utf8_lossy(json)))?;
    Ok(list.items)
}
