//! The settings of the kernel that forwarding needs, and that the agent sets.

use std::fs;

use anyhow::{Context, Result};

use super::Finding;
use crate::{
    config::Config,
    dataplane::{ON, SYSCTLS},
    kernel::Sysctl,
};

/// What has the node forward.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

pub(super) struct Facts {
    forwards: Result<bool>,
    /// Those that the agent sets.
    conntrack: Vec<Setting>,
}

/// A sysctl of connection tracking.
struct Setting {
    sysctl: Sysctl,
    /// What it is, where it exists.
    value: Result<Option<u32>>,
    writable: Result<()>,
}

pub(super) fn read(config: &Config) -> Facts {
    let forwards = fs::read_to_string(IP_FORWARD);
    let settings = SYSCTLS.into_iter().filter(|_| config.is_established());
    Facts {
        forwards: forwards
            .map(|text| text.trim() != "0")
            .with_context(|| format!("cannot read {IP_FORWARD}")),
        conntrack: settings
            .map(|sysctl| Setting {
                sysctl,
                value: sysctl.read(),
                writable: sysctl.check_writable(ON),
            })
            .collect(),
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let settings = facts.conntrack.iter().map(setting);
    [forwarding(&facts.forwards)]
        .into_iter()
        .chain(settings)
        .collect()
}

fn forwarding(forwards: &Result<bool>) -> Finding {
    const SUBJECT: &str = "net.ipv4.ip_forward";
    match forwards {
        Ok(true) => Finding::ok(SUBJECT, "1"),
        Ok(false) => Finding::fails(SUBJECT, "0")
            .means("the stack drops what the programs leave to it, such as the beginning of each flow")
            .remedy("sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d, as any Kubernetes node has it"),
        Err(error) => Finding::unknown(SUBJECT, error),
    }
}

fn setting(setting: &Setting) -> Finding {
    let subject = setting.sysctl.to_string();
    match (&setting.value, &setting.writable) {
        (Ok(Some(ON)), _) => Finding::ok(subject, ON.to_string()),
        (Ok(Some(value)), Ok(())) => Finding::ok(subject, value.to_string()).means(format!(
            "the agent sets it to {ON}, and `underpass detach` back"
        )),
        (Ok(Some(value)), Err(error)) => {
            Finding::refused(subject, value.to_string(), error).remedy("underpass prepare")
        }
        (Ok(None), _) => Finding::ok(subject, "none").means(
            "this kernel has none, or connection tracking is not loaded yet: then it is set later",
        ),
        (Err(error), _) => Finding::unknown(subject, error),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::check::Outcome::{self, Fails, Ok as Fine};

    fn result(value: Option<u32>, writable: Result<()>) -> Outcome {
        let facts = Facts {
            forwards: Ok(true),
            conntrack: vec![Setting {
                sysctl: Sysctl::BeLiberal,
                value: Ok(value),
                writable,
            }],
        };
        judge(&facts)[1].result
    }

    #[test]
    fn what_the_agent_cannot_set_has_to_be_set() {
        let read_only = || Err(anyhow!("cannot set it"));
        assert_eq!(result(Some(0), Ok(())), Fine);
        assert_eq!(result(Some(0), read_only()), Fails);
        assert_eq!(result(Some(1), read_only()), Fine);
        assert_eq!(result(None, read_only()), Fine);
    }

    #[test]
    fn a_node_forwards() {
        for (forwards, result) in [(true, Fine), (false, Fails)] {
            let facts = Facts {
                forwards: Ok(forwards),
                conntrack: Vec::new(),
            };
            assert_eq!(judge(&facts)[0].result, result);
        }
    }
}
