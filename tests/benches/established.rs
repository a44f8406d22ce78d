//! `cargo xtask bench established`: what acceleration beside netfilter costs and gains, on nodes with
//! Calico's VXLAN and kube-proxy's rules: by the kernel alone, by route alone (`all`), and of
//! established flows, all in one run, in rounds that take turns.

use std::{collections::BTreeMap, env, fs, net::SocketAddrV4, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use dataplane_tests::{
    Agent, Counters, Lab, Network, Node, Pod, TcpOptions, machine,
    netfilter::KubeProxy,
    require_root,
    statistics::{self, Spread},
    tcp_throughput,
    web::{self, Load, WebServer},
};

const ROUNDS: usize = 10;

/// Seconds of a stream in each round.
const STREAM: u16 = 2;

/// A connection for each request.
const CONNECTIONS: Load = Load {
    requests: 4000,
    at_once: 8,
    keep_alive: false,
};

/// Connections that are kept.
const KEPT: Load = Load {
    keep_alive: true,
    ..CONNECTIONS
};

/// The programs that packets of a stream meet between nodes.
const PROGRAMS: [&str; 3] = ["from_workload", "to_uplink", "from_uplink"];

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

type Start = fn(&Node) -> Result<Agent>;

fn main() -> Result<()> {
    require_root();
    let rounds = env::args().skip(1).find(|argument| argument != "--bench");
    let rounds = rounds.map_or(Ok(ROUNDS), |rounds| {
        let number = rounds.parse();
        number.with_context(|| format!("{rounds} is no number of rounds"))
    })?;
    let mut scenes = [
        Scene::begin("kernel", None)?,
        Scene::begin("all", Some(Agent::mirror))?,
        Scene::begin("established", Some(Agent::mirror_beside_netfilter))?,
    ];
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds} ...");
        for scene in &mut scenes {
            scene.measure()?;
        }
    }
    println!("{}\ncargo xtask bench established {rounds}\n", machine()?);
    print(&scenes);
    let [.., established] = &scenes;
    let (carried, left) = established.mixed_load()?;
    println!(
        "\nof a mixed HTTP load, half of it a connection for each request, {:.1} % of the pods' \
         packets are carried",
        carried / (carried + left) * 100.0
    );
    Ok(())
}

/// Two nodes with a client and a server, and what was measured there, round by round.
struct Scene {
    name: &'static str,
    agents: Vec<Agent>,
    _server: WebServer,
    /// Of a stream, in bits per second.
    throughput: Vec<f64>,
    /// Nanoseconds that each of [`PROGRAMS`] takes for a packet of that stream.
    programs: [Vec<f64>; 3],
    /// Connections a second, each for one request.
    connections: Vec<f64>,
    lab: Lab,
}

