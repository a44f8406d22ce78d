//! `underpass check` says what would work on a node, before anything is installed, and leaves nothing.

use std::{collections::BTreeMap, env, fs};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{
    Link as _, LinkOrder, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact},
};
use dataplane_common::abi::Hook;
use dataplane_tests::{
    Agent, Confinement, Lab, Mode, Node, beside_netfilter, calico, cluster_yaml,
    floor::{FloorObject, Headers},
    programs::{attached, kernel_has_tcx},
    require_root,
};
use dataplane_user::{
    dataplane::{self, Pins},
    inspect::schema,
};
use serde_json::Value;

/// What it exits with where something fails.
const UNFIT: i32 = 6;

/// What was found, by subject.
struct Findings {
    findings: BTreeMap<String, Value>,
    status: Option<i32>,
}

impl Findings {
    fn get(&self, subject: &str) -> Result<&Value> {
        let finding = self.findings.get(subject);
        finding.with_context(|| format!("nothing about {subject}: {:?}", self.findings))
    }

    /// The result of a subject has to be this; returns what was found and what it means.
    fn expect(&self, subject: &str, result: &str) -> Result<String> {
        let finding = self.get(subject)?;
        ensure!(finding["result"] == result, "{finding}");
        let text = |field: &str| finding[field].as_str().unwrap_or_default();
        if result != "ok" {
            ensure!(!text("meaning").is_empty(), "what it means: {finding}");
        }
        Ok(format!("{}: {}", text("found"), text("meaning")))
    }

    /// The subjects with this result.
    fn with(&self, result: &str) -> Vec<&str> {
        let findings = self.findings.iter();
        let findings = findings.filter(|(_, finding)| finding["result"] == result);
        findings.map(|(subject, _)| &**subject).collect()
    }
}

/// A node that an agent could be started on, and another.
fn lab() -> Result<Lab> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    configure(
        &lab,
        Mode::Vxlan,
        &beside_netfilter(&node(&lab).agent_config()),
    )?;
    Ok(lab)
}

fn node(lab: &Lab) -> &Node {
    lab.node("node-0")
}

fn configure(lab: &Lab, mode: Mode, config: &str) -> Result<()> {
    let cluster = cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode());
    node(lab).write_config(config)?;
    node(lab).write_cluster(&cluster)
}

fn check(lab: &Lab) -> Result<Findings> {
    read(&node(lab).underpass(&["check", "-o", "json"])?)
}

