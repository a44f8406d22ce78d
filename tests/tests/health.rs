//! The agent says how it is: `/healthz`, `/readyz`, `/metrics`, and to systemd.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Counters, Lab, Mode, Node, PingOptions, cluster_yaml, eventually,
    http::{self, AGENT, get},
    patient, ping, require_root, uninterrupted,
};
use dataplane_user::{dataplane::Pins, telemetry::STUCK};
use nix::{sys::stat::Mode as Permissions, unistd::mkfifo};

/// Waits until the agent answers with this status; returns what it says.
fn wait_for(node: &Node, path: &str, status: u16) -> Result<String> {
    let mut body = String::new();
    eventually(&format!("{path} is {status}"), || {
        let answer = http::ask(node.ns(), "GET", AGENT, path)?;
        let found = answer.filter(|answer| answer.status == status);
        body = found.clone().map_or(String::new(), |answer| answer.body);
        Ok(found.is_some())
    })?;
    Ok(body)
}

/// The value of a series, as `/metrics` has it, if it is a whole number.
fn value(metrics: &str, series: &str) -> Option<u64> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn cluster(lab: &Lab) -> String {
    let mode = Mode::Vxlan;
    cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode())
}

fn start(lab: &Lab) -> Result<Vec<Agent>> {
    let agents = lab.start_agents(Mode::Vxlan)?;
    for node in lab.nodes() {
        node.wait_resolved()?;
    }
    Ok(agents)
}

/// Has the device that the agent's carrier cannot be beside.
fn add_foreign_vxlan(node: &Node) -> Result<()> {
    node.ns()
        .exec("ip link add vxlan.calico type vxlan id 1 dstport 4789 dev eth0")?;
    node.ns().exec("ip link set vxlan.calico up")?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_in_sync_is_alive_and_ready() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let _agents = start(&lab)?;
    let node = lab.node("node-0");
    assert_eq!(get(node, "/healthz")?.status, 200);
    let ready = get(node, "/readyz")?;
    assert_eq!((ready.status, &*ready.body), (200, "ready\n"));
    assert_eq!(get(node, "/metrics")?.status, 200);

    let elsewhere = get(node, "/")?;
    assert_eq!(elsewhere.status, 404);
    assert!(elsewhere.body.contains("/readyz"), "{}", elsewhere.body);
    let post = http::ask(node.ns(), "POST", AGENT, "/healthz")?.context("nobody listens")?;
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: GET, HEAD"), "{}", post.head);
    let head = http::ask(node.ns(), "HEAD", AGENT, "/metrics")?.context("nobody listens")?;
    assert_eq!((head.status, &*head.body), (200, ""));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_that_cannot_synchronize_is_alive_but_not_ready_and_says_why() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    add_foreign_vxlan(node)?;
    let mut agent = Agent::spawn(node, &node.agent_config(), &cluster(&lab))?;
    let patience = Duration::from_secs(10);
    agent
        .process()
        .wait_for_line("cannot synchronize", patience)?;
    let unready = get(node, "/readyz")?;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("not in sync: "), "{}", unready.body);
    assert!(unready.body.contains("4789"), "{}", unready.body);
    assert_eq!(get(node, "/healthz")?.status, 200, "it keeps trying");
    let metrics = get(node, "/metrics")?.body;
    assert_eq!(value(&metrics, "underpass_in_sync"), Some(0));

    node.ns().exec("ip link delete vxlan.calico")?;
    wait_for(node, "/readyz", 200)?;
    let metrics = get(node, "/metrics")?.body;
    assert_eq!(value(&metrics, "underpass_in_sync"), Some(1));
    assert!(value(&metrics, "underpass_resyncs_total{cause=\"retry\"}") >= Some(1));
    Ok(())
}

