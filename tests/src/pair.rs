//! Two machines with a cable between them, each a node: tests on a real network driver.
//!
//! Both machines run the same tests in the same order, and each test on both at once. A test says
//! what a side does, and where the two sides meet.

use std::cell::RefCell;
use std::env;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::calico::Remote;
use crate::cluster::cluster_yaml_of;
use crate::lab::on_one_subnet;
use crate::{Agent, Lab, Mac, Mode, Node, NodeSpec, eventually, patient};

/// The machine's end of the cable.
const DEVICE: &str = "eth0";

/// The TCP port by which the sides meet.
const PORT: u16 = 7000;

/// How long a side waits for the other.
const MEETING: Duration = Duration::from_secs(20);

/// Which of the two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `node-0`.
    Left,
    /// `node-1`.
    Right,
}

impl Side {
    /// Both, for what each does in its turn.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// This machine, as `UNDERPASS_TEST_SIDE` names it.
    fn of_this_machine() -> Result<Self> {
        match env::var("UNDERPASS_TEST_SIDE").as_deref() {
            Ok("left") => Ok(Self::Left),
            Ok("right") => Ok(Self::Right),
            _ => bail!(
                "this takes two machines: run it by `cargo xtask pair` or `cargo xtask bench --vms`"
            ),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Left => 0,
            Self::Right => 1,
        }
    }
}

/// One side of a test: this machine's node, whose `eth0` is the machine's own, and a way to meet
/// the other side.
#[derive(Debug)]
pub struct Pair {
    side: Side,
    specs: Vec<NodeSpec>,
    lab: Lab,
    other: RefCell<BufReader<TcpStream>>,
}

impl Pair {
    /// Makes this machine the node that [`Lab::flat`] would have in its place, with as many pods,
    /// and waits until the other machine is the other.
    pub fn join(pods: usize) -> Result<Self> {
        let side = Side::of_this_machine()?;
        let specs = on_one_subnet(2, pods);
        let lab = Lab::new(&[specs[side.index()].clone().device(DEVICE)])?;
        let node = &lab.nodes()[0];
        let other = match side {
            Side::Left => accept(node)?,
            Side::Right => connect(node, specs[Side::Left.index()].address.addr())?,
        };
        other.set_read_timeout(Some(patient(MEETING)))?;
        Ok(Self {
            side,
            specs,
            lab,
            other: RefCell::new(BufReader::new(other)),
        })
    }

    /// Which side this machine is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The node that this machine is.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    /// The address of the other node's pod that is as this node's pod `name`: pods have the same
    /// names and places in their CIDRs on both.
    #[must_use]
    pub fn remote_pod(&self, name: &str) -> Ipv4Addr {
        let (here, there) = (self.node().spec(), self.remote());
        let place = u32::from(self.node().pod(name).address()) - u32::from(here.pod_cidr.network());
        Ipv4Addr::from(u32::from(there.pod_cidr.network()) + place)
    }

    /// The address of the other node.
    #[must_use]
    pub fn remote_address(&self) -> Ipv4Addr {
        self.remote().address.addr()
    }

    /// The other node, as one without underpass has to know it.
    #[must_use]
    pub fn remote_node(&self) -> Remote {
        let there = self.remote();
        Remote {
            address: there.address.addr(),
            block: there.pod_cidr,
            tunnel_address: there.tunnel_address(),
            vtep_mac: Mac::of_vtep(&there.name),
        }
    }

    fn remote(&self) -> &NodeSpec {
        &self.specs[self.side.other().index()]
    }

    /// Starts this node's agent, with `config` behind the usual configuration, and waits until it
    /// is in sync and knows its pods.
    pub fn start_agent(&self, mode: Mode, config: &str) -> Result<Agent> {
        let node = self.node();
        let cluster = cluster_yaml_of(&self.specs, mode.ipip_mode(), mode.vxlan_mode());
        let agent = Agent::start(node, &(node.agent_config() + config), &cluster)?;
        node.wait_resolved()?;
        Ok(agent)
    }

    /// Waits until the other side has come to the same place. It is an error if it has come to
    /// another, or to the end of its test.
    pub fn meet(&self, place: &str) -> Result<()> {
        let mut other = self.other.borrow_mut();
        writeln!(other.get_mut(), "{place}").context("tell the other side")?;
        let mut line = String::new();
        other
            .read_line(&mut line)
            .with_context(|| format!("wait for the other side at {place:?}"))?;
        let there = line.trim_end();
        ensure!(
            there == place,
            "at {place:?}, the other side is at {there:?}"
        );
        Ok(())
    }
}

fn accept(node: &Node) -> Result<TcpStream> {
    let address = (node.address().addr(), PORT);
    let listener = node.ns().run(|| Ok(TcpListener::bind(address)?))?;
    listener.set_nonblocking(true)?;
    let mut accepted = None;
    eventually("the other machine is there", || {
        match listener.accept() {
            Ok((stream, _)) => accepted = Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(accepted.is_some())
    })?;
    let stream = accepted.context("nobody has connected")?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn connect(node: &Node, left: Ipv4Addr) -> Result<TcpStream> {
    let mut connected = None;
    eventually("the other machine is there", || {
        // Refused, until the other side listens.
        connected = node
            .ns()
            .run(|| Ok(TcpStream::connect((left, PORT)).ok()))?;
        Ok(connected.is_some())
    })?;
    connected.context("not connected")
}
