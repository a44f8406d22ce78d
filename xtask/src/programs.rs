//! The programs that the tests and the demo run, and what links Rust programs.

use crate::{
    lookup,
    setup::{Need, Remedy},
};

/// The programs as things to have.
pub(crate) fn needs() -> Vec<Need> {
    PROGRAMS
        .iter()
        .map(|program| Need {
            name: program.name.to_owned(),
            why: program.why,
            found: lookup::program(program.name).map(|path| path.display().to_string()),
            remedy: Remedy::Packages(program.packages),
        })
        .collect()
}

/// One program and where Debian has it.
struct Program {
    name: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "cc",
        packages: &["gcc", "libc6-dev"],
        why: "links Rust programs",
    },
    Program {
        name: "ip",
        packages: &["iproute2"],
        why: "lays out the lab's links, addresses and routes",
    },
    Program {
        name: "tc",
        packages: &["iproute2"],
        why: "shows and adds TC programs beside ours",
    },
    Program {
        name: "bridge",
        packages: &["iproute2"],
        why: "fills the FDB of the kernel's own VXLAN device",
    },
    Program {
        name: "ss",
        packages: &["iproute2"],
        why: "tells when a lab server listens",
    },
    Program {
        name: "ping",
        packages: &["iputils-ping"],
        why: "is the lab's ICMP traffic",
    },
    Program {
        name: "iperf3",
        packages: &["iperf3"],
        why: "is the lab's bulk TCP and UDP traffic",
    },
    Program {
        name: "ethtool",
        packages: &["ethtool"],
        why: "switches the offloads of lab interfaces",
    },
    Program {
        name: "setpriv",
        packages: &["util-linux"],
        why: "runs lab programs with fewer privileges",
    },
];
