//! What watches agents on real nodes finds no fault with ours: Prometheus and systemd, from Debian.

use std::{fs, process::Stdio};

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
    assert!(!has_sample("up==0")?);
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
