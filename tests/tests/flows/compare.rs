//! The same with underpass as without.

use anyhow::{Context as _, Result};
use dataplane_tests::netfilter::{Acceleration, Backend, Routes, Scene};

/// Plays a scenario without underpass, and with it, verified again as often as `reverify` says, among
/// nodes of so many pods. It returns what it finds tracked, which has to be the same; and no more
/// packets may be invalid.
pub(crate) fn with_and_without(
    reverify: &'static str,
    (routes, backend): (Routes, Backend),
    pods: usize,
    scenario: impl Fn(&mut Scene) -> Result<Vec<String>>,
) -> Result<()> {
    dataplane_tests::require_root();
    let play = |acceleration: Acceleration| {
        let mut scene = Scene::start(acceleration, routes, backend, pods)?;
        let tracked = scenario(&mut scene)?;
        anyhow::Ok((tracked, scene.invalid()?))
    };
    let (off, on) = (Acceleration::Off, Acceleration::Established(reverify));
    let (tracked, invalid) = play(off).context("without underpass")?;
    let (tracked_on, invalid_on) = play(on).with_context(|| on.to_string())?;
    assert_eq!(tracked_on, tracked, "{on}: what is tracked");
    assert!(
        invalid_on <= invalid,
        "{on}: {invalid_on} packets were invalid, {invalid} without"
    );
    Ok(())
}
