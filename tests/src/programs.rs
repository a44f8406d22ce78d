//! Running a node's programs on given frames, by `BPF_PROG_TEST_RUN`.

use anyhow::{Context as _, Result};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions};
use dataplane_common::abi::Hook;
use dataplane_user::dataplane::{self, Dataplane, Pins};
use nix::sys::utsname::uname;

use crate::{NetNs, Node};

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its verdict, one of `TC_ACT_*` or `XDP_*`.
    pub action: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Its firewall mark afterwards; none before it is a socket buffer.
    pub mark: u32,
}

/// What the kernel says of a frame besides its bytes: as much as `BPF_PROG_TEST_RUN` lets one say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// Index of the interface it is on, in the namespace of the node.
    pub ifindex: u32,
    /// Bytes of payload in each of the segments that a device has yet to cut it into, or 0.
    pub gso_size: u32,
    /// Its firewall mark.
    pub mark: u32,
}

/// A second load of the programs, on the maps that the node's agent has filled.
pub struct Programs {
    dataplane: Dataplane,
    ns: NetNs,
}

/// `TC_ACT_UNSPEC`: on to the stack.
pub const TO_STACK: i32 = -1;
/// `TC_ACT_SHOT`: dropped.
pub const DROPPED: i32 = 2;
/// `TC_ACT_REDIRECT`: to another interface.
pub const REDIRECTED: i32 = 7;
/// `XDP_DROP`.
pub const XDP_DROPPED: i32 = 1;
/// `XDP_PASS`: on to the stack.
pub const XDP_PASSED: i32 = 2;

/// Size of `struct __sk_buff`, and where some of its fields are.
const CONTEXT_SIZE: usize = 192;
const CONTEXT_MARK: usize = 8;
const CONTEXT_IFINDEX: usize = 40;
const CONTEXT_GSO_SIZE: usize = 176;
/// Room for the longest encapsulation behind what went in.
const GROWTH: usize = 128;

impl Programs {
    /// Loads the programs for `node`, where an agent has to be in sync.
    pub fn load(node: &Node) -> Result<Self> {
        Ok(Self {
            dataplane: dataplane::load(&Pins::new(node.pins()))?,
            ns: node.ns().clone(),
        })
    }

    /// See [`Dataplane::forgets_tunnels`].
    #[must_use]
    pub fn forgets_tunnels(&self) -> bool {
        self.dataplane.forgets_tunnels()
    }

    /// Runs the program of `hook` on `frame` as if it were on interface `interface`.
    pub fn run(&mut self, hook: Hook, interface: &str, frame: &[u8]) -> Result<Ran> {
        self.run_offloaded(hook, interface, frame, 0)
    }

