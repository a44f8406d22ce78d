//! `cargo xtask bench`: what is measured of the ways in which packets get from pod to pod, all of them
//! in one run and each beside its baselines, in rounds that take turns.
//!
//! It is here, and not with the other benchmarks, for its tests: cargo runs none of a benchmark.

mod charts;
mod json;
mod measurements;
mod paths;
mod plan;
mod report;
mod results;
mod routes;
mod scenes;

use std::path;

use anyhow::Result;
use clap::Parser as _;

use self::{
    json::Document,
    measurements::Measurement,
    paths::Path,
    plan::{Arguments, Plan},
    results::Results,
    scenes::{Scene, Way},
};
use crate::{machine, require_root, two_processors};

/// Measures what the command line says, prints it, and writes charts to `directory`.
pub fn run(directory: &path::Path) -> Result<()> {
    require_root();
    let arguments = Arguments::parse();
    let plan = Plan::of(&arguments);
    let mut about = About {
        machine: machine()?,
        command: arguments.command(),
        rounds: plan.rounds,
        not_run: Vec::new(),
    };
    if two_processors().is_none() {
        let reason = "there is one processor alone, which nothing can be kept from";
        about
            .not_run
            .push(("keeping ends apart".to_owned(), reason));
    }
    let scenes = begin(&mut about)?;
    let mut results = Results::default();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {} ...", plan.rounds);
        measure(&plan, &scenes, &mut results)?;
    }
    drop(scenes);
    for &routes in plan.routes {
        eprintln!("{routes} routes ...");
        results.by_routes.extend(routes::measure(&plan, routes)?);
    }
    let charts = charts::draw(directory, &about, &results)?;
    if arguments.json {
        println!("{}", Document::of(&about, &results).text()?);
    } else {
        print!("{}", report::text(&about, &results));
    }
    for chart in charts {
        eprintln!("{}", chart.display());
    }
    Ok(())
}

/// What was measured, on what, and by which command.
struct About {
    machine: String,
    command: String,
    rounds: usize,
    /// What could not be, and why.
    not_run: Vec<(String, &'static str)>,
}

/// Builds every scene that this kernel can have.
fn begin(about: &mut About) -> Result<Vec<Scene>> {
    let mut scenes = Vec::new();
    for way in Way::all() {
        if let Some(reason) = way.obstacle()? {
            about.not_run.push((way.to_string(), reason));
        } else {
            eprintln!("{way} ...");
            scenes.push(Scene::begin(way)?);
        }
    }
    Ok(scenes)
}

/// Measures everything once, each thing on all scenes in turn, so that what is compared is not far
/// apart.
fn measure(plan: &Plan, scenes: &[Scene], results: &mut Results) -> Result<()> {
    for &path in plan.paths {
        for &measurement in plan.measurements {
            for scene in scenes.iter().filter(|scene| scene.way().has(path)) {
                if measurement.is_of(scene.way(), path) {
                    measurement.take(plan, scene, path, results)?;
                }
            }
        }
    }
    Ok(())
}
