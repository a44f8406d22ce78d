//! The command line reads the pinned maps, with the agent dead or alive.

use anyhow::{Context as _, Result, ensure};
use dataplane_common::{
    abi::{Hook, maps},
    reason::Reason,
};
use dataplane_tests::{Lab, Mode, Node, cluster_yaml, eventually, require_root};
use dataplane_user::inspect::schema;
use serde_json::{Value, json};

/// A node whose agent has filled the maps and is dead.
fn lab() -> Result<Lab> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let mut agents = lab.start_agents(Mode::Vxlan)?;
    for node in lab.nodes() {
        node.wait_resolved()?;
    }
    for agent in &mut agents {
        agent.process().kill()?;
    }
    Ok(lab)
}

fn table(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node.underpass(arguments)?;
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What it prints as JSON, which is as the schema says.
fn json_of(node: &Node, arguments: &[&str]) -> Result<Value> {
    let text = table(node, &[arguments, &["-o", "json"]].concat())?;
    let value: Value = serde_json::from_str(&text).with_context(|| text)?;
    check(&value)?;
    Ok(value)
}

fn check(value: &Value) -> Result<()> {
    let schema = jsonschema::validator_for(&schema())?;
    let errors: Vec<_> = schema.iter_errors(value).collect();
    ensure!(
        errors.is_empty(),
        "{value} is not as the schema says: {errors:?}"
    );
    Ok(())
}

/// The rows of a list.
fn list(node: &Node, arguments: &[&str]) -> Result<Value> {
    Ok(json_of(node, arguments)?["items"].clone())
}

/// What it says on standard error when it exits with this status.
fn refusal(node: &Node, arguments: &[&str], status: i32) -> Result<String> {
    let output = node.underpass(arguments)?;
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    assert!(output.stdout.is_empty(), "words are not data");
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_are_listed_and_looked_up_by_the_longest_prefix() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let remote = json!({
        "prefix": "10.244.1.0/24",
        "kind": "vxlan",
        "peer": "192.168.1.11",
        "interface": "eth0",
        "mtu": 1450,
    });
    assert_eq!(
        list(node, &["routes", "list"])?,
        json!([{ "prefix": "10.244.0.0/24", "kind": "local" }, remote])
    );
    assert_eq!(
        list(node, &["routes", "get", "10.244.1.77"])?,
        json!([remote])
    );
    assert_eq!(
        list(node, &["routes", "get", "10.244.1.0/24"])?,
        json!([remote])
    );
    let text = table(node, &["routes", "get", "10.244.1.77"])?;
    assert_eq!(
        text,
        "PREFIX         KIND   PEER          GATEWAY  INTERFACE  MTU\n\
         10.244.1.0/24  vxlan  192.168.1.11  -        eth0       1450\n"
    );
    let text = table(node, &["routes", "get", "10.244.1.77", "-o", "yaml"])?;
    assert!(text.starts_with("apiVersion: underpass/v1\n"), "{text}");
    assert!(text.contains("kind: vxlan\n"), "{text}");
    let text = refusal(node, &["routes", "get", "10.9.9.9"], 5)?;
    assert!(text.contains("no route to 10.9.9.9"), "{text}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn endpoints_and_peers_are_listed() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let endpoints = list(node, &["endpoints", "list"])?;
    assert_eq!(endpoints.as_array().map(Vec::len), Some(1));
    assert_eq!(endpoints[0]["address"], pod.address().to_string());
    assert_eq!(endpoints[0]["interface"], pod.host_ifname());
    assert_eq!(endpoints[0]["mac"], pod.mac().to_string());
    assert_eq!(endpoints[0]["hostMac"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(
        list(node, &["peers", "list"])?,
        json!([{
            "address": "192.168.1.11",
            "tunnelAddress": "10.244.1.1",
            // 66, and the beginning of `printf node-1 | sha1sum`.
            "vtepMAC": "66:b3:68:28:39:8e",
            "modes": ["vxlan"],
            "routes": 1,
        }])
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn counters_name_hook_action_and_reason() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let all = list(node, &["counters", "--all"])?;
    let expected = Hook::ALL.len() * Reason::ALL.len();
    assert_eq!(all.as_array().map(Vec::len), Some(expected));
    let counted = list(node, &["counters"])?;
    for counter in counted.as_array().context("a list")? {
        assert_ne!(counter["packets"], 0, "only what was counted");
    }
    assert_eq!(
        list(node, &["counters", "list", "--all"])?,
        list(node, &["counters", "--all"])?
    );
    let of = |name| list(node, &["counters", "get", name]);
    assert_eq!(of("no-route")?.as_array().map(Vec::len), Some(7));
    let hook = of("from_uplink")?;
    assert_eq!(hook.as_array().map(Vec::len), Some(Reason::ALL.len()));
    refusal(node, &["counters", "get", "from_nowhere"], 5)?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn next_hops_links_maps_and_programs_are_listed() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let next_hops = list(node, &["next-hops", "get", "192.168.1.11"])?;
    let next_hop = &next_hops[0];
    assert_eq!(next_hop["kind"], "vxlan", "{next_hops}");
    assert_eq!(next_hop["routes"], 1, "{next_hops}");
    assert_eq!(next_hop["source"], "192.168.1.10", "{next_hops}");
    assert_eq!(next_hop["vtepMAC"], "66:b3:68:28:39:8e", "{next_hops}");
    refusal(node, &["next-hops", "get", "192.168.1.99"], 5)?;

    let links = list(node, &["links", "get", "eth0"])?;
    let uplink = links.as_array().context("a list")?;
    let uplink = uplink.iter().find(|link| link["hook"] == "from_uplink");
    let uplink = uplink.context("from_uplink on eth0")?;
    assert_eq!(uplink["interface"], "eth0");

    let programs = list(node, &["programs", "list"])?;
    let programs = programs.as_array().context("a list")?;
    let names: Vec<_> = programs.iter().map(|program| &program["name"]).collect();
    // With `acceleration: all`, and no XDP on a veth.
    assert_eq!(
        names,
        ["from_carrier", "from_stack", "from_uplink", "from_workload"]
    );
    assert!(programs.iter().all(|program| program["interfaces"] == 1));
    let number = &list(node, &["programs", "get", "from_uplink"])?[0]["id"];
    if uplink["state"] == "tcx" {
        assert_eq!(&uplink["program"], number);
    }

    let all = list(node, &["maps", "list"])?;
    let names: Vec<_> = all.as_array().context("a list")?.iter().collect();
    assert_eq!(names.len(), maps::ALL.len());
    let peers = &list(node, &["maps", "get", "peers"])?[0];
    assert_eq!(peers["name"], maps::PEERS);
    assert_eq!(peers["type"], "hash");
    assert_eq!(peers["entries"], 1);
    let text = table(node, &["maps", "get", "PEERS", "-o", "wide"])?;
    assert!(
        text.starts_with("NAME   TYPE  ENTRIES  MAX-ENTRIES  ID "),
        "{text}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn watch_prints_what_is_there_and_then_what_changes() -> Result<()> {
    const ROUTE: &str = "routes: [{ cidr: 10.244.9.0/24, blackhole: true }]\n";
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(Mode::Vxlan)?;
    let node = lab.node("node-0");
    let arguments = ["routes", "watch", "--interval", "20ms", "-o", "json"];
    let watch = node.start_underpass("watch", &arguments)?;
    let told = || -> Result<Vec<(Value, Value)>> {
        let log = watch.log()?;
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let events = whole.lines().map(|line| {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            check(&event)?;
            Ok((event["change"].clone(), event["item"]["prefix"].clone()))
        });
        events.collect()
    };
    let mut expected = vec![
        (json!("present"), json!("10.244.0.0/24")),
        (json!("present"), json!("10.244.1.0/24")),
    ];
    eventually("it prints what is there", || Ok(told()? == expected))?;
    let cluster = cluster_yaml(&lab, Mode::Vxlan.ipip_mode(), Mode::Vxlan.vxlan_mode());
    node.write_cluster(&format!("{cluster}{ROUTE}"))?;
    expected.push((json!("added"), json!("10.244.9.0/24")));
    eventually("it prints what has come", || Ok(told()? == expected))?;
    node.write_cluster(&cluster)?;
    expected.push((json!("removed"), json!("10.244.9.0/24")));
    eventually("it prints what has gone", || Ok(told()? == expected))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn explain_says_what_would_happen_and_why() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let (pod, remote) = (node.pod("p0").address(), lab.pod("node-1", "p0").address());
    let explain =
        |source: &str, destination: &str| json_of(node, &["explain", source, destination]);

    let out = explain(&pod.to_string(), &remote.to_string())?;
    assert_eq!(out["hook"], "from_workload");
    assert_eq!(out["reason"], "sent-vxlan");
    let steps = out["steps"].to_string();
    assert!(
        steps.contains("10.244.1.0/24: vxlan to 192.168.1.11"),
        "{steps}"
    );
    assert!(steps.contains("192.168.1.10 -> 192.168.1.11"), "{steps}");

    let back = explain(&remote.to_string(), &pod.to_string())?;
    assert_eq!(back["hook"], "from_uplink");
    assert_eq!(back["reason"], "received-vxlan");

    let host = explain("10.244.0.1", &remote.to_string())?;
    assert_eq!(host["hook"], "from_stack");
    assert_eq!(host["reason"], "sent-vxlan");

    let outside = explain(&pod.to_string(), "203.0.113.7")?;
    assert_eq!(outside["action"], "stack");
    assert_eq!(outside["reason"], "no-route");

    let text = table(node, &["explain", &pod.to_string(), &remote.to_string()])?;
    assert!(
        text.contains(
            "\nfrom_workload: forward (sent-vxlan)\non node-1 (192.168.1.11), by the cluster file:\n"
        ),
        "{text}"
    );

    let addresses = [pod.to_string(), remote.to_string()];
    let tcp = ["explain", &addresses[0], &addresses[1], "--protocol", "tcp"];
    let ports = ["--sport", "40000", "--dport", "80"];
    let told = json_of(node, &[&tcp[..], &ports].concat())?;
    assert_eq!(told["mtu"], 1450);
    let outer = told["outer"].as_array().context("outer headers")?;
    let headers: Vec<_> = outer.iter().map(|header| &header["header"]).collect();
    assert_eq!(headers, ["IPv4", "UDP", "VXLAN", "Ethernet"]);
    let text = refusal(node, &tcp, 2)?;
    assert!(text.contains("--sport PORT --dport PORT"), "{text}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn where_no_agent_has_run_it_says_so() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 0)?;
    let node = lab.node("node-0");
    std::fs::write(node.dir().join("config.yaml"), node.agent_config())?;
    for arguments in [
        &["routes", "list"][..],
        &["counters"],
        &["explain", "10.0.0.1", "10.0.0.2"],
    ] {
        let text = refusal(node, arguments, 4)?;
        assert!(text.contains("nothing is pinned"), "{arguments:?}: {text}");
    }
    Ok(())
}
