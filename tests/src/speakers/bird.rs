//! BIRD 2, with the configuration that Calico's templates give: but that timers are short, and that
//! without Calico's own attribute BIRD does not route by tunnels.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{AS, Speaker};
use crate::NsCommand;

/// Starts the daemon, which with `-R` waits for what its predecessor's peers still know.
pub(super) fn start(speaker: &mut Speaker) -> Result<()> {
    write_config(speaker)?;
    let mut command = speaker.ns.command("bird").arg("-f");
    if speaker.graceful {
        command = command.arg("-R");
    }
    let command = command.arg("-c").arg(config_path(speaker));
    let command = command.arg("-s").arg(socket_path(speaker));
    speaker.run("bird", command)
}

/// Has the daemon read its configuration again.
pub(super) fn reconfigure(speaker: &Speaker) -> Result<()> {
    write_config(speaker)?;
    birdc(speaker, &["configure"]).run()?;
    Ok(())
}

/// How many sessions stand. A daemon that is just starting answers nobody: none.
pub(super) fn established(speaker: &Speaker) -> Result<usize> {
    let output = birdc(speaker, &["show", "protocols"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.matches("Established").count())
}

fn birdc(speaker: &Speaker, words: &[&str]) -> NsCommand {
    let command = speaker.ns.command("birdc").arg("-s");
    command.arg(socket_path(speaker)).args(words)
}

fn write_config(speaker: &Speaker) -> Result<()> {
    let path = config_path(speaker);
    fs::write(&path, config(speaker)).with_context(|| format!("write {}", path.display()))
}

fn config(speaker: &Speaker) -> String {
    let address = speaker.address;
    let graceful = if speaker.graceful { "on" } else { "off" };
    let mut config = format!(
        r#"
router id {address};
log stderr all;
protocol device {{ debug {{ states }}; scan time 2; }}
protocol direct {{ interface -"cali*", -"kube-ipvs*", "*"; ipv4; }}
protocol kernel {{
  learn; persist; scan time 2; graceful restart; merge paths on;
  ipv4 {{
    import all;
    export filter {{ if source ~ [ RTS_BGP, RTS_STATIC ] then accept; reject; }};
  }};
}}
template bgp mesh {{
  debug {{ states }};
  local {address} as {AS}; multihop;
  graceful restart {graceful};
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{
    gateway recursive; add paths on; next hop self;
    import all;
    export filter {{ if source = RTS_STATIC then accept; reject; }};
  }};
}}
protocol static {{
  ipv4;
"#
    );
    for block in &speaker.blocks {
        writeln!(config, "  route {block} blackhole;").expect("write into a string");
    }
    config += "}\n";
    for (index, peer) in speaker.peers.iter().enumerate() {
        let passive = if speaker.is_passive(*peer) {
            "on"
        } else {
            "off"
        };
        writeln!(
            config,
            "protocol bgp mesh_{index} from mesh {{ neighbor {peer} as {AS}; passive {passive}; }}"
        )
        .expect("write into a string");
    }
    config
}

fn config_path(speaker: &Speaker) -> PathBuf {
    speaker.dir.join("bird.cfg")
}

fn socket_path(speaker: &Speaker) -> PathBuf {
    speaker.dir.join("bird.ctl")
}
