//! How long programs take for a packet.
//!
//! Packets are sent over the lab's devices, each of a batch to another route, to each program in turn,
//! and the kernel counts how long the programs run (`BPF_ENABLE_STATS`). That includes its clock, so
//! a program that does nothing is attached in front of the others, and what the same packets take
//! there is taken off.
//!
//! `BPF_PROG_TEST_RUN` was tried first, once a call: repeated, it gives a program the packet as the run
//! before has left it, in a tunnel already. It is as steady with one packet again and again, and not
//! with many. But its packets have room in front for outer headers, which those that come by a veth
//! are copied for: to put them into a tunnel takes a third of what it takes here, and so one would
//! see the rest of a program three times as large.
//!
//! What the redirect helpers have done behind the program (`skb_do_redirect`) is in no such time.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::{
        ProgramInfo, SchedClassifier, TcAttachType, XdpMode, links::LinkOrder,
        tc::SchedClassifierLink,
    },
    sys::{Stats, enable_stats},
};
use dataplane_common::{
    abi::{Filter, Hook, Monitor, Network},
    reason::Reason,
};
use dataplane_tests::{
    PacketSocket,
    floor::{FloorObject, Headers},
};
use dataplane_user::{
    dataplane::{self, Dataplane, Listener, Pins},
    inspect,
};

use crate::{
    paths::{From, Monitored, Path},
    world::World,
};

/// How long packets may take to get through the node.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often packets are sent in a round.
const REPEATS: usize = 4;

/// Nanoseconds that a packet takes, as a round has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) ours: f64,
    /// The least that there is to do, where packets are carried.
    pub(crate) floor: Option<f64>,
    /// What is the same on every path, of all versions.
    pub(crate) reference: f64,
}

/// The node, and who sends to it.
pub(crate) struct Bench {
    world: World,
    dataplane: Dataplane,
    pod: PacketSocket,
    wire: PacketSocket,
    _statistics: OwnedFd,
}

/// A path with what is attached to it.
pub(crate) struct Track<'a> {
    path: &'a Path,
    floor: FloorObject,
    reference: SchedClassifierLink,
    _nothing: SchedClassifierLink,
    listener: Option<Listener>,
}

/// How long a program has run, and how often.
#[derive(Clone, Copy)]
struct Runs {
    time: Duration,
    count: u64,
}

impl Runs {
    fn of(info: &ProgramInfo) -> Self {
        Self {
            time: info.run_time(),
            count: info.run_count(),
        }
    }

    /// Nanoseconds a run.
    #[allow(clippy::cast_precision_loss)] // few
    fn each_since(self, before: Self) -> f64 {
        let time = self.time.saturating_sub(before.time);
        time.as_nanos() as f64 / (self.count - before.count) as f64
    }
}

