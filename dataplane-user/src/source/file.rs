//! The `file` source: the cluster's route table in YAML.
//!
//! A file is read into raw values that remember their lines, then held against the rules section
//! by section, then across sections. All mistakes are reported at once; only YAML that cannot be
//! read, or that has unknown fields, stops at the first. Long lists of routes are read by
//! `plain` first, where there is nothing to report.

mod claims;
mod list;
mod nodes;
mod plain;
mod pools;
mod raw;
mod routes;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;

use crate::{
    cluster::{Cluster, Node, Route},
    document::{self, FileError, Located, Problems},
};
use list::few;
use nodes::CheckedNode;
use pools::CheckedPools;
use raw::RawCluster;

/// The JSON schema (draft 2020-12) of a cluster file.
#[must_use]
pub fn schema() -> Value {
    document::schema_of::<RawCluster>("cluster.yaml")
}

/// Reads and validates the cluster table in `file`.
pub fn read(file: &Path) -> Result<Cluster, FileError> {
    parse(file, &document::read(file)?)
}

fn parse(file: &Path, text: &str) -> Result<Cluster, FileError> {
    parse_plain(file, text).map_or_else(|| parse_yaml(file, text), Ok)
}

/// Reads a table whose routes are plain, if nothing is wrong with it.
fn parse_plain(file: &Path, text: &str) -> Option<Cluster> {
    let (rest, routes) = plain::split(text)?;
    let raw = document::parse::<RawCluster>(file, &rest).ok()??;
    let mut problems = Problems::default();
    let pools = pools::check(raw.pools, &mut problems);
    let nodes = nodes::check(raw.nodes, &pools, &mut problems);
    let routes = routes::check_plain(&routes, &pools, &nodes)?;
    claims::check(&nodes, &routes, &mut problems);
    problems.into_result(file).ok()?;
    Some(cluster(pools, nodes, routes))
}

fn parse_yaml(file: &Path, text: &str) -> Result<Cluster, FileError> {
    let Some(raw) = document::parse::<RawCluster>(file, text)? else {
        let text = "is empty: list the cluster's pools and nodes in it";
        return Err(FileError::new(file, None, text));
    };
    let mut problems = Problems::default();
    let pools = pools::check(raw.pools, &mut problems);
    let nodes = nodes::check(raw.nodes, &pools, &mut problems);
    let routes = routes::check(raw.routes, &pools, &nodes, &mut problems);
    claims::check(&nodes, &routes, &mut problems);
    problems.into_result(file)?;
    Ok(cluster(pools, nodes, routes))
}

/// What the sections say, which has been found right.
fn cluster(pools: CheckedPools, nodes: Vec<CheckedNode>, routes: Vec<Located<Route>>) -> Cluster {
    Cluster {
        pools: pools.into_pools(),
        nodes: nodes
            .into_iter()
            .filter_map(CheckedNode::into_node)
            .collect(),
        routes: routes.into_iter().map(|route| route.value).collect(),
    }
}

/// This node in the table that was read from `file`, by the `name` it has in the configuration.
pub fn local_node<'a>(
    cluster: &'a Cluster,
    file: &Path,
    name: &str,
) -> Result<&'a Node, FileError> {
    cluster.node(name).ok_or_else(|| {
        let known = few(cluster.nodes.iter().map(|node| &node.name));
        let remedy = match namesake(cluster, name) {
            Some(Node { name, .. }) => {
                format!("if it is {name} there, write node: {name} in the config")
            }
            None => "add it, or set node in the config, which by default is $NODE_NAME, else the \
                     hostname"
                .to_owned(),
        };
        let text =
            format!("{name}, which is this node, is not in the list of nodes ({known}): {remedy}");
        FileError::new(file, None, text)
    })
}

/// The one node whose name is `name` but for case and domain, which is how hostnames and the names
/// of nodes usually differ.
fn namesake<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Node> {
    let host = |name: &str| name.split('.').next().map(str::to_ascii_lowercase);
    let mut namesakes = cluster
        .nodes
        .iter()
        .filter(|node| host(&node.name) == host(name));
    namesakes.next().filter(|_| namesakes.next().is_none())
}