/// The loop hangs where it would on a file system that does not answer: in reading the cluster's
/// table, which is a pipe that nobody writes to.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_stuck_loop_is_noticed_and_the_watchdog_no_longer_fed() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let systemd = Systemd::new(node)?;
    let cluster = cluster(&lab);
    let variables = [
        ("NOTIFY_SOCKET", systemd.path()),
        ("WATCHDOG_USEC", "300000"),
    ];
    let mut agent = Agent::spawn_with(node, &node.agent_config(), &cluster, &variables)?;
    agent.wait_in_sync()?;
    systemd.wait_for("WATCHDOG=1")?;

    let pipe = node.dir().join("pipe");
    mkfifo(&pipe, Permissions::S_IRUSR)?;
    fs::rename(&pipe, node.dir().join("cluster.yaml"))?;
    let mut answer = get(node, "/healthz")?;
    // Twice what it takes, if it takes it.
    for _ in 0..patient(STUCK * 2).as_secs() {
        if answer.status != 200 {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        answer = get(node, "/healthz")?;
    }
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("stuck"), "{}", answer.body);
    let unready = get(node, "/readyz")?;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("stuck"), "{}", unready.body);
    assert_eq!(get(node, "/metrics")?.status, 200, "it tells what it can");

    // Signs of life from before can wait here, and another where it is sent.
    eventually("the watchdog is fed no more", || {
        Ok(systemd.next(Duration::from_secs(1))?.is_none())
    })?;
    fs::write(node.dir().join("cluster.yaml"), &cluster)?;
    wait_for(node, "/healthz", 200)?;
    wait_for(node, "/readyz", 200)?;
    systemd.wait_for("WATCHDOG=1")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_filter_that_somebody_removes_makes_it_unready() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let config = node.agent_config() + "attach: clsact\n";
    let agent = Agent::start(node, &config, &cluster(&lab))?;
    wait_for(node, "/readyz", 200)?;
    node.ns().exec("tc qdisc add dev lo clsact")?;
    assert_eq!(get(node, "/readyz")?.status, 200, "it is nothing to us");

    for removal in [
        "tc filter delete dev eth0 ingress",
        "tc qdisc delete dev eth0 clsact",
    ] {
        node.ns().exec(removal)?;
        let unready = get(node, "/readyz")?;
        assert_eq!(unready.status, 503, "{removal}");
        let gone = "from_uplink on eth0 is gone";
        assert!(unready.body.contains(gone), "{}", unready.body);
    }
    drop(agent);
    let _agent = Agent::start(node, &config, &cluster(&lab))?;
    wait_for(node, "/readyz", 200).context("as it said, a restart helps")?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_program_or_map_that_somebody_removes_makes_it_unready() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let mut agents = start(&lab)?;
    let node = lab.node("node-0");
    let pins = Pins::new(node.pins());

    let link = fs::read_dir(pins.links())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("from_uplink"))
        .context("from_uplink is not pinned")?;
    remove(&link)?;
    let unready = get(node, "/readyz")?;
    assert_eq!(unready.status, 503);
    assert!(
        unready.body.contains("from_uplink on eth0"),
        "{}",
        unready.body
    );
    drop(agents.pop());
    let _agent = Agent::start(node, &node.agent_config(), &cluster(&lab))?;
    wait_for(node, "/readyz", 200).context("as it said, a restart helps")?;

    remove(&pins.map("PEERS"))?;
    let unready = get(node, "/readyz")?;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("PEERS"), "{}", unready.body);
    let metrics = get(node, "/metrics")?;
    assert_eq!(metrics.status, 200, "it tells what it can");
    assert!(metrics.body.contains("underpass_in_sync 1\n"));
    assert!(metrics.body.contains("\n# "), "and what it cannot");
    Ok(())
}

