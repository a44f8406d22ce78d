//! `cargo xtask bench routes`: what tables of 1,000 to 1,000,000 routes cost.
//!
//! The tables are pools full of /26 blocks, and one route in 50 is a /32 inside the block of another
//! node. Lookups are timed by `BPF_PROG_TEST_RUN`, less what a program takes that looks up nothing.

mod agent;
mod kernel;
mod lookups;
mod table;

use std::{env, time::Duration};

use anyhow::{Context as _, Result};
use dataplane_tests::{Lab, machine, require_root};

use agent::Measured;
use kernel::Mirrored;
use lookups::{Times, WAYS};
use table::Table;

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const DESTINATIONS: usize = 1 << 20;

fn main() -> Result<()> {
    require_root();
    let sizes = env::args().skip(1).filter(|argument| argument != "--bench");
    let mut sizes: Vec<u32> = sizes
        .map(|size| {
            size.parse()
                .with_context(|| format!("{size} is no number of routes"))
        })
        .collect::<Result<_>>()?;
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let mut rows = Vec::new();
    let mut mirrored = Vec::new();
    for size in sizes {
        eprintln!("{size} routes ...");
        let lab = Lab::flat(1, 0)?;
        let measured = agent::measure(&lab, size)?;
        let random = Table::of(size).destinations(DESTINATIONS);
        let pins = agent::pins(lab.node("node-0"));
        let times = lookups::time(&pins, &measured.routes, &random)?;
        rows.push((size, measured, times));
        drop(lab);
        mirrored.push((size, kernel::measure(&Lab::flat(1, 0)?, size)?));
    }
    println!("{}\ncargo xtask bench routes\n", machine()?);
    print_agent(&rows);
    print_mirror(&mirrored);
    print_lookups(&rows);
    Ok(())
}

/// What the agent takes with the file source.
fn print_agent(rows: &[(u32, Measured, Times)]) {
    println!(
        "{:>9} {:>9} {:>9} {:>14} {:>14} {:>14}",
        "ROUTES", "LOAD", "RESYNC", "AGENT/ROUTE", "PEAK/ROUTE", "MAPS/ROUTE"
    );
    for (size, measured, _) in rows {
        let each = |bytes: u64| format!("{} B", bytes / u64::from(*size));
        println!(
            "{size:>9} {:>9} {:>9} {:>14} {:>14} {:>14}",
            seconds(measured.load),
            seconds(measured.resync),
            each(measured.agent),
            each(measured.peak),
            each(measured.maps),
        );
    }
    println!();
}

/// What the agent takes with the kernel as its source: beside `ip -batch`, which adds the routes, and
/// for one route from the command to the map.
fn print_mirror(rows: &[(u32, Mirrored)]) {
    println!(
        "{:>9} {:>9} {:>9} {:>16} {:>9} {:>18} {:>12}",
        "MIRRORED", "IP ALONE", "BESIDE", "IN THE MAP", "START", "ONE: P50 / P99", "AGENT/ROUTE"
    );
    for (size, mirrored) in rows {
        let part = |of: usize| {
            let place = (mirrored.single.len() * of / 100).min(mirrored.single.len() - 1);
            mirrored.single[place].as_secs_f64() * 1000.0
        };
        let ratio = mirrored.written.as_secs_f64() / mirrored.alone.as_secs_f64();
        println!(
            "{size:>9} {:>9} {:>9} {:>16} {:>9} {:>18} {:>12}",
            seconds(mirrored.alone),
            seconds(mirrored.beside),
            format!("{} ({ratio:.2} x)", seconds(mirrored.written)),
            seconds(mirrored.start),
            format!("{:.2} / {:.2} ms", part(50), part(99)),
            format!("{} B", mirrored.agent / u64::from(*size)),
        );
    }
    println!();
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Nanoseconds a lookup, of random destinations and of hot ones.
fn print_lookups(rows: &[(u32, Measured, Times)]) {
    print!("{:<36}", "LOOKUP, ns: RANDOM / 1,024 HOT");
    for (size, ..) in rows {
        print!("{size:>16}");
    }
    println!();
    for (way, (_, name)) in WAYS.iter().enumerate() {
        print!("{name:<36}");
        for (.., times) in rows {
            print!(
                "{:>16}",
                format!("{:.0} / {:.0}", times.random[way], times.hot[way])
            );
        }
        println!();
    }
}
