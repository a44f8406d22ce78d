//! Ways to look up the same routes, timed.

use std::{collections::HashMap, env, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap as BpfHashMap, LpmTrie, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use dataplane_common::abi::maps;
use dataplane_user::dataplane::Pins;
use ipnet::Ipv4Net;

/// The ways: the program, and what it is.
pub(crate) const WAYS: [(&str, &str); 5] = [
    ("lines", "trie of lines, 16-8-4-4 (ours)"),
    ("lpm", "LPM_TRIE"),
    ("hash", "hash, once a length"),
    ("blocks", "array by /26, 16-10, hash below"),
    ("pushed", "array of nodes, 16-4-4-4-4, pushed"),
];

/// How often each is timed; the shortest time counts, since others may be at work on the machine.
const ROUNDS: usize = 7;
/// Destinations of one run of a program, and how many there are in all.
const LOOKUPS: u32 = 64;
const DESTINATIONS: usize = 1 << 20;
/// How many of them are hot.
const HOT: usize = 1024;

/// Nanoseconds a lookup, in the order of [`WAYS`].
pub(crate) struct Times {
    pub(crate) random: Vec<f64>,
    pub(crate) hot: Vec<f64>,
}

/// Times the lookups in a table that an agent has written to the maps below `pins`, and in the same
/// of other kinds.
pub(crate) fn time(pins: &Pins, routes: &[(Ipv4Net, u32)], random: &[u32]) -> Result<Times> {
    let object = env::var_os("UNDERPASS_LOOKUPS_OBJECT")
        .context("UNDERPASS_LOOKUPS_OBJECT is not set: run this by `cargo xtask bench routes`")?;
    let nodes = pushed(routes);
    let mut ebpf = EbpfLoader::new()
        .map_pin_path(maps::ROUTES, pins.map(maps::ROUTES))
        .map_max_entries("PUSHED", u32::try_from(nodes.len())?)
        .load(&fs::read(object)?)?;
    write_array(&mut ebpf, "PUSHED", &nodes)?;
    write_lpm(&mut ebpf, routes)?;
    write_hash(&mut ebpf, routes)?;
    write_blocks(&mut ebpf, routes)?;
    let expected: HashMap<_, _> = routes
        .iter()
        .map(|(prefix, id)| (*prefix, id + 1))
        .collect();
    Ok(Times {
        random: time_all(&mut ebpf, &expected, random)?,
        hot: time_all(&mut ebpf, &expected, &random[..HOT])?,
    })
}

fn time_all(
    ebpf: &mut Ebpf,
    expected: &HashMap<Ipv4Net, u32>,
    destinations: &[u32],
) -> Result<Vec<f64>> {
    let all: Vec<u32> = destinations
        .iter()
        .copied()
        .cycle()
        .take(DESTINATIONS)
        .collect();
    write_array(ebpf, "TO", &all)?;
    let expected: u64 = all.iter().map(|to| longest(expected, *to)).sum();
    let mut empty = f64::MAX;
    let mut best = vec![f64::MAX; WAYS.len()];
    for _ in 0..ROUNDS {
        empty = empty.min(run(ebpf, "nothing")?.0);
        for (best, (program, _)) in best.iter_mut().zip(WAYS) {
            let (time, sum) = run(ebpf, program)?;
            ensure!(
                sum == expected,
                "{program} finds other routes than there are"
            );
            *best = best.min(time);
        }
    }
    Ok(best.into_iter().map(|time| time - empty).collect())
}

fn longest(routes: &HashMap<Ipv4Net, u32>, to: u32) -> u64 {
    let found = (0..=32).rev().find_map(|length| {
        let prefix = Ipv4Net::new_assert(Ipv4Addr::from(to), length).trunc();
        routes.get(&prefix).copied()
    });
    found.unwrap_or(0).into()
}

/// Runs a program once over all destinations: nanoseconds a lookup, and the sum of what was found.
fn run(ebpf: &mut Ebpf, program: &str) -> Result<(f64, u64)> {
    const FRAME: [u8; 64] = [0; 64];
    write_array(ebpf, "STATE", &[[0u64, 0]])?;
    let xdp: &mut Xdp = ebpf
        .program_mut(program)
        .context(program.to_owned())?
        .try_into()?;
    if xdp.fd().is_err() {
        xdp.load().context(program.to_owned())?;
    }
    let result = xdp.test_run(TestRunOptions {
        data_in: Some(&FRAME),
        repeat: u32::try_from(DESTINATIONS)? / LOOKUPS,
        ..TestRunOptions::default()
    })?;
    let state: Array<_, [u64; 2]> = Array::try_from(ebpf.map("STATE").context("STATE")?)?;
    // The kernel gives the mean of all runs, in whole nanoseconds.
    let time = result.duration.as_secs_f64() * 1e9 / f64::from(LOOKUPS);
    Ok((time, state.get(&0, 0)?[1]))
}

fn write_array<V: aya::Pod>(ebpf: &mut Ebpf, map: &str, values: &[V]) -> Result<()> {
    let mut array: Array<_, V> = Array::try_from(ebpf.map_mut(map).context(map.to_owned())?)?;
    for (index, value) in (0..).zip(values) {
        array.set(index, *value, 0)?;
    }
    Ok(())
}

fn write_lpm(ebpf: &mut Ebpf, routes: &[(Ipv4Net, u32)]) -> Result<()> {
    let mut lpm: LpmTrie<_, [u8; 4], u32> = LpmTrie::try_from(ebpf.map_mut("LPM").context("LPM")?)?;
    for (prefix, id) in routes {
        let key = Key::new(prefix.prefix_len().into(), prefix.network().octets());
        lpm.insert(&key, id + 1, 0)?;
    }
    Ok(())
}

fn write_hash(ebpf: &mut Ebpf, routes: &[(Ipv4Net, u32)]) -> Result<()> {
    const NONE: u32 = 33;
    let mut used = [false; 33];
    let map = ebpf.map_mut("HASH").context("HASH")?;
    let mut hash: BpfHashMap<_, [u32; 2], u32> = BpfHashMap::try_from(map)?;
    for (prefix, id) in routes {
        used[usize::from(prefix.prefix_len())] = true;
        let key = [prefix.network().to_bits(), prefix.prefix_len().into()];
        hash.insert(key, id + 1, 0)?;
    }
    let mut lengths = [NONE; 34];
    let in_use = (0..=32u32).rev().filter(|length| used[*length as usize]);
    lengths
        .iter_mut()
        .zip(in_use)
        .for_each(|(place, length)| *place = length);
    write_array(ebpf, "LENGTHS", &[lengths])
}

/// Of routes that are /16 to /26, or longer.
fn write_blocks(ebpf: &mut Ebpf, routes: &[(Ipv4Net, u32)]) -> Result<()> {
    const LONGER: u32 = 1 << 31;
    let mut roots = vec![0u64; 1 << 16];
    let mut blocks = vec![0u32; 1024];
    for (prefix, id) in shorter_first(routes) {
        let address = prefix.network().to_bits();
        let root = &mut roots[(address >> 16) as usize];
        if *root == 0 {
            *root = (u64::try_from(blocks.len())? / 1024) << 32;
            blocks.resize(blocks.len() + 1024, 0);
        }
        let first = usize::try_from((*root >> 32) * 1024)? + (address >> 6 & 0x3ff) as usize;
        match prefix.prefix_len() {
            27.. => blocks[first] |= LONGER,
            length => blocks[first..first + (1 << (26 - length))].fill(id + 1),
        }
    }
    write_array(ebpf, "BLOCK_ROOTS", &roots)?;
    write_array(ebpf, "BLOCKS", &blocks)
}

/// Nodes for routes that are /16 or longer.
fn pushed(routes: &[(Ipv4Net, u32)]) -> Vec<[u64; 16]> {
    const HOP: u64 = 0xffff_ffff;
    let mut nodes = vec![[0u64; 16]; 1 << 12];
    for (prefix, id) in shorter_first(routes) {
        let address = prefix.network().to_bits();
        let length = u32::from(prefix.prefix_len());
        let (mut node, mut end) = ((address >> 20) as usize, 16);
        while length > end {
            let entry = (address >> (32 - end) & 0xf) as usize;
            let mut child = (nodes[node][entry] >> 32) as usize;
            if child == 0 {
                child = nodes.len();
                nodes[node][entry] |= (child as u64) << 32;
                nodes.push([0; 16]);
            }
            (node, end) = (child, end + 4);
        }
        let first = (address >> (32 - end) & 0xf) as usize;
        for entry in &mut nodes[node][first..first + (1 << (end - length))] {
            *entry = *entry & !HOP | u64::from(id + 1);
        }
    }
    nodes
}

fn shorter_first(routes: &[(Ipv4Net, u32)]) -> Vec<(Ipv4Net, u32)> {
    let mut routes = routes.to_vec();
    routes.sort_by_key(|(prefix, _)| prefix.prefix_len());
    routes
}
