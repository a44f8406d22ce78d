//! How long programs take for a packet.
//!
//! A program is run by `BPF_PROG_TEST_RUN` once a call, since the kernel would give all repetitions the
//! packet as the one before has left it, which is in a tunnel already. The kernel says how long the
//! run took, to the nanosecond; what it takes to say so is taken off, as a program that does nothing
//! takes it in the next call. Of the runs of a round the middle half counts: an interrupt, or
//! another machine on the same processor, lengthens some tenfold.
//!
//! What the redirect helpers have done behind the program (`skb_do_redirect`) is in no such time.

use anyhow::{Result, ensure};
use aya::programs::ProgramInfo;
use dataplane_common::abi::Hook;
use dataplane_tests::{
    Mode,
    floor::{FloorObject, Headers},
    programs::{Context, time},
};
use dataplane_user::{
    dataplane::{self, Dataplane, Pins},
    inspect,
};

use crate::{paths::Path, world::World};

/// Nanoseconds that a packet takes, as a round has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) ours: f64,
    /// The least that there is to do, where packets are carried.
    pub(crate) floor: Option<f64>,
    /// What is the same on every path, of all versions.
    pub(crate) reference: f64,
}

/// What is run.
pub(crate) struct Bench {
    world: World,
    dataplane: Dataplane,
    floor: FloorObject,
}

/// One of the programs that are run in turn.
#[derive(Clone, Copy)]
enum Program {
    Ours(Hook),
    Floor(&'static str),
    FloorXdp(&'static str),
}

impl Bench {
    pub(crate) fn new(world: World) -> Result<Self> {
        let node = world.node();
        let headers = Headers::between(node, node, Mode::Vxlan);
        Ok(Self {
            dataplane: dataplane::load(&Pins::new(node.pins()))?,
            floor: FloorObject::load(node, &headers, world.pod("p0"))?,
            world,
        })
    }

    /// Makes sure that the packets of a path go its way. Tables that learn then know them.
    pub(crate) fn walk(&mut self, path: &Path) -> Result<()> {
        self.world.set_established(path.is_established)?;
        let pins = Pins::new(self.world.node().pins());
        let count = || -> Result<u64> {
            let counters = inspect::counters(&pins)?;
            Ok(counters[&(path.hook, path.counted)].packets)
        };
        let before = count()?;
        for frame in &path.frames {
            let (action, _) = self.run(Program::Ours(path.hook), path.context, frame)?;
            ensure!(action == path.action, "{}: verdict {action}", path.name());
        }
        let counted = count()? - before;
        ensure!(
            counted == path.frames.len() as u64,
            "{}: only {counted} packets go this way",
            path.name()
        );
        Ok(())
    }

    /// Times the packets of a path, each once by every program.
    pub(crate) fn round(&mut self, path: &Path) -> Result<Times> {
        self.world.set_established(path.is_established)?;
        let nothing = Program::Floor("nothing");
        let own_nothing = match path.hook {
            Hook::XdpUplink => Program::FloorXdp("nothing_xdp"),
            _ => nothing,
        };
        let floor = match (path.hook, path.floor) {
            (_, None) => own_nothing,
            (Hook::XdpUplink, Some(floor)) => Program::FloorXdp(floor),
            (_, Some(floor)) => Program::Floor(floor),
        };
        let reference = Program::Floor("reference");
        let programs = [
            nothing,
            reference,
            own_nothing,
            floor,
            Program::Ours(path.hook),
        ];
        let mut times = [const { Vec::new() }; 5];
        for (program, times) in programs.iter().zip(&mut times) {
            for frame in &path.frames {
                times.push(self.run(*program, path.context, frame)?.1);
            }
        }
        let [nothing, reference, own_nothing, floor, ours] = times.map(middle);
        Ok(Times {
            ours: ours - own_nothing,
            floor: path.floor.map(|_| floor - own_nothing),
            reference: reference - nothing,
        })
    }

    /// What the kernel says of our programs.
    pub(crate) fn programs(&mut self) -> Result<Vec<(Hook, ProgramInfo)>> {
        let info = |hook| {
            Ok(match hook {
                Hook::XdpUplink => (hook, self.dataplane.xdp()?.info()?),
                _ => (hook, self.dataplane.program(hook)?.info()?),
            })
        };
        Hook::ALL.into_iter().map(info).collect()
    }

    /// Runs a program once: verdict and nanoseconds.
    fn run(
        &mut self,
        program: Program,
        context: Option<Context>,
        frame: &[u8],
    ) -> Result<(i32, f64)> {
        let (action, duration) = match program {
            Program::Ours(Hook::XdpUplink) => time(self.dataplane.xdp()?, None, frame)?,
            Program::Ours(hook) => time(self.dataplane.program(hook)?, context, frame)?,
            Program::Floor(name) => time(self.floor.program(name)?, context, frame)?,
            Program::FloorXdp(name) => time(self.floor.xdp(name)?, None, frame)?,
        };
        Ok((action, duration.as_secs_f64() * 1e9))
    }
}

/// The mean of the middle half.
#[allow(clippy::cast_precision_loss)] // few
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    let half = &values[quarter..values.len() - quarter];
    half.iter().sum::<f64>() / half.len() as f64
}
