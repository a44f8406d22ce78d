//! What the commands of underpass print, and the maps as the programs see them.

use anyhow::{Result, ensure};

use super::archive::Archive;
use crate::{
    config::{Config, Source},
    dataplane::Pins,
    inspect::{self, Format, Listed, Selection, Snapshot},
};

pub(super) async fn add(archive: &mut Archive, pins: &Pins, config: &Config) -> Result<()> {
    let pinned = || {
        let base = pins.base().display();
        ensure!(pins.exist(), "nothing is pinned in {base} by this version");
        Ok(pins)
    };
    let snapshot = || Snapshot::read(pinned()?);
    archive
        .add("status.json", async || {
            inspect::render_status(&inspect::status(pinned()?)?, Format::Json)
        })
        .await?;
    list(archive, "routes", || Ok(inspect::routes(&snapshot()?))).await?;
    list(archive, "next-hops", || inspect::next_hops(pinned()?)).await?;
    list(archive, "endpoints", || {
        Ok(inspect::endpoints(&snapshot()?))
    })
    .await?;
    list(archive, "peers", || Ok(inspect::peers(&snapshot()?))).await?;
    list(archive, "flows", || {
        inspect::flows(pinned()?, &Selection::default())
    })
    .await?;
    list(archive, "counters", || {
        inspect::counter_rows(pinned()?, true)
    })
    .await?;
    list(archive, "links", || inspect::links(pinned()?)).await?;
    list(archive, "maps", || inspect::maps(pinned()?)).await?;
    list(archive, "programs", || inspect::programs(pinned()?)).await?;
    if matches!(config.source, Source::Kernel(_)) {
        archive
            .add("unmirrored.json", async || {
                json(&inspect::unmirrored(config).await?)
            })
            .await?;
    }
    archive
        .add("diff.json", async || {
            json(&inspect::diff(config, pinned()?).await?)
        })
        .await?;
    // What `underpass explain` would look into.
    archive
        .add("snapshot.txt", async || Ok(format!("{:#?}\n", snapshot()?)))
        .await
}

async fn list<R: Listed>(
    archive: &mut Archive,
    noun: &str,
    read: impl FnOnce() -> Result<Vec<R>>,
) -> Result<()> {
    archive
        .add(&format!("{noun}.json"), async || json(&read()?))
        .await
}

fn json<R: Listed>(rows: &[R]) -> Result<String> {
    inspect::render(rows, Format::Json)
}