impl Scene {
    fn begin(name: &'static str, start: Option<Start>) -> Result<Self> {
        let lab = Lab::flat(2, 1)?;
        Network::FelixVxlan.set_up(&lab)?;
        for node in lab.nodes() {
            KubeProxy::IptablesNft.program(node, &[])?;
        }
        let agents = match start {
            Some(start) => lab.nodes().iter().map(start).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let node = lab.node("node-1");
        Ok(Self {
            name,
            agents,
            _server: WebServer::start(node, node.pod("p0"))?,
            throughput: Vec::new(),
            programs: Default::default(),
            connections: Vec::new(),
            lab,
        })
    }

    fn measure(&mut self) -> Result<()> {
        let stream = self.stream()?;
        self.throughput.push(stream);
        if !self.agents.is_empty() {
            let before = Runs::read()?;
            fs::write(STATISTICS, "1")?;
            let streamed = self.stream();
            fs::write(STATISTICS, "0")?;
            streamed?;
            let runs = Runs::read()?;
            for (name, times) in PROGRAMS.iter().zip(&mut self.programs) {
                times.extend(runs.each_since(&before, name));
            }
        }
        let rate = self.load(CONNECTIONS)?;
        self.connections.push(rate);
        Ok(())
    }

    /// Between processors that each have an end, which is the steadier way.
    fn stream(&self) -> Result<f64> {
        let (client, server) = self.pods();
        let options = TcpOptions {
            processors: Some((0, 1)),
            ..TcpOptions::default()
        };
        let (from, to) = (client.ns(), server.ns());
        let measured = tcp_throughput(to, from, server.address(), STREAM, &options)?;
        Ok(measured.bits_per_second)
    }

    /// Returns how many requests there were in a second.
    fn load(&self, load: Load) -> Result<f64> {
        let (client, server) = self.pods();
        load.put(client.ns(), SocketAddrV4::new(server.address(), web::PORT))
    }

    fn pods(&self) -> (&Pod, &Pod) {
        (self.lab.pod("node-0", "p0"), self.lab.pod("node-1", "p0"))
    }

    /// How many packets of both kinds of connections were carried, and how many left to the stack.
    fn mixed_load(&self) -> Result<(f64, f64)> {
        let node = self.lab.node("node-0");
        let before = Counters::read(node)?;
        self.load(CONNECTIONS)?;
        self.load(KEPT)?;
        let counted = Counters::read(node)?.since(&before);
        let count = |of: &[(&str, &str)]| {
            let counts = of.iter().map(|(hook, why)| counted.get(hook, why).packets);
            #[allow(clippy::cast_precision_loss)] // packets of seconds
            let sum = counts.sum::<u64>() as f64;
            sum
        };
        let carried = [
            ("from_workload", "sent-vxlan"),
            ("from_uplink", "received-vxlan"),
        ];
        let why_left = ["handshake", "not-established", "reverify"];
        let left = why_left.map(|why| [("from_workload", why), ("from_uplink", why)]);
        Ok((count(&carried), count(left.as_flattened())))
    }
}

/// How long programs have run, and how often, by their names.
struct Runs(BTreeMap<String, (Duration, u64)>);

impl Runs {
    fn read() -> Result<Self> {
        let mut runs = BTreeMap::<_, (Duration, u64)>::new();
        for program in loaded_programs() {
            let program = program?;
            let name = program.name_as_str().unwrap_or_default();
            let (time, count) = runs.entry(name.to_owned()).or_default();
            *time += program.run_time();
            *count += program.run_count();
        }
        Ok(Self(runs))
    }

    /// Nanoseconds for each time that the program called `name` has run, if it has.
    #[allow(clippy::cast_precision_loss)] // packets of seconds
    fn each_since(&self, before: &Self, name: &str) -> Option<f64> {
        let (time, count) = self.0.get(name).copied()?;
        let (time_before, count_before) = before.0.get(name).copied().unwrap_or_default();
        let count = count - count_before;
        let time = time.saturating_sub(time_before);
        (count != 0).then(|| time.as_nanos() as f64 / count as f64)
    }
}

fn print(scenes: &[Scene; 3]) {
    let [kernel, all, established] = scenes;
    println!(
        "{:<12} {:>20} {:>20}",
        "", "STREAM Gbit/s", "CONNECTIONS /s"
    );
    for scene in scenes {
        println!(
            "{:<12} {:>20} {:>20}",
            scene.name,
            spread(&scene.throughput, 1e9, 2),
            spread(&scene.connections, 1.0, 0),
        );
    }
    println!(
        "\n{:<14} {:>20} {:>20}",
        "ns a packet", all.name, established.name
    );
    for (place, name) in PROGRAMS.iter().enumerate() {
        let [all, established] = [all, established].map(|scene| &scene.programs[place]);
        println!(
            "{name:<14} {:>20} {:>20}",
            spread(all, 1.0, 0),
            spread(established, 1.0, 0)
        );
    }
    let ratio = |of: &[f64], to: &[f64]| statistics::ratio(of, to).unwrap_or(f64::NAN);
    println!(
        "\nestablished to all: stream {:.3}, from_workload {:.3}, from_uplink {:.3}, connections {:.3}\n\
         established to the kernel: stream {:.3}, connections {:.3}",
        ratio(&established.throughput, &all.throughput),
        ratio(&established.programs[0], &all.programs[0]),
        ratio(&established.programs[2], &all.programs[2]),
        ratio(&established.connections, &all.connections),
        ratio(&established.throughput, &kernel.throughput),
        ratio(&established.connections, &kernel.connections),
    );
}

/// The median, and how far the quartiles are apart.
fn spread(values: &[f64], unit: f64, digits: usize) -> String {
    let in_words = |spread: Spread| format!("{:.digits$}", spread.per(unit));
    Spread::of(values).map_or("-".to_owned(), in_words)
}