    /// Runs the XDP program on `frame`. What it leaves in front of the frame comes first, where
    /// [`test_runs_show_metadata`].
    pub fn run_xdp(&mut self, frame: &[u8]) -> Result<Ran> {
        let mut output = vec![0; frame.len() + GROWTH];
        let result = self
            .dataplane
            .xdp()?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                ..TestRunOptions::default()
            })
            .context("run xdp_uplink")?;
        output.truncate(usize::try_from(result.data_size_out)?);
        Ok(Ran {
            action: result.return_value.cast_signed(),
            frame: output,
            mark: 0,
        })
    }

    /// As [`Programs::run`], for a packet that a device has yet to cut into segments with this many
    /// bytes of payload each.
    pub fn run_offloaded(
        &mut self,
        hook: Hook,
        interface: &str,
        frame: &[u8],
        gso_size: u32,
    ) -> Result<Ran> {
        let ifindex = self.ns.run(|| {
            nix::net::if_::if_nametoindex(interface)
                .with_context(|| format!("find the interface {interface}"))
        })?;
        let context = Context {
            ifindex,
            gso_size,
            ..Context::default()
        };
        self.run_in(hook, context, frame)
    }

    /// Runs the program of `hook` on `frame` with this context.
    pub fn run_in(&mut self, hook: Hook, context: Context, frame: &[u8]) -> Result<Ran> {
        let Self { dataplane, ns } = self;
        let program = dataplane.program(hook)?;
        let mut input = [0; CONTEXT_SIZE];
        for (offset, value) in [
            (CONTEXT_MARK, context.mark),
            (CONTEXT_IFINDEX, context.ifindex),
            (CONTEXT_GSO_SIZE, context.gso_size),
        ] {
            input[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut output = [0; CONTEXT_SIZE];
        let mut after = vec![0; frame.len() + GROWTH];
        let result = ns.run(|| {
            let options = TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ctx_in: Some(&input),
                ctx_out: Some(&mut output),
                ..TestRunOptions::default()
            };
            let ran = program.test_run(options);
            ran.with_context(|| format!("run {} in {context:?}", hook.name()))
        })?;
        after.truncate(usize::try_from(result.data_size_out)?);
        let mark = &output[CONTEXT_MARK..CONTEXT_MARK + 4];
        Ok(Ran {
            action: result.return_value.cast_signed(),
            frame: after,
            mark: u32::from_ne_bytes(mark.try_into()?),
        })
    }
}

/// The programs on one side of an interface, by their names, however they were attached.
pub fn attached(node: &Node, interface: &str, side: TcAttachType) -> Result<Vec<String>> {
    on_interface(node.ns(), interface, side)
}

/// As [`attached`], of an interface in the namespace `ns`.
pub(crate) fn on_interface(ns: &NetNs, interface: &str, side: TcAttachType) -> Result<Vec<String>> {
    let programs = ns.run(|| query_tcx(interface, side))?;
    let mut names = programs.unwrap_or_default();
    let direction = match side {
        TcAttachType::Ingress => "ingress",
        TcAttachType::Egress => "egress",
        TcAttachType::Custom(parent) => anyhow::bail!("there is no side {parent}"),
    };
    let filters = ns.exec(&format!("tc filter show dev {interface} {direction}"))?;
    for line in filters
        .lines()
        .filter(|line| line.contains("direct-action"))
    {
        let name = line.split_once(" handle ").map_or(line, |(_, name)| name);
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Whether the kernel has tcx, as 6.6 and later do.
pub fn kernel_has_tcx() -> Result<bool> {
    Ok(NetNs::new()?
        .run(|| query_tcx("lo", TcAttachType::Ingress))?
        .is_some())
}

/// Whether `BPF_PROG_TEST_RUN` shows what an XDP program leaves in front of a frame, as 5.14 and later
/// do.
pub fn test_runs_show_metadata() -> Result<bool> {
    kernel_is(5, 14)
}

/// Whether the kernel is this version or a later one.
pub fn kernel_is(major: u32, minor: u32) -> Result<bool> {
    let system = uname()?;
    let release = system.release().to_string_lossy();
    let numbers = release
        .split(['.', '-', '+'])
        .take(2)
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>()
        .with_context(|| format!("understand the release {release}"))?;
    Ok(numbers >= vec![major, minor])
}

/// `None` where the kernel has no tcx.
fn query_tcx(interface: &str, side: TcAttachType) -> Result<Option<Vec<String>>> {
    loop {
        let error = match SchedClassifier::query_tcx(interface, side) {
            Ok((_, programs)) => {
                let names = programs
                    .iter()
                    .map(|program| program.name_as_str().unwrap_or("?").to_owned());
                return Ok(Some(names.collect()));
            }
            Err(error) => error,
        };
        let errno = match &error {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        match errno {
            Some(nix::libc::EINVAL) => return Ok(None),
            // The kernel lists identifiers, and a program that is replaced before it is asked for by
            // its own is gone: then the list is another by now.
            Some(nix::libc::ENOENT) => {}
            _ => return Err(error.into()),
        }
    }
}