/// The programs that are timed.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// The one of this hook.
    Ours(Hook),
    /// One of the floor's, on TC and on XDP.
    Floor(&'static str),
    FloorXdp(&'static str),
}

impl Bench {
    pub(crate) fn new(world: World) -> Result<Self> {
        Ok(Self {
            dataplane: dataplane::load(&Pins::new(world.node().pins()))?,
            pod: PacketSocket::open(world.pod("p0").ns(), "eth0")?,
            wire: world.wire()?,
            _statistics: enable_stats(Stats::RunTime).context("have the kernel time programs")?,
            world,
        })
    }

    /// Attaches what a path is compared with, and makes sure that its packets go that way.
    pub(crate) fn track<'a>(&mut self, path: &'a Path) -> Result<Track<'a>> {
        let node = self.world.node();
        let headers = match path.mode {
            Some(mode) => Headers::between(node, node, mode),
            None => Headers::NONE,
        };
        let pod = match path.from {
            From::Pod => "p1",
            From::Wire => "p0",
        };
        let mut floor = FloorObject::load(node, &headers, self.world.pod(pod))?;
        let place = self.place(path.hook);
        let reference = floor.attach(node, "reference", place, LinkOrder::first())?;
        let nothing = floor.attach(node, "nothing", place, LinkOrder::first())?;
        let pins = Pins::new(node.pins());
        let count = || -> Result<u64> {
            let counters = inspect::counters(&pins)?;
            Ok(counters[&(path.hook, path.counted)].packets)
        };
        self.world.set_established(path.is_established)?;
        let mut track = Track {
            path,
            floor,
            reference,
            _nothing: nothing,
            listener: listener(&pins, path.monitored)?,
        };
        let before = count()?;
        self.run(&mut track, Program::Ours(path.hook))?;
        let counted = count()? - before;
        ensure!(
            counted == (path.frames.len() * (1 + REPEATS)) as u64,
            "{}: {counted} packets go this way",
            path.name()
        );
        Ok(track)
    }

    /// Times the packets of a path once by every program.
    pub(crate) fn round(&mut self, track: &mut Track<'_>) -> Result<Times> {
        let path = track.path;
        let [ours, nothing, reference] = self.run(track, Program::Ours(path.hook))?;
        let reference = reference - nothing;
        if path.hook == Hook::XdpUplink {
            let [nothing, ..] = self.run(track, Program::FloorXdp("nothing_xdp"))?;
            let floor = match path.floor {
                Some(name) => Some(self.run(track, Program::FloorXdp(name))?[0] - nothing),
                None => None,
            };
            return Ok(Times {
                ours: ours - nothing,
                floor,
                reference,
            });
        }
        let floor = match path.floor {
            Some(name) => {
                let [floor, nothing, _] = self.run(track, Program::Floor(name))?;
                Some(floor - nothing)
            }
            None => None,
        };
        Ok(Times {
            ours: ours - nothing,
            floor,
            reference,
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

    /// Attaches a program, unless it is, and sends the packets. Returns the nanoseconds of the program, of
    /// the one that does nothing, and of the reference.
    fn run(&mut self, track: &mut Track<'_>, program: Program) -> Result<[f64; 3]> {
        let node = self.world.node();
        match program {
            Program::Ours(Hook::XdpUplink) => {
                let xdp = self.dataplane.xdp()?;
                let link = node.ns().run(|| Ok(xdp.attach("eth0", XdpMode::Driver)?))?;
                let times = self.send(track, program)?;
                self.dataplane.xdp()?.detach(link)?;
                Ok(times)
            }
            Program::Ours(_) => self.send(track, program),
            Program::FloorXdp(name) => {
                let xdp = track.floor.xdp(name)?;
                let link = node.ns().run(|| Ok(xdp.attach("eth0", XdpMode::Driver)?))?;
                let times = self.send(track, program)?;
                track.floor.xdp(name)?.detach(link)?;
                Ok(times)
            }
            Program::Floor(name) => {
                let behind = LinkOrder::after_link(&track.reference)?;
                let place = self.place(track.path.hook);
                let _link = track.floor.attach(node, name, place, behind)?;
                self.send(track, program)
            }
        }
    }

    /// Has the packets run through programs that are attached.
    fn send(&mut self, track: &mut Track<'_>, program: Program) -> Result<[f64; 3]> {
        let programs = [
            program,
            Program::Floor("nothing"),
            Program::Floor("reference"),
        ];
        // To attach a program takes a while, in which others are at work: first all is fetched again.
        self.send_all(track, programs, 1)?;
        let [before, after] = self.send_all(track, programs, REPEATS)?;
        Ok([0, 1, 2].map(|place| after[place].each_since(before[place])))
    }

    /// Sends the packets again and again, and waits until these programs have seen all of them. Returns
    /// what they had run before, and then.
    fn send_all(
        &mut self,
        track: &mut Track<'_>,
        programs: [Program; 3],
        repeats: usize,
    ) -> Result<[[Runs; 3]; 2]> {
        let path = track.path;
        if let Some(listener) = &mut track.listener {
            // That there is room for what comes.
            listener.stay()?;
            listener.drain(|_| Ok(true))?;
        }
        let before = self.runs(track, programs)?;
        let socket = match path.from {
            From::Pod => &self.pod,
            From::Wire => &self.wire,
        };
        for _ in 0..repeats {
            for frame in &path.frames {
                socket.send(frame)?;
            }
        }
        let sent = (path.frames.len() * repeats) as u64;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let after = self.runs(track, programs)?;
            if (0..3).all(|place| after[place].count - before[place].count >= sent) {
                return Ok([before, after]);
            }
            ensure!(
                Instant::now() < deadline,
                "{}: packets do not get through {:?}",
                path.name(),
                programs[0]
            );
        }
    }

    fn runs(&mut self, track: &mut Track<'_>, programs: [Program; 3]) -> Result<[Runs; 3]> {
        let [one, two, three] = programs.map(|program| {
            let info = match program {
                Program::Ours(Hook::XdpUplink) => self.dataplane.xdp()?.info()?,
                Program::Ours(hook) => self.attached(hook)?,
                Program::Floor(name) => track.floor.program(name)?.info()?,
                Program::FloorXdp(name) => track.floor.xdp(name)?.info()?,
            };
            Ok::<_, anyhow::Error>(Runs::of(&info))
        });
        Ok([one?, two?, three?])
    }

    /// The program that the agent has attached.
    fn attached(&self, hook: Hook) -> Result<ProgramInfo> {
        let (ifname, side) = self.place(hook);
        let query = || Ok(SchedClassifier::query_tcx(ifname, side)?.1);
        let programs = self.world.node().ns().run(query)?;
        let ours = programs
            .into_iter()
            .find(|program| program.name_as_str() == Some(hook.name()));
        ours.with_context(|| format!("{} is not attached", hook.name()))
    }

    /// Where a program sits, or, of one on XDP, what it is compared with.
    fn place(&self, hook: Hook) -> (&str, TcAttachType) {
        let pod = self.world.pod("p0").host_ifname();
        match hook {
            Hook::FromWorkload => (pod, TcAttachType::Ingress),
            Hook::ToWorkload => (pod, TcAttachType::Egress),
            Hook::ToUplink => ("eth0", TcAttachType::Egress),
            Hook::FromUplink | Hook::XdpUplink => ("eth0", TcAttachType::Ingress),
            Hook::FromStack | Hook::FromCarrier => ("underpass0", TcAttachType::Ingress),
        }
    }
}

/// The one who listens, if anybody does.
fn listener(pins: &Pins, monitored: Monitored) -> Result<Option<Listener>> {
    const VXLAN_PORT: u16 = 4789;
    /// As much as `underpass monitor` asks for, to print it.
    const SNAP: u32 = 128;
    let mut filter = Filter::any(VXLAN_PORT);
    match monitored {
        Monitored::No => return Ok(None),
        Monitored::Others => filter.networks[0] = Network::new([198, 51, 100, 1], 32),
        Monitored::All => {}
    }
    let mut monitor = Monitor {
        sample: u32::MAX,
        snap: SNAP,
        filter,
        ..Monitor::OFF
    };
    for hook in Hook::ALL {
        for reason in Reason::ALL {
            monitor.want(hook, *reason);
        }
    }
    Listener::start(pins, monitor).map(Some)
}
