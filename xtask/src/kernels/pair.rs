//! Two machines with a cable between them.
//!
//! The cable is a Unix socket between two virtio-net devices of one queue: what this driver does
//! for want of queues is part of what is tested.

use std::{
    fs,
    panic::resume_unwind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Kernel, cache_of, fetch::Unpacked, image::Image, machine::Machine, modules, report::Report,
};

/// How long the first machine may take to offer its end of the cable.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the two, as the tests are told by `UNDERPASS_TEST_SIDE`.
struct Side {
    name: &'static str,
    /// Whether it waits for the other to plug the cable in.
    server: &'static str,
    mac: &'static str,
}

const LEFT: Side = Side {
    name: "left",
    server: "on",
    mac: "02:00:00:00:00:01",
};

const RIGHT: Side = Side {
    name: "right",
    server: "off",
    mac: "02:00:00:00:00:02",
};

/// Has the kernel's clock tick while there is nothing to do, too: /proc/stat has what ticks see, and
/// what interrupts do between two stopped ones would be taken for idleness.
pub(super) const STEADY_TICKS: &str = "nohz=off";

/// Boots both with `kernel`, which is told `parameters`, at once, and reports of both.
pub(super) fn run(
    kernel: &Kernel,
    unpacked: &Unpacked,
    image: &Image,
    parameters: &str,
) -> Result<Vec<Report>> {
    let directory = cache_of(kernel)?.join("pair");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let initrd = directory.join("initrd");
    image.write_for(
        unpacked,
        &[modules::LAB, modules::NETWORK].concat(),
        &initrd,
    )?;
    // In a short place: the path of a socket has little room.
    let place = tempfile::tempdir().context("cannot create a directory for the cable")?;
    let cable = place.path().join("cable");
    let boot = |side: &Side| {
        let machine = Machine {
            name: format!("{}-{}", kernel.name, side.name),
            kernel: unpacked,
            initrd: &initrd,
            parameters,
            environment: &[("UNDERPASS_TEST_SIDE", side.name)],
            devices: side.devices(&cable),
            log: &directory.join(format!("console-{}.log", side.name)),
        };
        machine.run()
    };
    thread::scope(|scope| {
        let left = scope.spawn(|| boot(&LEFT));
        let right = wait_for(&cable).and_then(|()| boot(&RIGHT));
        let left = left.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(vec![left?, right?])
    })
}

impl Side {
    /// Its network device, at its end of the cable.
    fn devices(&self, cable: &Path) -> Vec<String> {
        let Self { server, mac, .. } = self;
        let netdev = format!(
            "stream,id=cable,server={server},addr.type=unix,addr.path={}",
            cable.display()
        );
        let device = format!("virtio-net-pci,netdev=cable,mac={mac},romfile=");
        ["-netdev".into(), netdev, "-device".into(), device].into()
    }
}

fn wait_for(cable: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !cable.exists() {
        ensure!(
            Instant::now() < deadline,
            "the first machine has no end of a cable"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
