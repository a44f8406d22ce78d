//! A YAML file, its values, and what its author is told about them: what `config.yaml` and
//! `cluster.yaml` have in common.

#[cfg(test)]
pub(crate) mod corruption;
mod problems;
pub(crate) mod scalar;
mod schema;
mod yaml;

pub use problems::FileError;
pub(crate) use problems::Problems;
pub(crate) use schema::schema_of;
pub(crate) use yaml::{Located, parse, read};