/// Removes a pin, or the record of a clsact filter.
fn remove(pin: &Path) -> Result<()> {
    let removed = if pin.is_dir() {
        fs::remove_dir(pin)
    } else {
        fs::remove_file(pin)
    };
    removed.with_context(|| format!("remove {}", pin.display()))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_metrics_are_what_the_programs_and_the_agent_counted() -> Result<()> {
    require_root();
    let mut lab = Lab::flat(2, 1)?;
    let _agents = start(&lab)?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let to = far.pod("p0").address();
    let report = ping(near.pod("p0").ns(), to, &PingOptions::default())?;
    // From the host side of its veth: another's address, which is dropped.
    let spoofed = ["-I", "10.244.0.99", "-c", "3", "-W", "1", "-i", "0.01"];
    near.pod("p0")
        .ns()
        .exec("ip address add 10.244.0.99/32 dev lo")?;
    let _lost = near
        .pod("p0")
        .ns()
        .command("ping")
        .args(spoofed)
        .arg(to.to_string())
        .output()?;

    let before = Counters::read(near)?;
    let metrics = get(near, "/metrics")?;
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    let metrics = metrics.body;
    let read = |series: &str| {
        value(&metrics, series).with_context(|| format!("no {series} in:\n{metrics}"))
    };
    let sent = before.get("from_workload", "sent-vxlan");
    assert!(sent.packets >= u64::from(report.sent));
    let labels = "{hook=\"from_workload\",mode=\"vxlan\",verdict=\"forward\"}";
    assert_eq!(
        read(&format!("underpass_packets_total{labels}"))?,
        sent.packets
    );
    assert_eq!(read(&format!("underpass_bytes_total{labels}"))?, sent.bytes);
    let labels = "{hook=\"from_workload\",reason=\"spoofed-source\"}";
    assert_eq!(read(&format!("underpass_drops_total{labels}"))?, 3);
    let labels = "{hook=\"from_uplink\",reason=\"unknown-peer\"}";
    assert_eq!(
        read(&format!("underpass_drops_total{labels}"))?,
        0,
        "also while zero"
    );
    assert!(read("underpass_to_stack_total{hook=\"from_uplink\",reason=\"not-ipv4\"}")? > 0);

    assert_eq!(read("underpass_map_entries{map=\"ENDPOINTS\"}")?, 1);
    assert_eq!(read("underpass_map_entries{map=\"PEERS\"}")?, 1);
    assert_eq!(read("underpass_routes ")?, 2);
    let lines = read("underpass_map_entries{map=\"ROUTES\"}")?;
    assert!(0 < lines && lines < read("underpass_map_max_entries{map=\"ROUTES\"}")?);
    assert_eq!(read("underpass_map_max_entries{map=\"ENDPOINTS\"}")?, 4096);
    assert_eq!(read("underpass_resyncs_total{cause=\"start\"}")?, 1);
    assert!(read("underpass_apply_seconds_count")? >= 1);
    assert!(read("underpass_convergence_seconds_count")? >= 1);
    let converged = read("underpass_convergence_seconds_count")?;
    for forbidden in ["10.244.0.2", "cali"] {
        assert!(!metrics.contains(forbidden), "{forbidden}: no series a pod");
    }

    lab.node_mut("node-0").add_pod("late")?;
    lab.write_cluster(&(cluster(&lab) + "routes: [{cidr: 10.244.9.0/24, blackhole: true}]\n"))?;
    let near = lab.node("node-0");
    eventually("a pod and a route are in the metrics", || {
        let metrics = get(near, "/metrics")?.body;
        let series = |series| value(&metrics, series);
        Ok(
            series("underpass_map_entries{map=\"ENDPOINTS\"}") == Some(2)
                && series("underpass_routes ") == Some(3)
                && series("underpass_netlink_events_total{kind=\"link\"}") > Some(0)
                && series("underpass_netlink_events_total{kind=\"route\"}") > Some(0)
                && series("underpass_resyncs_total{cause=\"kernel\"}") > Some(0)
                && series("underpass_resyncs_total{cause=\"cluster-file\"}") > Some(0)
                && series("underpass_convergence_seconds_count") > Some(converged),
        )
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_with_the_kernel_as_its_source_says_the_same_of_itself() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let config = node.agent_config();
    let config = config
        .lines()
        .filter(|line| !line.starts_with("source:") && !line.trim().starts_with("file:"))
        .chain(["source: kernel"]);
    let config = config.collect::<Vec<_>>().join("\n");
    let _agent = Agent::start(node, &config, &cluster(&lab))?;
    wait_for(node, "/readyz", 200)?;
    let before = get(node, "/metrics")?.body;
    let start = value(&before, "underpass_resyncs_total{cause=\"start\"}");
    assert_eq!(start, Some(1), "{before}");

    let to = lab.node("node-1").address().addr();
    node.ns()
        .exec(&format!("ip route add 10.244.77.0/24 via {to}"))?;
    eventually("the route is in the metrics", || {
        let metrics = get(node, "/metrics")?.body;
        let grown = |series| value(&metrics, series) > value(&before, series);
        Ok(grown("underpass_routes ")
            && grown("underpass_netlink_events_total{kind=\"route\"}")
            && grown("underpass_apply_seconds_count")
            && grown("underpass_convergence_seconds_count"))
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn those_who_ask_and_do_not_listen_hold_up_nobody() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let _agents = start(&lab)?;
    let node = lab.node("node-0");
    // More than are served at a time: silent ones, and some that do not read what they asked for.
    let mut idle = Vec::new();
    for number in 0..80 {
        let mut stream = node.ns().run(|| Ok(TcpStream::connect(AGENT)?))?;
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n")?;
        }
        idle.push(stream);
    }
    let converge = cluster(&lab) + "routes: [{cidr: 10.244.9.0/24, blackhole: true}]\n";
    node.write_cluster(&converge)?;
    eventually("the agent goes on", || {
        let routes = node.underpass(&["routes", "list"])?.stdout;
        Ok(String::from_utf8(routes)?.contains("10.244.9.0/24"))
    })?;
    // Until the idle ones are thrown out, it is others' turn only then.
    let mut served = false;
    for _ in 0..10 {
        served |= get(node, "/healthz").is_ok_and(|answer| answer.status == 200);
        if served {
            break;
        }
    }
    assert!(served, "idle connections are closed");
    drop(idle);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_port_that_is_taken_does_not_keep_the_agent_from_its_work() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let taken = node.ns().run(|| Ok(TcpListener::bind(AGENT)?))?;
    let mut agent = Agent::start(node, &node.agent_config(), &cluster(&lab))?;
    let patience = Duration::from_secs(10);
    let line = agent
        .process()
        .wait_for_line("cannot be served", patience)?;
    for part in [
        AGENT,
        "another process listens there",
        "ss -tlnp",
        "forwarding goes on",
    ] {
        assert!(line.contains(part), "{part} in: {line}");
    }
    drop(taken);
    agent
        .process()
        .wait_for_line(&format!("at http://{AGENT}"), patience)?;
    wait_for(node, "/readyz", 200)?;
    assert_eq!(
        agent.process().log()?.matches("cannot be served").count(),
        1
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn it_listens_where_it_is_told_or_nowhere() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let elsewhere = format!("{}:80", node.address().addr());
    let config = node.agent_config() + &format!("listen: {elsewhere}\n");
    {
        let _agent = Agent::start(node, &config, &cluster(&lab))?;
        eventually("it listens elsewhere", || {
            Ok(http::ask(node.ns(), "GET", &elsewhere, "/readyz")?.is_some())
        })?;
        assert_eq!(http::ask(node.ns(), "GET", AGENT, "/readyz")?, None);
    }
    let config = node.agent_config() + "listen: off\n";
    let _agent = Agent::start(node, &config, &cluster(&lab))?;
    let listeners = node.ns().exec("ss -Htln")?;
    assert_eq!(listeners, "", "nobody listens");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn systemd_hears_that_it_is_ready_when_it_is_in_sync_and_not_before() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    let systemd = Systemd::new(node)?;
    add_foreign_vxlan(node)?;
    let variables = [("NOTIFY_SOCKET", systemd.path())];
    let mut agent = Agent::spawn_with(node, &node.agent_config(), &cluster(&lab), &variables)?;

    let before = systemd.wait_for("STATUS=not in sync: ");
    before.context("it says why it is not ready")?;
    systemd.wait_for("EXTEND_TIMEOUT_USEC=30000000")?;
    ensure!(!systemd.heard().contains("READY=1"), "{}", systemd.heard());
    node.ns().exec("ip link delete vxlan.calico")?;
    systemd.wait_for("READY=1\nSTATUS=in sync")?;
    agent.process().terminate()?;
    systemd.wait_for("STOPPING=1")
}

/// Where `sd_notify(3)` sends to.
struct Systemd {
    socket: UnixDatagram,
    path: String,
    heard: std::cell::RefCell<String>,
}

impl Systemd {
    fn new(node: &Node) -> Result<Self> {
        let path = node.dir().join("notify").display().to_string();
        Ok(Self {
            socket: UnixDatagram::bind(&path)?,
            path,
            heard: std::cell::RefCell::default(),
        })
    }

    fn path(&self) -> &str {
        &self.path
    }

    /// Everything so far.
    fn heard(&self) -> String {
        self.heard.borrow().clone()
    }

    /// The next message that comes in this time.
    fn next(&self, time: Duration) -> Result<Option<String>> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(time))?;
        match uninterrupted(|| self.socket.recv(&mut buffer)) {
            Ok(length) => {
                let message = String::from_utf8(buffer[..length].to_vec())?;
                self.heard.borrow_mut().push_str(&message);
                Ok(Some(message))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_for(&self, part: &str) -> Result<()> {
        eventually(&format!("systemd hears {part:?}"), || {
            let message = self.next(Duration::from_millis(100))?;
            Ok(message.is_some_and(|message| message.contains(part)))
        })
        .with_context(|| format!("heard: {}", self.heard()))
    }
}
