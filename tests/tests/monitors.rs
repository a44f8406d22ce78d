//! What watches agents and packets on real nodes finds no fault with ours: Prometheus, systemd, tcpdump and
//! Wireshark's tshark, from Debian.

use std::{
    fs,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Background, Lab, Mode, NetNs, PingOptions, eventually,
    http::{self, AGENT, get},
    ping, require_root,
};

/// Where Prometheus is asked.
const PROMETHEUS: &str = "127.0.0.1:9090";

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");

const UNIT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../dataplane-user/systemd/underpass.service"
);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn promtool_finds_nothing_to_say_against_the_metrics() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let _agents: Vec<Agent> = lab.start_agents(Mode::Vxlan)?;
    let metrics = get(lab.node("node-0"), "/metrics")?.body;
    let lint = |text: &str| -> Result<(bool, String)> {
        let output = NetNs::current()?
            .command("promtool")
            .args(["check", "metrics"])
            .input(text)?
            .output()?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(words)?))
    };
    assert_eq!(lint(&metrics)?, (true, String::new()));
    let worse = metrics.replace("underpass_drops_total", "underpass_drops");
    assert!(!lint(&worse)?.0, "it would find something");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_alerts_are_raised_when_they_should_be() -> Result<()> {
    require_root();
    let rules = fs::read_to_string(format!("{ALERTS}/alerts.yaml"))?;
    let tests = fs::read_to_string(format!("{ALERTS}/alerts.test.yaml"))?;
    let alerts = rules
        .lines()
        .filter_map(|line| line.split("alert: ").nth(1));
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}")), "{alert}");
    }
    let promtool = NetNs::current()?
        .command("promtool")
        .args(["test", "rules", &format!("{ALERTS}/alerts.test.yaml")])
        .output()?;
    let words = String::from_utf8(promtool.stderr)?;
    assert!(promtool.status.success(), "{words}");

    let lab = Lab::flat(1, 1)?;
    let _agents: Vec<Agent> = lab.start_agents(Mode::Vxlan)?;
    let metrics = get(lab.node("node-0"), "/metrics")?.body;
    let names = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for name in names.filter(|name| name.starts_with("underpass_")) {
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_real_prometheus_scrapes_it() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents: Vec<Agent> = lab.start_agents(Mode::Vxlan)?;
    let node = lab.node("node-0");
    let config = node.dir().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: underpass\n  \
               static_configs: [{{targets: ['{AGENT}']}}]\n"
        ),
    )?;
    let command = node
        .ns()
        .command("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            node.dir().join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={PROMETHEUS}"));
    let _prometheus: Background = node.start("prometheus", command)?;
    ping(
        node.pod("p0").ns(),
        lab.pod("node-1", "p0").address(),
        &PingOptions::default(),
    )?;
    let has_sample = |query: &str| -> Result<bool> {
        let path = format!("/api/v1/query?query={query}");
        let answer = http::ask(node.ns(), "GET", PROMETHEUS, &path)?;
        Ok(answer.is_some_and(|answer| answer.body.contains("\"value\":[")))
    };
    for query in [
        "up==1",
        "underpass_packets_total%7Bmode=%22vxlan%22%7D>0",
        "underpass_in_sync==1",
        "underpass_apply_seconds_bucket>0",
        "sum(scrape_samples_scraped)>100",
    ] {
        eventually(&format!("Prometheus has {query}"), || has_sample(query))?;
    }
    eventually("no scrape failed last", || Ok(!has_sample("up==0")?))?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn systemd_finds_no_fault_with_the_unit() -> Result<()> {
    require_root();
    let unit = fs::read_to_string(UNIT).context(UNIT)?;
    let installed = "/usr/local/bin/underpass";
    assert!(
        unit.contains(&format!("ExecStart={installed} agent ")),
        "{unit}"
    );
    let directory = tempfile::tempdir()?;
    let underpass = std::env::var("UNDERPASS_BIN").context("UNDERPASS_BIN is not set")?;
    let verify = |unit: &str| -> Result<(bool, String)> {
        let file = directory.path().join("underpass.service");
        // It looks whether the program is there.
        fs::write(&file, unit.replace(installed, &underpass))?;
        let output = std::process::Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .context("start systemd-analyze")?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(words)?))
    };
    assert_eq!(verify(&unit)?, (true, String::new()));
    let worse = unit.replace("WatchdogSec=60", "WatchdogSecs=60");
    assert!(
        verify(&worse)?.1.contains("WatchdogSecs"),
        "it would say so"
    );
    Ok(())
}

/// A packet is in the file at each hook that it passed, with what became of it.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn tcpdump_and_tshark_read_what_monitor_has_written() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agents: Vec<Agent> = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    let node = lab.node("node-0");
    let file = lab.dir().join("packets.pcapng");
    let name = file.to_string_lossy();
    let arguments = ["monitor", "-w", &name, "--protocol", "icmp"];
    let mut monitor = node.start_underpass("monitor", &arguments)?;
    let options = PingOptions {
        count: 1,
        ..PingOptions::default()
    };
    // Until somebody listens, nothing is written.
    eventually("an echo and its answer are in the file", || {
        ping(
            lab.pod("node-0", "p0").ns(),
            lab.pod("node-1", "p0").address(),
            &options,
        )?;
        Ok(fs::metadata(&file).is_ok_and(|file| file.len() > 500))
    })?;
    assert!(monitor.terminate()?.success(), "{}", monitor.log()?);

    let here = NetNs::current()?;
    let printed = here.command("tcpdump").args(["-n", "-r", &name]).run()?;
    let echo = "IP 10.244.0.2 > 10.244.1.2: ICMP echo request";
    assert!(printed.contains(echo), "{printed}");
    let in_tunnel = "IP 10.244.1.2 > 10.244.0.2: ICMP echo reply";
    assert!(
        printed.contains("VXLAN") && printed.contains(in_tunnel),
        "{printed}"
    );

    let fields = [
        "frame.interface_name",
        "frame.comment",
        "frame.len",
        "frame.time_epoch",
    ];
    let fields = fields.into_iter().flat_map(|field| ["-e", field]);
    let tshark = here
        .command("tshark")
        .args(["-r", &name, "-T", "fields"])
        .args(fields);
    let printed = tshark.run()?;
    let of = |hook: &str| printed.lines().find(|line| line.contains(hook));
    let sent = of("from_workload").with_context(|| printed.clone())?;
    let comment = "forward (sent-vxlan) in vxlan to 192.168.1.11 on eth0\t98\t";
    assert!(sent.contains(comment), "{printed}");
    let time = sent.rsplit('\t').next().unwrap_or_default();
    let age = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() - time.parse::<f64>()?;
    assert!((0.0..60.0).contains(&age), "{sent} was {age} s ago");
    let received = of("eth0 from_uplink").with_context(|| printed.clone())?;
    assert!(
        received.contains("forward (received-vxlan)") && received.contains("\t148\t"),
        "{printed}"
    );
    Ok(())
}
