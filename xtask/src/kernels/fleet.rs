//! Several machines at a time.

use std::{
    cmp::Reverse,
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::Result;

use super::{
    CONSOLE, Kernel, cache_of, fetch::Unpacked, image::Image, machine::Machine, modules,
    report::Report,
};

/// Runs a machine for each kernel, as many at a time as there are processors here: a machine has
/// one. The newest, which takes longest, begins. Their reports come back in the order of the kernels.
pub(super) fn run(kernels: &[(&Kernel, Unpacked)], image: &Image) -> Result<Vec<Report>> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Report)>> {
        let mut reports = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((kernel, unpacked)) = kernels.iter().rev().nth(index) else {
                return Ok(reports);
            };
            reports.push((index, boot(kernel, unpacked, image)?));
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut reports: Vec<_> = done.into_iter().flatten().collect();
    reports.sort_by_key(|(index, _)| Reverse(*index));
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

fn boot(kernel: &Kernel, unpacked: &Unpacked, image: &Image) -> Result<Report> {
    let cache = cache_of(kernel)?;
    let initrd = cache.join("initrd");
    image.write_for(unpacked, modules::LAB, &initrd)?;
    let end = kernel.is_at_an_end().then_some(("UNDERPASS_TEST_END", "1"));
    let machine = Machine {
        name: kernel.name.to_owned(),
        kernel: unpacked,
        initrd: &initrd,
        parameters: "",
        environment: end.as_slice(),
        devices: Vec::new(),
        log: &cache.join(CONSOLE),
    };
    machine.run()
}
