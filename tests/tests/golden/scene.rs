//! Where the commands are run: a node with two pods and a connection between them, whose cluster file
//! has nodes that are reached in every way.

use std::fmt::Write as _;
use std::{
    env, fs,
    net::{Ipv4Addr, UdpSocket},
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Dialogue, Lab, Mode, Node, NodeSpec, NsCommand, beside_netfilter, cluster_yaml_by_node,
    eventually, require_root,
};
use dataplane_user::inspect::schema;
use serde_json::Value;

use crate::{
    cases::Case,
    form::Form,
    varying::{regex, settled},
};

/// The node, its agent and the connection.
pub struct Scene {
    agent: Option<Agent>,
    talk: Dialogue,
    is_silent: bool,
    lab: Lab,
    schema: jsonschema::Validator,
}

impl Scene {
    /// The node, where packets of the connection are carried.
    pub fn new() -> Result<Self> {
        require_root();
        let node = |n: u8| {
            NodeSpec::new(
                &format!("node-{n}"),
                &format!("192.168.1.{}/24", 10 + n),
                &format!("10.244.{n}.0/24"),
            )
        };
        let lab = Lab::new(&[node(0).pods(2), node(1), node(2), node(3)])?;
        let node = lab.node("node-0");
        let config = beside_netfilter(&node.agent_config()) + "reverify: 10s\n";
        let agent = Agent::start(node, &config, &cluster(&lab))?;
        node.wait_resolved()?;
        fs::write(
            node.dir().join("broken.yaml"),
            "node: node-0\nuplink: eth0\n",
        )?;
        fs::write(
            node.dir().join("broken-cluster.yaml"),
            config.replace("cluster.yaml", "broken-table.yaml"),
        )?;
        fs::write(
            node.dir().join("broken-table.yaml"),
            cluster(&lab).replace("192.168.1.12/24", "192.168.1.11/24"),
        )?;
        // Connections are tracked.
        for command in [
            "add table ip test",
            "add chain ip test forward { type filter hook forward priority 0 ; }",
            "add rule ip test forward ct state invalid drop",
        ] {
            node.ns().exec(&format!("nft {command}"))?;
        }
        let talk = Dialogue::carried_on(node)?;
        Ok(Self {
            agent: Some(agent),
            talk,
            is_silent: false,
            lab,
            schema: jsonschema::validator_for(&schema())?,
        })
    }

    /// Nothing comes of the connection any more.
    pub fn be_silent(&mut self) {
        self.is_silent = true;
    }

