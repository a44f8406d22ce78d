//! An agent with a table of routes: how long it takes, and how much memory.

use std::{
    fs,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{ArrayOfMaps, Map, MapData, MapError};
use dataplane_common::abi::maps;
use dataplane_tests::{Agent, Lab, Node};
use dataplane_user::dataplane::{Pins, RouteMap, Table as _};
use ipnet::Ipv4Net;
use nix::sys::signal::Signal;

use crate::table::Table;

const PATIENCE: Duration = Duration::from_mins(10);

/// What was measured.
pub(crate) struct Measured {
    /// From the agent's start until it is in sync.
    pub(crate) load: Duration,
    /// From its being told of a table of which one route in a hundred has changed until that is
    /// written.
    pub(crate) resync: Duration,
    /// Bytes of memory of its own.
    pub(crate) agent: u64,
    /// The most bytes it has had resident, the maps it writes among them.
    pub(crate) peak: u64,
    /// Bytes of the routes' maps.
    pub(crate) maps: u64,
    /// What is in them in the end.
    pub(crate) routes: Vec<(Ipv4Net, u32)>,
}

/// Runs an agent on the only node of `lab` with a table of this many routes, and has it read a
/// changed one. The maps stay.
pub(crate) fn measure(lab: &Lab, count: u32) -> Result<Measured> {
    let node = lab.node("node-0");
    node.ns().exec("ip route add 192.168.0.0/16 dev eth0")?;
    let yaml = |table: &Table| table.yaml(node.name(), node.address());
    let table = Table::of(count);

    let text = yaml(&table);
    let start = Instant::now();
    let mut agent = Agent::spawn(node, &node.agent_config(), &text)?;
    agent.process().wait_for_line("in sync", PATIENCE)?;
    let load = start.elapsed();
    let maps = maps_of_routes(&pins(node))?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid()))?;
    let bytes = |field: &str| -> Result<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = value.and_then(|value| value.trim_start_matches(':').split_whitespace().next());
        Ok(kib.with_context(|| format!("no {field}"))?.parse::<u64>()? * 1024)
    };
    let (memory, peak) = (bytes("RssAnon")?, bytes("VmHWM")?);

    // Renaming the file wakes it.
    agent.process().skip_log()?;
    let text = yaml(&table.changed());
    let start = Instant::now();
    node.write_cluster(&text)?;
    agent.process().wait_for_line("tables written", PATIENCE)?;
    let resync = start.elapsed();
    agent.process().signal(Signal::SIGKILL)?;
    let routes = RouteMap::read_routes(&pins(node))?.entries()?;
    Ok(Measured {
        load,
        resync,
        agent: memory,
        peak,
        maps,
        routes,
    })
}

/// The directory of the node's pins.
pub(crate) fn pins(node: &Node) -> Pins {
    Pins::new(node.pins())
}

/// The memory of the arrays that the routes are in, as the kernel accounts for it.
fn maps_of_routes(pins: &Pins) -> Result<u64> {
    let map = Map::ArrayOfMaps(MapData::from_pin(pins.map(maps::ROUTES))?);
    let arrays = ArrayOfMaps::<_, MapData>::try_from(&map)?;
    let mut bytes = 0;
    for number in 0..arrays.len() {
        match arrays.get(&number, 0) {
            Ok(array) => bytes += locked(&array)?,
            Err(MapError::KeyNotFound) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

fn locked(map: &MapData) -> Result<u64> {
    let fd = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let locked = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(locked.context("no memlock")?.trim().parse()?)
}
