//! The programs that the tests and the demo run, and what links Rust programs.

use crate::{
    lookup,
    setup::{Need, Remedy},
};

/// What every lab runs, and what links it, as things to have.
pub(crate) fn lab_needs() -> Vec<Need> {
    [&LINKER].into_iter().chain(LAB).map(need).collect()
}

/// What some tests and benchmarks run besides, as things to have.
pub(crate) fn needs() -> Vec<Need> {
    ROUTERS
        .iter()
        .chain(MONITORS)
        .chain(NETFILTER)
        .chain(CONTAINERS)
        .map(need)
        .collect()
}

/// What the virtual machines of the kernel matrix take besides, as things to have.
pub(crate) fn machine_needs() -> Vec<Need> {
    MACHINES.iter().map(need).collect()
}

/// What the fuzzer is built with besides, as things to have.
pub(crate) fn fuzzer_needs() -> Vec<Need> {
    vec![need(&CXX)]
}

/// The names of the programs that the lab runs, but for its routers, its monitors and what
/// clusters do with netfilter.
pub(crate) fn of_the_lab() -> impl Iterator<Item = &'static str> {
    LAB.iter().map(|program| program.name)
}

fn need(program: &Program) -> Need {
    Need {
        name: program.name.to_owned(),
        why: program.why,
        found: lookup::program(program.name).map(|path| path.display().to_string()),
        remedy: Remedy::Packages(program.packages),
    }
}

/// One program and where Debian has it.
struct Program {
    name: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
}

const LINKER: Program = Program {
    name: "cc",
    packages: &["gcc", "libc6-dev"],
    why: "links Rust programs",
};

const CXX: Program = Program {
    name: "c++",
    packages: &["g++"],
    why: "compiles libFuzzer",
};

const LAB: &[Program] = &[
    Program {
        name: "sh",
        packages: &["dash"],
        why: "runs lab scripts",
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
        name: "nft",
        packages: &["nftables"],
        why: "has lab pods and nodes translate addresses",
    },
    Program {
        name: "setpriv",
        packages: &["util-linux"],
        why: "runs lab programs with fewer privileges",
    },
    Program {
        name: "unshare",
        packages: &["util-linux"],
        why: "gives lab programs mounts of their own",
    },
    Program {
        name: "strace",
        packages: &["strace"],
        why: "kills an agent at a step of its work",
    },
    Program {
        name: "sysctl",
        packages: &["procps"],
        why: "shows whether a node is as it was",
    },
];

/// The routers that nodes of the lab run. Virtual machines have none: no kernel changes what they do.
const ROUTERS: &[Program] = &[
    Program {
        name: "bird",
        packages: &["bird2"],
        why: "is a router that lab nodes run, as Calico's do",
    },
    Program {
        name: "birdc",
        packages: &["bird2"],
        why: "asks lab nodes' BIRD",
    },
    Program {
        name: "vtysh",
        packages: &["frr"],
        why: "asks FRR, the other router that lab nodes run",
    },
];

/// What watches an agent on a real node. Virtual machines have none: no kernel changes what it says.
const MONITORS: &[Program] = &[
    Program {
        name: "prometheus",
        packages: &["prometheus"],
        why: "scrapes the agent's metrics",
    },
    Program {
        name: "promtool",
        packages: &["prometheus"],
        why: "finds fault with metrics",
    },
    Program {
        name: "systemd-analyze",
        packages: &["systemd"],
        why: "finds fault with the agent's unit",
    },
    Program {
        name: "tcpdump",
        packages: &["tcpdump"],
        why: "reads the packets that `underpass monitor` has written",
    },
    Program {
        name: "tshark",
        packages: &["tshark"],
        why: "reads them as Wireshark does",
    },
];

/// What clusters have netfilter do, and who meets it. Virtual machines have none: iptables takes
/// libraries that it opens by itself, and nginx a system's users and directories.
const NETFILTER: &[Program] = &[
    Program {
        name: "iptables-legacy-restore",
        packages: &["iptables"],
        why: "loads rules into lab nodes as kube-proxy and Calico do",
    },
    Program {
        name: "iptables-nft-restore",
        packages: &["iptables"],
        why: "does so by nftables",
    },
    Program {
        name: "ipset",
        packages: &["ipset"],
        why: "holds the addresses that lab nodes' rules match",
    },
    Program {
        name: "conntrack",
        packages: &["conntrack"],
        why: "shows the connections that lab nodes track",
    },
    Program {
        name: "nginx",
        packages: &["nginx"],
        why: "is what lab pods serve by HTTP",
    },
    Program {
        name: "ab",
        packages: &["apache2-utils"],
        why: "is the lab's HTTP client",
    },
];

/// What reads and runs the image. Virtual machines have none: no kernel changes what is in it.
const CONTAINERS: &[Program] = &[
    Program {
        name: "podman",
        packages: &["podman", "runc"],
        why: "loads the image and runs agents from it",
    },
    Program {
        name: "runc",
        packages: &["runc"],
        why: "starts podman's containers",
    },
    Program {
        name: "skopeo",
        packages: &["skopeo"],
        why: "reads the image as registries' tools do",
    },
];

const MACHINES: &[Program] = &[
    Program {
        name: "qemu-system-x86_64",
        packages: &["qemu-system-x86"],
        why: "boots the kernels",
    },
    Program {
        name: "busybox",
        packages: &["busybox-static"],
        why: "is the userland of the virtual machines",
    },
    Program {
        name: "cpio",
        packages: &["cpio"],
        why: "packs what the virtual machines boot from",
    },
    Program {
        name: "depmod",
        packages: &["kmod"],
        why: "finds out which modules need which",
    },
    Program {
        name: "xz",
        packages: &["xz-utils"],
        why: "decompresses modules",
    },
    Program {
        name: "strip",
        packages: &["binutils"],
        why: "makes the tests small enough for a virtual machine",
    },
];