    /// The agent dies, and what it has written is no longer what the cluster file says.
    pub fn lose_agent(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.process().kill()?;
        }
        let route = "routes: [{ cidr: 10.244.1.9/32, node: node-2 }]\n";
        self.node().write_cluster(&(cluster(&self.lab) + route))
    }

    /// What a command prints, without what varies.
    pub fn run(&mut self, case: &Case, form: Form) -> Result<String> {
        // The connection is carried at that moment.
        if !self.is_silent {
            self.talk.exchange(1 << 10)?;
        }
        let (client, server) = self.talk.ports()?;
        let ports = [client, server].map(|port| port.to_string());
        let command = self.command(case, form, &ports)?;
        let (printed, rest) = if case.command.ends_with(" watch") && !case.is_one_form {
            (self.first_look(command)?, String::new())
        } else if case.command == "monitor" {
            (self.seen(command)?, String::new())
        } else {
            let output = command.output()?;
            (String::from_utf8(output.stdout.clone())?, rest(&output)?)
        };
        // Nobody reads on a terminal.
        let is_plain = !printed.contains(['\u{1b}', '│', '─', '┌']);
        ensure!(is_plain, "colours or borders: {printed}");
        if form == Form::Json {
            self.check(&printed, case)?;
        }
        let kept = keep(&printed, case, form) + &rest;
        Ok(self.without_places(&kept, form, &ports))
    }

    fn node(&self) -> &Node {
        self.lab.node("node-0")
    }

    fn command(
        &self,
        case: &Case,
        form: Form,
        [client, server]: &[String; 2],
    ) -> Result<NsCommand> {
        let node = self.node();
        let (dir, pins) = (node.dir().display(), node.pins().display());
        let arguments = case
            .arguments
            .replace("{dir}", &dir.to_string())
            .replace("{pins}", &pins.to_string())
            .replace("{client}", client)
            .replace("{server}", server);
        let binary = env::var("UNDERPASS_BIN").context("run the tests by `cargo xtask test`")?;
        let words = case.command.split(' ').chain(arguments.split(' '));
        let mut command = node.ns().command(&binary);
        command = command.args(words.filter(|word| !word.is_empty()));
        if form != Form::Plain {
            command = command.args(["--output", form.extension()]);
        }
        if !arguments.contains("--config") {
            let config = node.dir().join("config.yaml");
            command = command.arg("--config").arg(config);
        }
        Ok(command)
    }

    /// What is there when a list is watched, which is written at once.
    fn first_look(&self, command: NsCommand) -> Result<String> {
        let log = "watch";
        let watch = self.node().start(log, command)?;
        eventually("it prints what there is", || Ok(!watch.log()?.is_empty()))?;
        let printed = watch.log()?;
        drop(watch);
        fs::remove_file(self.node().dir().join(format!("{log}.log")))?;
        Ok(printed)
    }

    /// What is told of datagrams that nobody answers, while they are sent.
    fn seen(&self, command: NsCommand) -> Result<String> {
        const FROM: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 40_001);
        const DISCARD: u16 = 9;
        let (from, to) = (self.node().pod("p0"), self.node().pod("p1").address());
        let socket = from.ns().run(|| Ok(UdpSocket::bind(FROM)?))?;
        let (sending, done) = (AtomicBool::new(true), Ordering::Relaxed);
        let output = thread::scope(|scope| {
            scope.spawn(|| {
                while sending.load(done) {
                    // That nobody is there may come back as an error.
                    let _ = socket.send_to(b"data", (to, DISCARD));
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let output = command.output();
            sending.store(false, done);
            output
        })?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// That it is as the schema says: each line of what is watched, else all.
    fn check(&self, printed: &str, case: &Case) -> Result<()> {
        let documents: Vec<_> = if is_stream(case) {
            printed.lines().collect()
        } else {
            vec![printed]
        };
        for document in documents {
            let value: Value =
                serde_json::from_str(document).with_context(|| document.to_owned())?;
            let errors: Vec<_> = self.schema.iter_errors(&value).collect();
            ensure!(
                errors.is_empty(),
                "{value} is not as the schema says: {errors:?}"
            );
        }
        Ok(())
    }

    /// With placeholders for directories and ports, and for what varies.
    fn without_places(&self, printed: &str, form: Form, [client, server]: &[String; 2]) -> String {
        let node = self.node();
        let settled = settled(printed, form)
            .replace(&node.dir().display().to_string(), "<dir>")
            .replace(&node.pins().display().to_string(), "<pins>");
        let port = |number: &str| regex(&format!(r"\b{number}\b"));
        let settled = port(client).replace_all(&settled, "<client>");
        port(server).replace_all(&settled, "<server>").into_owned()
    }
}

/// Whether JSON comes line by line.
fn is_stream(case: &Case) -> bool {
    case.command.ends_with(" watch") || case.command == "monitor"
}

fn cluster(lab: &Lab) -> String {
    let modes = [Mode::Vxlan, Mode::Vxlan, Mode::Ipip, Mode::None];
    cluster_yaml_by_node(lab, &modes)
}

fn keep(printed: &str, case: &Case, form: Form) -> String {
    let kept = match case.keeping {
        Some(word) => form.keeping(printed, word),
        None => printed.to_owned(),
    };
    let lines = kept.lines().take(case.lines);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Standard error and exit status, where there is anything to be said of them.
fn rest(output: &Output) -> Result<String> {
    let mut rest = String::new();
    if !output.stderr.is_empty() {
        rest += "-- on standard error\n";
        rest += std::str::from_utf8(&output.stderr)?;
    }
    let status = output.status.code().context("it was killed")?;
    if status != 0 {
        writeln!(rest, "-- exit status {status}")?;
    }
    Ok(rest)
}
