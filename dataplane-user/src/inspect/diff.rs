//! What the maps hold, against what they should.

mod words;

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, Result};
use dataplane_common::abi::{Addr, Endpoint, NextHop, NextHopKind, WAYS, maps};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::sleep;

use self::words::Words;
use super::{Listed, Row, Snapshot};
use crate::{
    config::{Config, KernelSource, Source},
    dataplane::Pins,
    kernel::{CARRIER_NAME, Netlink},
    node::{LearnedMacs, NodeState},
    plan::{self, Model, NextHopKey, Tables, mirror},
    source::{file, kernel},
};

/// An entry of a map that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The map.
    pub map: &'static str,
    /// The entry.
    pub key: String,
    /// What it should be; nothing where there should be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Row for Difference {
    const COLUMNS: &'static [&'static str] = &["MAP", "KEY", "EXPECTED", "FOUND"];

    fn cells(&self) -> Vec<String> {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        vec![
            self.map.to_owned(),
            self.key.clone(),
            or_none(&self.expected),
            or_none(&self.found),
        ]
    }
}

impl Listed for Difference {
    const KIND: &'static str = "Difference";

    fn key(&self) -> String {
        format!("{} {}", self.map, self.key)
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// Compares the maps with what the source says now. What differs only while an agent is about to
/// write it is not told.
pub async fn diff(config: &Config, pins: &Pins) -> Result<Vec<Difference>> {
    /// An agent needs milliseconds; a busy one is given time.
    const PAUSE: Duration = Duration::from_millis(300);
    let differences = diff_now(config, pins).await?;
    if differences.is_empty() {
        return Ok(differences);
    }
    sleep(PAUSE).await;
    let mut later = diff_now(config, pins).await?;
    later.retain(|difference| differences.contains(difference));
    Ok(later)
}

async fn diff_now(config: &Config, pins: &Pins) -> Result<Vec<Difference>> {
    let expected = match &config.source {
        Source::File(file) => by_file(config, file).await?,
        Source::Kernel(source) => by_kernel(config, source).await?,
    };
    Ok(compare(&expected, &Snapshot::read(pins)?))
}

async fn by_kernel(config: &Config, source: &KernelSource) -> Result<Tables> {
    let survey = kernel::survey(config, source).await?;
    let ways = mirror::ways(&survey.fib, &survey.destinations);
    let pods = mirror::pods(&survey.fib);
    let uplinks = mirror::uplinks(config, &survey.fib, &ways);
    let mirrored = mirror::mirrored(config, &survey.fib, &pods, &uplinks, &ways);
    Ok(Tables {
        routes: survey.routes,
        ..mirrored.tables
    })
}

async fn by_file(config: &Config, cluster_file: &Path) -> Result<Tables> {
    let cluster = file::read(cluster_file)?;
    let (netlink, _events) = Netlink::connect()?;
    let peers = cluster.nodes.iter().map(|node| node.address);
    let mut learned = LearnedMacs::default();
    let node = NodeState::read(&netlink, &config.workloads, peers, &mut learned).await?;
    let carrier = node
        .link(CARRIER_NAME)
        .with_context(|| format!("there is no {CARRIER_NAME}: has the agent run?"))?
        .index;
    let model = Model {
        config,
        cluster: &cluster,
        node: &node,
    };
    Ok(plan::plan(&model, carrier)?.tables)
}

fn compare(expected: &Tables, found: &Snapshot) -> Vec<Difference> {
    let mut differences = Vec::new();
    let config = found.tables.config.unwrap_or_default();
    if config != expected.config {
        differences.push(Difference {
            map: maps::CONFIG,
            key: "0".to_owned(),
            expected: Some(expected.config.words()),
            found: Some(config.words()),
        });
    }
    differences.extend(routes(expected, found));
    differences.extend(endpoints(expected, found));
    let address = |address: &Addr| Ipv4Addr::from(*address).to_string();
    let peers = (&expected.peers, &found.tables.peers);
    differences.extend(entries(maps::PEERS, peers, address));
    let workloads = (&expected.workloads, &found.tables.workloads);
    differences.extend(entries(maps::WORKLOADS, workloads, u32::to_string));
    differences
}

/// Where a prefix leads, whatever numbers that has.
#[derive(Clone, Debug, PartialEq)]
enum Leads {
    To(NextHop),
    ToOneOf(Box<[NextHop; WAYS]>),
}

impl Words for Leads {
    fn words(&self) -> String {
        match self {
            Self::To(next_hop) => next_hop.words(),
            Self::ToOneOf(ways) => ways.words(),
        }
    }
}

fn routes(expected: &Tables, found: &Snapshot) -> Vec<Difference> {
    let wanted = expected.routes.iter();
    let wanted = wanted.map(|(prefix, key)| (*prefix, wanted_lead(expected, key)));
    let there = found.routes.iter();
    let there = there.map(|(prefix, next_hop)| (*prefix, found_lead(found, next_hop)));
    let (wanted, there) = (wanted.collect(), there.collect());
    entries(maps::ROUTES, (&wanted, &there), Ipv4Net::to_string)
}

fn wanted_lead(tables: &Tables, key: &NextHopKey) -> Leads {
    let one = |key: &NextHopKey| tables.next_hops.get(key).copied().unwrap_or_default();
    match tables.multipaths.get(key) {
        Some(ways) => Leads::ToOneOf(Box::new(ways.each_ref().map(one))),
        None => Leads::To(one(key)),
    }
}

fn found_lead(snapshot: &Snapshot, next_hop: &NextHop) -> Leads {
    let ways = snapshot.tables.multipaths.get(&next_hop.entry);
    match ways.filter(|_| next_hop.kind() == Some(NextHopKind::Multipath)) {
        Some(ways) => Leads::ToOneOf(Box::new(ways.map(NextHop::anywhere))),
        None => Leads::To(next_hop.anywhere()),
    }
}

/// What the kernel has forgotten of a pod, the agent has kept.
fn endpoints(expected: &Tables, found: &Snapshot) -> Vec<Difference> {
    let known = |(address, endpoint): (&Addr, &Endpoint)| {
        let mut endpoint = *endpoint;
        if endpoint.mac == [0; 6]
            && let Some(found) = found.tables.endpoints.get(address)
        {
            endpoint.mac = found.mac;
        }
        (*address, endpoint)
    };
    let expected = expected.endpoints.iter().map(known).collect();
    let address = |address: &Addr| Ipv4Addr::from(*address).to_string();
    entries(
        maps::ENDPOINTS,
        (&expected, &found.tables.endpoints),
        address,
    )
}

fn entries<K: Ord, V: PartialEq + Words>(
    map: &'static str,
    (expected, found): (&BTreeMap<K, V>, &BTreeMap<K, V>),
    name: impl Fn(&K) -> String,
) -> Vec<Difference> {
    let difference = |key: &K| Difference {
        map,
        key: name(key),
        expected: expected.get(key).map(Words::words),
        found: found.get(key).map(Words::words),
    };
    let wrong = expected
        .iter()
        .filter(|(key, value)| found.get(key) != Some(value));
    let surplus = found.iter().filter(|(key, _)| !expected.contains_key(key));
    let keys = wrong.chain(surplus).map(|(key, _)| key);
    keys.map(difference).collect()
}