fn read(output: &std::process::Output) -> Result<Findings> {
    let said = String::from_utf8_lossy(&output.stderr);
    let list: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    let schema = jsonschema::validator_for(&schema())?;
    let errors: Vec<_> = schema.iter_errors(&list).collect();
    ensure!(errors.is_empty(), "{list}: {errors:?}");
    let items = list["items"].as_array().context("a list")?;
    let subject = |item: &Value| item["subject"].as_str().unwrap_or_default().to_owned();
    let findings: BTreeMap<_, _> = items
        .iter()
        .map(|item| (subject(item), item.clone()))
        .collect();
    assert_eq!(findings.len(), items.len(), "each subject once: {items:?}");
    Ok(Findings {
        findings,
        status: output.status.code(),
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_good_node_is_told_so_and_nothing_remains() -> Result<()> {
    let lab = lab()?;
    let node = node(&lab);
    let state = || -> Result<Vec<String>> {
        let commands = [
            "ip -d link",
            "ip address",
            "ip route show table all",
            "ip neigh",
            "tc qdisc",
            "sysctl -a --pattern netfilter",
        ];
        commands
            .iter()
            .map(|command| node.ns().exec(command))
            .collect()
    };
    let before = state()?;
    let found = check(&lab)?;
    assert_eq!(found.with("fails"), [""; 0]);
    assert_eq!(found.status, Some(0));
    let way = if kernel_has_tcx()? { "tcx" } else { "clsact" };
    assert!(found.expect("attachment", "ok")?.starts_with(way));
    assert_eq!(found.expect("BPF programs", "ok")?, "7 of 7 verified: ");
    for subject in [
        "configuration",
        "cluster file",
        "kernel",
        "capabilities",
        "BPF file system",
        "net.ipv4.ip_forward",
        "netfilter",
        "uplink eth0",
        "workloads",
        "MTU of eth0",
        "MTU of pods",
        "offloads of eth0",
        "XDP on eth0",
        "programs of others",
        "carrier",
    ] {
        found.expect(subject, "ok")?;
    }
    assert_eq!(found.expect("pins", "ok")?, "none: ");

    assert_eq!(state()?, before);
    assert!(!node.pins().exists(), "something is pinned");
    for interface in ["lo", "eth0", node.pod("p0").host_ifname()] {
        for side in [TcAttachType::Ingress, TcAttachType::Egress] {
            assert_eq!(attached(node, interface, side)?, [""; 0], "{interface}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn people_are_told_what_to_do() -> Result<()> {
    let lab = lab()?;
    let output = node(&lab).underpass(&["check"])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.starts_with("SUBJECT "), "{text}");
    assert!(text.contains("\nunderpass works here"), "{text}");
    node(&lab).ns().set_sysctl("net.ipv4.ip_forward", "0")?;
    let output = node(&lab).underpass(&["check"])?;
    assert_eq!(output.status.code(), Some(UNFIT));
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("\nfails: net.ipv4.ip_forward: 0\n"), "{text}");
    assert!(
        text.contains("\n  do: sysctl -w net.ipv4.ip_forward=1"),
        "{text}"
    );
    assert!(
        text.ends_with("underpass does not work here: 1 failure\n"),
        "{text}"
    );
    Ok(())
}

/// As on a node where nothing of underpass is but the program.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn without_a_configuration_the_kernels_routes_tell() -> Result<()> {
    let lab = lab()?;
    let [here, there] = lab.nodes() else {
        anyhow::bail!("two nodes");
    };
    calico::serve_pods(here)?;
    calico::route_by_vxlan(here, there, "noudpcsum")?;
    let binary = env::var("UNDERPASS_BIN").context("run the tests by `cargo xtask test`")?;
    let command = here.ns().command(&binary).args(["check", "-o", "json"]);
    let found = read(&command.output()?)?;
    assert_eq!(found.with("fails"), [""; 0]);
    assert!(found.expect("configuration", "ok")?.starts_with("none: "));
    found.expect("uplink eth0", "ok")?;
    assert_eq!(found.expect("workloads", "ok")?, "veths: 1, pods: 1: ");
    let network = found.expect("device vxlan.calico", "ok")?;
    assert!(
        network.starts_with("Calico, VXLAN network 4096 on UDP port 4789: "),
        "{network}"
    );
    assert_eq!(found.expect("VXLAN", "ok")?, "vxlan.calico: ");
    let mtu = found.expect("MTU of eth0", "ok")?;
    assert_eq!(mtu, "1500: VXLAN leaves 1450 bytes");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_configuration_that_is_no_good_fails_and_the_rest_is_looked_at() -> Result<()> {
    let lab = lab()?;
    node(&lab).write_config("uplink: eth0\n")?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("configuration", "fails")?;
    assert!(said.contains("uplink"), "{said}");
    found.expect("BPF programs", "ok")?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packets_need_room_on_the_uplink() -> Result<()> {
    let lab = lab()?;
    let ns = node(&lab).ns();
    ns.exec("ip link set eth0 mtu 1400")?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(0), "only slower");
    let said = found.expect("MTU of pods", "warning")?;
    assert!(
        said.starts_with("1450: the uplinks leave 1350 bytes (VXLAN)"),
        "{said}"
    );

    ns.exec("ip link set eth0 mtu 100")?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("MTU of eth0", "fails")?;
    // What the agent says.
    assert!(said.contains("an uplink has an MTU of 100, which leaves no room for a tunnel"));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_leave_room_for_their_tunnel() -> Result<()> {
    let lab = lab()?;
    node(&lab).set_pod_mtu("p0", 1480)?;
    let config = beside_netfilter(&node(&lab).agent_config());
    for (mode, result) in [
        (Mode::None, "ok"),
        (Mode::Ipip, "ok"),
        (Mode::Vxlan, "warning"),
    ] {
        configure(&lab, mode, &config)?;
        let said = check(&lab)?.expect("MTU of pods", result)?;
        assert!(said.starts_with("1480: "), "{mode}: {said}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_kernels_device_on_the_carriers_port_is_named() -> Result<()> {
    let lab = lab()?;
    let node = node(&lab);
    calico::add_vxlan(node, "noudpcsum")?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("carrier", "fails")?;
    // What the agent says.
    assert!(
        said.contains("UDP port 4789, at which the carrier underpass0 has to receive VXLAN packets, is held by the VXLAN interface vxlan.calico"),
        "{said}"
    );
    // With the kernel's routes there is no carrier.
    let config = beside_netfilter(&node.agent_config());
    let file = format!(
        "source:\n  file: {}\n",
        node.dir().join("cluster.yaml").display()
    );
    ensure!(config.contains(&file), "{config}");
    node.write_config(&config.replace(&file, "source: kernel\n"))?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(0), "{:?}", found.with("fails"));
    found.expect("VXLAN", "ok")?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_port_that_a_process_has_is_told() -> Result<()> {
    let lab = lab()?;
    let held = node(&lab)
        .ns()
        .run(|| Ok(std::net::UdpSocket::bind("0.0.0.0:4789")?))?;
    let said = check(&lab)?.expect("carrier", "fails")?;
    assert!(
        said.contains("UDP port 4789 is held by the socket of a process"),
        "{said}"
    );
    drop(held);
    check(&lab)?.expect("carrier", "ok")?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_missing_capability_is_named() -> Result<()> {
    let lab = lab()?;
    for capability in ["NET_ADMIN", "SYS_ADMIN"] {
        let confinement = Confinement::without(capability);
        let arguments = ["check", "-o", "json"];
        let found = read(&node(&lab).underpass_confined(&confinement, &arguments)?)?;
        assert_eq!(found.status, Some(UNFIT));
        let said = found.expect("capabilities", "fails")?;
        let expected = format!("the agent lacks CAP_{capability}, ");
        assert!(said.contains(&expected), "{said}");
    }
    Ok(())
}

/// In a container that is not privileged `/proc/sys` is read-only.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_cannot_be_set_has_to_be_prepared() -> Result<()> {
    const SUBJECT: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";
    let lab = lab()?;
    ensure!(node(&lab).underpass(&["prepare"])?.status.success());
    ensure!(node(&lab).underpass(&["detach"])?.status.success());
    let listed = ["NET_ADMIN", "SYS_ADMIN"].map(str::to_owned);
    let confinement = Confinement::only(&listed);
    let confined = || read(&node(&lab).underpass_confined(&confinement, &["check", "-o", "json"])?);
    let said = confined()?.expect(SUBJECT, "fails")?;
    assert!(said.contains("somebody else to set it"), "{said}");
    ensure!(node(&lab).underpass(&["prepare"])?.status.success());
    let found = confined()?;
    assert!(found.expect(SUBJECT, "ok")?.starts_with("1: "));
    assert_eq!(found.with("fails"), [""; 0]);
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pins_need_a_bpf_file_system() -> Result<()> {
    let lab = lab()?;
    let config = beside_netfilter(&node(&lab).agent_config());
    let pins = format!("pins: {}", node(&lab).pins().display());
    let elsewhere = format!("pins: {}", lab.dir().join("pins").display());
    ensure!(config.contains(&pins), "{config}");
    node(&lab).write_config(&config.replace(&pins, &elsewhere))?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("BPF file system", "fails")?;
    assert!(said.contains("is not on a BPF file system"), "{said}");
    assert!(said.contains("underpass prepare"), "what to do: {said}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_not_ours_among_the_pins_is_told() -> Result<()> {
    let lab = lab()?;
    let links = Pins::new(node(&lab).pins()).links();
    fs::create_dir_all(links.join("from_uplink-2"))?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("pins", "fails")?;
    assert!(said.contains("should be the link of from_uplink"), "{said}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_uplink_that_is_missing_is_named() -> Result<()> {
    let lab = lab()?;
    let config = beside_netfilter(&node(&lab).agent_config());
    node(&lab).write_config(&config.replace("[eth0]", "[eth7]"))?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("uplinks", "fails")?;
    assert!(
        said.contains("uplink eth7: there is no interface of that name"),
        "{said}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn programs_of_others_are_named() -> Result<()> {
    let lab = lab()?;
    let node = node(&lab);
    let pod = node.pod("p0");
    let mut object = FloorObject::load(node, &Headers::NONE, pod)?;
    let mut options = vec![TcAttachOptions::Netlink(NlOptions::default())];
    if kernel_has_tcx()? {
        options.push(TcAttachOptions::TcxOrder(LinkOrder::first()));
    }
    node.ns().run(|| Ok(qdisc_add_clsact(pod.host_ifname())?))?;
    for options in options {
        let program = object.program("floor_local")?;
        let link = node.ns().run(|| {
            let ifname = pod.host_ifname();
            let link = program.attach_with_options(ifname, TcAttachType::Egress, options)?;
            Ok(program.take_link(link)?)
        })?;
        let found = check(&lab)?;
        assert_eq!(found.status, Some(0));
        let said = found.expect("program floor_local", "warning")?;
        let expected = format!("egress of {}: ", pod.host_ifname());
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("passes this program by"), "{said}");
        detach(node, link)?;
        check(&lab)?.expect("programs of others", "ok")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_underpass_is_told_from_ones_own() -> Result<()> {
    let lab = lab()?;
    let node = node(&lab);
    let other = Pins::new(&node.pins().with_file_name("other"));
    let mut other = dataplane::load(&other)?;
    let program = other.program(Hook::FromUplink)?;
    let link = node.ns().run(|| {
        qdisc_add_clsact("eth0")?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let link = program.attach_with_options("eth0", TcAttachType::Ingress, options)?;
        Ok(program.take_link(link)?)
    })?;
    let found = check(&lab)?;
    assert_eq!(found.status, Some(UNFIT));
    let said = found.expect("program from_uplink", "fails")?;
    assert!(
        said.contains("another underpass, with other pins"),
        "{said}"
    );
    detach(node, link)
}

/// A filter is taken off where its interface is.
fn detach(node: &Node, link: SchedClassifierLink) -> Result<()> {
    node.ns().run(|| Ok(link.detach()?))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn beside_its_own_agent_all_is_well() -> Result<()> {
    let lab = lab()?;
    let config = beside_netfilter(&node(&lab).agent_config());
    let mode = Mode::Vxlan;
    let cluster = cluster_yaml(&lab, mode.ipip_mode(), mode.vxlan_mode());
    let mut agent = Agent::start(node(&lab), &config, &cluster)?;
    let found = check(&lab)?;
    assert_eq!(found.with("fails"), [""; 0]);
    found.expect("programs of others", "ok")?;
    assert!(
        found
            .expect("pins", "ok")?
            .starts_with("an agent is running: ")
    );
    agent.process().kill()?;
    let found = check(&lab)?;
    assert_eq!(found.with("fails"), [""; 0]);
    assert!(
        found
            .expect("pins", "ok")?
            .starts_with("an agent has run: ")
    );
    Ok(())
}
