//! FRR.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{AS, Speaker};
use crate::{NsCommand, eventually};

/// Where Debian has the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// Whom the daemons run as.
const USER: &str = "frr";

/// What they may do nevertheless.
const CAPABILITIES: &str = "+net_admin,+net_bind_service,+net_raw,+sys_admin,+setgid";

/// Starts the daemon that writes to the kernel, which with `--graceful_restart` leaves for a while
/// what its predecessor has written, and the one that speaks BGP.
pub(super) fn start(speaker: &mut Speaker) -> Result<()> {
    let chown = speaker.ns.command("chown").arg(format!("{USER}:{USER}"));
    chown.arg(&speaker.dir).run()?;
    let socket = socket_path(speaker);
    if socket.exists() {
        fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))?;
    }
    let mut zebra = daemon(speaker, "zebra", "")?;
    if speaker.graceful {
        zebra = zebra.args(["--graceful_restart", "60"]);
    }
    speaker.run("zebra", zebra)?;
    eventually("zebra listens", || Ok(socket.exists()))?;
    let bgpd = daemon(speaker, "bgpd", &config(speaker))?;
    speaker.run("bgpd", bgpd)
}

fn daemon(speaker: &Speaker, name: &str, config: &str) -> Result<NsCommand> {
    let dir = &speaker.dir;
    let config_path = dir.join(format!("{name}.conf"));
    fs::write(&config_path, config).with_context(|| format!("write {}", config_path.display()))?;
    // A process that gives up root outlives whoever started it, since the kernel forgets that they
    // were to end together (prctl(2), PR_SET_PDEATHSIG). So the daemon starts without it.
    Ok(speaker
        .ns
        .command("setpriv")
        .args(["--reuid", USER, "--regid", USER, "--init-groups"])
        .args(["--inh-caps", CAPABILITIES, "--ambient-caps", CAPABILITIES])
        .args(["--pdeathsig", "KILL", "--"])
        .arg(format!("{DAEMONS}/{name}"))
        .arg("--config_file")
        .arg(config_path)
        .arg("--pid_file")
        .arg(dir.join(format!("{name}.pid")))
        .arg("--socket")
        .arg(socket_path(speaker))
        .arg("--vty_socket")
        .arg(dir)
        .args(["--vty_port", "0", "--log", "stdout"]))
}

/// Tells the daemon something about the addresses it announces.
pub(super) fn configure(speaker: &Speaker, line: &str) -> Result<()> {
    vtysh(speaker)
        .args(["-c", "configure terminal"])
        .args(["-c", &format!("router bgp {AS}")])
        .args(["-c", "address-family ipv4 unicast", "-c", line])
        .run()?;
    Ok(())
}

/// How many sessions stand. A daemon that is just starting answers nobody: none.
pub(super) fn established(speaker: &Speaker) -> Result<usize> {
    let output = vtysh(speaker)
        .args(["-c", "show bgp ipv4 unicast summary json"])
        .output()?;
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let peers = summary.get("peers").and_then(Value::as_object);
    let is_established = |peer: &&Value| peer["state"] == "Established";
    Ok(peers.map_or(0, |peers| peers.values().filter(is_established).count()))
}

fn vtysh(speaker: &Speaker) -> NsCommand {
    let command = speaker.ns.command("vtysh").arg("--vty_socket");
    command.arg(&speaker.dir)
}

fn config(speaker: &Speaker) -> String {
    let mut config = format!(
        "router bgp {AS}\n\
         bgp router-id {}\n\
         no bgp default ipv4-unicast\n\
         no bgp network import-check\n",
        speaker.address
    );
    for peer in &speaker.peers {
        write!(
            config,
            "neighbor {peer} remote-as {AS}\n\
             neighbor {peer} update-source {}\n\
             neighbor {peer} timers connect 1\n\
             neighbor {peer} advertisement-interval 0\n",
            speaker.address
        )
        .expect("write into a string");
        if speaker.is_passive(*peer) {
            writeln!(config, "neighbor {peer} passive").expect("write into a string");
        }
    }
    config += if speaker.graceful {
        "bgp graceful-restart\nbgp graceful-restart preserve-fw-state\n"
    } else {
        "bgp graceful-restart-disable\n"
    };
    config += "address-family ipv4 unicast\n";
    for block in &speaker.blocks {
        writeln!(config, "network {block}").expect("write into a string");
    }
    for peer in &speaker.peers {
        write!(
            config,
            "neighbor {peer} activate\n\
             neighbor {peer} next-hop-self\n"
        )
        .expect("write into a string");
    }
    config + "exit-address-family\n"
}

fn socket_path(speaker: &Speaker) -> PathBuf {
    speaker.dir.join("zserv")
}
