//! `config.yaml`: what one node's agent is told about its node.
//!
//! Every field has a default, so an empty file is a valid configuration; a field that does not
//! exist is an error.

mod raw;
mod schema;
mod written;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use dataplane_common::abi::MAX_GATEWAYS;
use ipnet::Ipv4Net;
use serde::Serialize;
use wildmatch::WildMatch;

use crate::document::{self, FileError, Located, Problems, scalar};
use raw::{RawConfig, RawKernelSource, RawSource, RawTunnel, RawVxlan};

pub use schema::schema;

/// Where everything is pinned unless `pins` says otherwise.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/underpass";

/// Where health and metrics are served unless `listen` says otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9478);

/// VXLAN network identifiers have 24 bits (RFC 7348, section 5).
const MAX_VNI: u32 = (1 << 24) - 1;

/// A DSCP has 6 bits (RFC 2474, section 3).
const MAX_DSCP: u8 = (1 << 6) - 1;

/// After how long netfilter may see a flow again: no more than a third of the shortest time that
/// connection tracking keeps a flow for, 30 s for UDP in one direction; and no less than what a few
/// ticks of a kernel's clock are.
const REVERIFY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);

/// Bytes of a socket buffer: the least the kernel gives (`SOCK_MIN_RCVBUF`), and what a terabyte of
/// memory would allow.
const BUFFER: RangeInclusive<u64> = 2304..=1 << 30;

/// The words for [`Acceleration`].
const ACCELERATIONS: [(&str, Acceleration); 2] = [
    ("established", Acceleration::Established),
    ("all", Acceleration::All),
];

/// The words for [`Attach`].
const ATTACHES: [(&str, Attach); 3] = [
    ("auto", Attach::Auto),
    ("tcx", Attach::Tcx),
    ("clsact", Attach::Clsact),
];

/// The words for [`Xdp`].
const XDPS: [(&str, Xdp); 4] = [
    ("auto", Xdp::Auto),
    ("native", Xdp::Native),
    ("generic", Xdp::Generic),
    ("off", Xdp::Off),
];

/// The agent's configuration, valid, with every default filled in. It is written as it is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The name this node has in the cluster table. Default: `$NODE_NAME`, else the hostname.
    pub node: String,
    /// The interfaces that lead to the other nodes. Default, and empty: the one that holds this
    /// node's address.
    pub uplinks: Vec<String>,
    /// The host sides of the pods' interfaces. Default: `cali*`.
    pub workloads: WorkloadPatterns,
    /// The addresses proxy ARP answers for, at most [`MAX_GATEWAYS`]. Default: 169.254.1.1, the
    /// gateway that Calico gives to pods.
    pub gateways: Vec<Ipv4Addr>,
    /// Which packets the BPF programs carry. Default: those of established flows.
    pub acceleration: Acceleration,
    /// After how long the stack sees a packet of an established flow again. Default: 2 s.
    #[serde(serialize_with = "written::duration")]
    pub reverify: Duration,
    /// Whether pods may send IPIP and VXLAN themselves (Calico's `allowVXLANPacketsFromWorkloads`
    /// and `allowIPIPPacketsFromWorkloads`). Default: no.
    pub workload_tunnels: bool,
    /// How the BPF programs are attached. Default: as the kernel allows.
    pub attach: Attach,
    /// Whether tunnels are opened before the socket buffer. Default: where the driver can.
    pub xdp: Xdp,
    /// Where the cluster's routes come from. Default: the file `cluster.yaml`.
    pub source: Source,
    /// The tunnels between nodes.
    pub tunnel: Tunnel,
    /// The address and TCP port that health and metrics are served at, or nowhere. Default:
    /// 127.0.0.1:9478.
    #[serde(serialize_with = "written::listener")]
    pub listen: Option<SocketAddr>,
    /// The directory in a BPF file system that maps, links and programs are pinned in; an absolute
    /// path. Default: `/sys/fs/bpf/underpass`.
    pub pins: PathBuf,
}

impl Config {
    /// Reads and validates the configuration in `file`.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        Self::parse(file, &document::read(file)?, default_node)
    }

    /// The defaults, with the kernel's routes: what can be had without any file.
    ///
    /// # Panics
    ///
    /// Never: every field has a default.
    #[must_use]
    pub fn without_files() -> Self {
        let config = Self::parse(Path::new(""), "source: kernel", default_node);
        config.expect("every field has a default")
    }

    fn parse(
        file: &Path,
        text: &str,
        default_node: impl FnOnce() -> String,
    ) -> Result<Self, FileError> {
        let raw: RawConfig = document::parse(file, text)?.unwrap_or_default();
        let mut problems = Problems::default();
        let config = Self {
            node: node(raw.node, &mut problems).unwrap_or_else(default_node),
            workloads: workloads(raw.workloads, raw.uplinks.as_deref(), &mut problems),
            uplinks: uplinks(raw.uplinks, &mut problems),
            gateways: gateways(raw.gateways, &mut problems),
            acceleration: acceleration(raw.acceleration, &mut problems),
            reverify: reverify(raw.reverify, &mut problems),
            workload_tunnels: raw.workload_tunnels.unwrap_or(false),
            attach: attach(raw.attach, &mut problems),
            xdp: xdp(raw.xdp, &mut problems),
            source: source(raw.source, file, &mut problems),
            tunnel: tunnel(raw.tunnel, &mut problems),
            listen: listen(raw.listen, &mut problems),
            pins: pins(raw.pins, &mut problems),
        };
        problems.into_result(file)?;
        Ok(config)
    }

    /// Whether netfilter is heeded.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.acceleration == Acceleration::Established
    }
}

/// Patterns for interface names, in which `*` stands for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadPatterns(Vec<WildMatch>);

impl WorkloadPatterns {
    /// Whether the interface called `name` is a pod's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}

/// Which packets the BPF programs carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// Those of flows that the stack, and netfilter in it, has let through unchanged both ways.
    Established,
    /// All that have a route, underneath netfilter.
    All,
}

/// How the BPF programs are attached to traffic control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// `Tcx` where the kernel has it, else `Clsact`.
    Auto,
    /// By tcx links, which Linux has since 6.6.
    Tcx,
    /// By filters of a clsact queueing discipline.
    Clsact,
}

/// Where XDP opens what the wire brings in tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Xdp {
    /// In the driver, where it can and that makes it faster; else nowhere.
    Auto,
    /// In the driver, where it can.
    Native,
    /// Behind the driver, on any interface.
    Generic,
    /// Nowhere: it is done on traffic control.
    Off,
}

/// Where the cluster's routes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A cluster table in YAML, read by [`crate::source::file`]. A relative path in the
    /// configuration has been taken as relative to the configuration's directory.
    File(PathBuf),
    /// The kernel's own FIB, read by [`crate::source::kernel`].
    Kernel(KernelSource),
}

/// What is taken of the kernel's FIB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelSource {
    /// The networks whose routes are taken. Default, and empty: all that lead to a gateway, but the
    /// default route.
    pub only: Vec<Ipv4Net>,
    /// Size in bytes of the socket buffer that changes wait in. Default: 16 MiB. What does not fit
    /// is read again.
    pub buffer: usize,
}

/// The tunnels between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// The DSCP of outer headers. Default: 0, as the kernel's devices and Calico's have it.
    pub dscp: Dscp,
    /// VXLAN, where a pool uses it.
    pub vxlan: Vxlan,
}

/// The DSCP of outer headers: the first six bits of their TOS byte (RFC 2474). The other two are
/// ECN's, by RFC 6040 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// The same for all, below 64.
    Fixed(u8),
    /// Each packet's own, as `tos inherit` has it of a kernel's device.
    Inherit,
}

/// The parameters of VXLAN, which all nodes of a cluster share. The defaults are Calico's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vxlan {
    /// The network identifier, 24 bits. Default: 4096.
    pub vni: u32,
    /// The UDP destination port. Default: 4789.
    pub port: u16,
    /// Whether the outer UDP header has a checksum. Default: no.
    pub checksum: bool,
}

fn default_node() -> String {
    std::env::var("NODE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(hostname)
}

/// What this machine is called.
pub(crate) fn hostname() -> String {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    hostname.to_string_lossy().into_owned()
}

fn node(given: Option<Located<String>>, problems: &mut Problems) -> Option<String> {
    let Located { value, line } = given?;
    if value.is_empty() {
        problems.at(line, "node is empty: write its name, or leave it out");
    }
    Some(value)
}

fn workloads(
    given: Option<Vec<Located<String>>>,
    uplinks: Option<&[Located<String>]>,
    problems: &mut Problems,
) -> WorkloadPatterns {
    let Some(given) = given else {
        return WorkloadPatterns(vec![WildMatch::new("cali*")]);
    };
    if given.is_empty() {
        problems.in_file("workloads is an empty list: name the pods' interfaces, or leave it out");
    }
    for Located { value, line } in &given {
        let subject = format!("workloads pattern '{value}'");
        problems.keep(*line, subject, scalar::interface_pattern(value));
    }
    let patterns = given.iter().map(|given| WildMatch::new(&given.value));
    let patterns = WorkloadPatterns(patterns.collect());
    for Located { value, line } in uplinks.into_iter().flatten() {
        if patterns.matches(value) {
            problems.at(
                *line,
                format!(
                    "uplink {value} also matches the workloads patterns, but an interface is one \
                     or the other: correct either"
                ),
            );
        }
    }
    patterns
}

fn uplinks(given: Option<Vec<Located<String>>>, problems: &mut Problems) -> Vec<String> {
    let given = given.unwrap_or_default();
    for (index, Located { value, line }) in given.iter().enumerate() {
        problems.keep(*line, format!("uplink '{value}'"), scalar::interface(value));
        if given[..index].iter().any(|uplink| uplink.value == *value) {
            problems.at(
                *line,
                format!("uplink '{value}' is given a second time: keep one"),
            );
        }
    }
    given.into_iter().map(|uplink| uplink.value).collect()
}

fn gateways(given: Option<Vec<Located<String>>>, problems: &mut Problems) -> Vec<Ipv4Addr> {
    let Some(given) = given else {
        return vec![Ipv4Addr::new(169, 254, 1, 1)];
    };
    if let Some(excess) = given.get(MAX_GATEWAYS) {
        problems.at(
            excess.line,
            format!(
                "gateways has more than {MAX_GATEWAYS} addresses, but proxy ARP has room for no \
                 more: remove some"
            ),
        );
    }
    given
        .into_iter()
        .filter_map(|Located { value, line }| {
            let subject = format!("gateway {value}");
            problems.keep(line, subject, scalar::address(&value))
        })
        .collect()
}

fn acceleration(given: Option<Located<String>>, problems: &mut Problems) -> Acceleration {
    given
        .and_then(|Located { value, line }| {
            let word = scalar::word(&value, &ACCELERATIONS);
            problems.keep(line, format!("acceleration '{value}'"), word)
        })
        .unwrap_or(Acceleration::Established)
}

fn reverify(given: Option<Located<String>>, problems: &mut Problems) -> Duration {
    given
        .and_then(|Located { value, line }| {
            let time = scalar::duration(&value, REVERIFY);
            problems.keep(line, format!("reverify {value}"), time)
        })
        .unwrap_or(Duration::from_secs(2))
}

fn attach(given: Option<Located<String>>, problems: &mut Problems) -> Attach {
    given
        .and_then(|Located { value, line }| {
            let word = scalar::word(&value, &ATTACHES);
            problems.keep(line, format!("attach '{value}'"), word)
        })
        .unwrap_or(Attach::Auto)
}

fn xdp(given: Option<Located<String>>, problems: &mut Problems) -> Xdp {
    given
        .and_then(|Located { value, line }| {
            let word = scalar::word(&value, &XDPS);
            problems.keep(line, format!("xdp '{value}'"), word)
        })
        .unwrap_or(Xdp::Auto)
}

fn source(given: Option<RawSource>, config: &Path, problems: &mut Problems) -> Source {
    let given = given.unwrap_or_default();
    if let Some(kernel) = given.kernel {
        if given.file.is_some() {
            problems.in_file("source is a file and the kernel: keep one of them");
        }
        return Source::Kernel(kernel_source(kernel, problems));
    }
    let file = given.file.unwrap_or_else(|| "cluster.yaml".to_owned());
    let directory = config.parent().unwrap_or(Path::new(""));
    Source::File(directory.join(file))
}

fn kernel_source(given: RawKernelSource, problems: &mut Problems) -> KernelSource {
    let only = given.only.unwrap_or_default().into_iter();
    let only = only.filter_map(|Located { value, line }| {
        problems.keep(line, format!("only {value}"), scalar::prefix(&value))
    });
    let only = only.collect();
    let buffer = given.buffer.and_then(|Located { value, line }| {
        let buffer = usize::try_from(value)
            .ok()
            .filter(|_| BUFFER.contains(&value));
        let fault = || {
            let (least, most) = (BUFFER.start(), BUFFER.end());
            format!("is no size of a socket buffer: write bytes, from {least} to {most}")
        };
        problems.keep(line, format!("buffer {value}"), buffer.ok_or_else(fault))
    });
    KernelSource {
        only,
        buffer: buffer.unwrap_or(16 << 20),
    }
}

fn tunnel(given: Option<RawTunnel>, problems: &mut Problems) -> Tunnel {
    let given = given.unwrap_or_default();
    Tunnel {
        dscp: dscp(given.dscp, problems),
        vxlan: vxlan(given.vxlan, problems),
    }
}

fn dscp(given: Option<Located<String>>, problems: &mut Problems) -> Dscp {
    given
        .and_then(|Located { value, line }| {
            let number = || value.parse().ok().filter(|dscp| *dscp <= MAX_DSCP);
            let dscp = match value.as_str() {
                "inherit" => Some(Dscp::Inherit),
                _ => number().map(Dscp::Fixed),
            };
            let fault = || format!("is no DSCP: write one from 0 to {MAX_DSCP}, or inherit");
            problems.keep(line, format!("dscp {value}"), dscp.ok_or_else(fault))
        })
        .unwrap_or(Dscp::Fixed(0))
}

fn vxlan(given: Option<RawVxlan>, problems: &mut Problems) -> Vxlan {
    let given = given.unwrap_or_default();
    let vni = given.vni.map(|Located { value, line }| {
        let vni = u32::try_from(value).ok().filter(|vni| *vni <= MAX_VNI);
        let fault = || format!("has more than 24 bits: write one up to {MAX_VNI}");
        problems.keep(line, format!("vni {value}"), vni.ok_or_else(fault))
    });
    let port = given.port.map(|Located { value, line }| {
        let port = u16::try_from(value).ok().filter(|port| *port != 0);
        let fault = || "is no UDP port: write one from 1 to 65535".to_owned();
        problems.keep(line, format!("port {value}"), port.ok_or_else(fault))
    });
    Vxlan {
        vni: vni.flatten().unwrap_or(4096),
        port: port.flatten().unwrap_or(4789),
        checksum: given.checksum.unwrap_or(false),
    }
}

fn listen(given: Option<Located<String>>, problems: &mut Problems) -> Option<SocketAddr> {
    let Some(Located { value, line }) = given else {
        return Some(DEFAULT_LISTEN);
    };
    if value == "off" {
        return None;
    }
    problems.keep(line, format!("listen {value}"), scalar::listener(&value))
}

fn pins(given: Option<Located<String>>, problems: &mut Problems) -> PathBuf {
    let Some(Located { value, line }) = given else {
        return DEFAULT_PINS.into();
    };
    let pins = PathBuf::from(value);
    if !pins.is_absolute() {
        let text = format!(
            "pins {} is not absolute: write a path in a BPF file system, such as \
             /sys/fs/bpf/underpass",
            pins.display()
        );
        problems.at(line, text);
    }
    pins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::corruption::corrupt;

    fn config(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/up/config.yaml"), text, || "host".to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let expected = Config {
            node: "host".to_owned(),
            uplinks: Vec::new(),
            workloads: WorkloadPatterns(vec![WildMatch::new("cali*")]),
            gateways: vec![Ipv4Addr::new(169, 254, 1, 1)],
            acceleration: Acceleration::Established,
            reverify: Duration::from_secs(2),
            workload_tunnels: false,
            attach: Attach::Auto,
            xdp: Xdp::Auto,
            source: Source::File("/etc/up/cluster.yaml".into()),
            tunnel: Tunnel {
                dscp: Dscp::Fixed(0),
                vxlan: Vxlan {
                    vni: 4096,
                    port: 4789,
                    checksum: false,
                },
            },
            listen: Some("127.0.0.1:9478".parse().unwrap()),
            pins: "/sys/fs/bpf/underpass".into(),
        };
        for text in [
            "",
            "# nothing\n",
            "{}",
            "node:\nsource:\ntunnel: {vxlan: }\n",
            "source: {}",
            "tunnel: {}",
        ] {
            assert_eq!(config(text).as_ref(), Ok(&expected), "{text:?}");
        }
    }

    #[test]
    fn every_field_can_be_given() {
        let given = config(
            "node: 1e3\n\
             uplinks: [eth0, bond0.7]\n\
             workloads: ['cali*', 'veth?']\n\
             gateways: [169.254.1.1, 10.0.0.1]\n\
             acceleration: all\n\
             reverify: 500ms\n\
             attach: clsact\n\
             xdp: off\n\
             source: { file: ../routes.yaml }\n\
             tunnel: { dscp: 46, vxlan: { vni: 0, port: 65535, checksum: true } }\n\
             listen: \"[::1]:80\"\n\
             pins: /run/bpf/up\n",
        );
        let expected = Config {
            node: "1e3".to_owned(),
            uplinks: vec!["eth0".to_owned(), "bond0.7".to_owned()],
            workloads: WorkloadPatterns(vec![WildMatch::new("cali*"), WildMatch::new("veth?")]),
            gateways: vec![Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(10, 0, 0, 1)],
            acceleration: Acceleration::All,
            reverify: Duration::from_millis(500),
            workload_tunnels: false,
            attach: Attach::Clsact,
            xdp: Xdp::Off,
            source: Source::File("/etc/up/../routes.yaml".into()),
            tunnel: Tunnel {
                dscp: Dscp::Fixed(46),
                vxlan: Vxlan {
                    vni: 0,
                    port: 65535,
                    checksum: true,
                },
            },
            listen: Some("[::1]:80".parse().unwrap()),
            pins: "/run/bpf/up".into(),
        };
        assert_eq!(given, Ok(expected));
    }

    #[test]
    fn a_dscp_is_a_number_or_inherited() {
        for (text, expected) in [
            ("0", Dscp::Fixed(0)),
            ("63", Dscp::Fixed(63)),
            ("inherit", Dscp::Inherit),
        ] {
            let config = config(&format!("tunnel: {{dscp: {text}}}\n")).unwrap();
            assert_eq!(config.tunnel.dscp, expected);
        }
    }

    #[test]
    fn health_and_metrics_can_be_switched_off() {
        assert_eq!(config("listen: off\n").unwrap().listen, None);
    }

    #[test]
    fn the_cluster_file_is_relative_to_the_configuration() {
        for (config, file, expected) in [
            ("config.yaml", "cluster.yaml", "cluster.yaml"),
            ("../a/config.yaml", "cluster.yaml", "../a/cluster.yaml"),
            ("/etc/config.yaml", "/srv/cluster.yaml", "/srv/cluster.yaml"),
        ] {
            let text = format!("source: {{file: {file}}}");
            let config = Config::parse(Path::new(config), &text, String::new).unwrap();
            assert_eq!(config.source, Source::File(expected.into()));
        }
    }

    #[test]
    fn workloads_are_the_interfaces_that_a_pattern_matches() {
        let patterns = config("workloads: ['cali*', 'veth?']").unwrap().workloads;
        for (name, matches) in [
            ("cali", true),
            ("cali12345678901", true),
            ("veth1", true),
            ("veth12", false),
            ("veth", false),
            ("eth0", false),
            ("xcali1", false),
            ("CALI1", false),
        ] {
            assert_eq!(patterns.matches(name), matches, "{name}");
        }
    }

    /// Asserts the refusal of each text; messages begin with the line.
    fn assert_refused(cases: &[(&str, &str)]) {
        for (text, message) in cases {
            let message = format!("/etc/up/config.yaml:{message}");
            assert_eq!(config(text).unwrap_err(), message, "{text:?}");
        }
    }

    #[test]
    fn fields_that_do_not_exist_are_refused() {
        assert_refused(&[
            (
                "uplink: eth0\n",
                "1: unknown field 'uplink', expected one of node, uplinks, workloads, gateways, \
                 acceleration, reverify, workloadTunnels, attach, xdp, source, tunnel, listen, \
                 pins",
            ),
            (
                "source: {kernal: {}}\n",
                "1: unknown field 'kernal', expected one of file, kernel",
            ),
        ]);
    }

    #[test]
    fn the_source_may_be_the_kernel() {
        let by_default = KernelSource {
            only: Vec::new(),
            buffer: 16 << 20,
        };
        for text in [
            "source: kernel",
            "source: {kernel: {}}",
            "source:\n  kernel: {only: []}\n",
        ] {
            let source = config(text).map(|config| config.source);
            assert_eq!(source, Ok(Source::Kernel(by_default.clone())), "{text}");
        }
        let text = "source: {kernel: {only: [10.244.0.0/16], buffer: 4096}}";
        let given = KernelSource {
            only: vec!["10.244.0.0/16".parse().unwrap()],
            buffer: 4096,
        };
        assert_eq!(config(text).unwrap().source, Source::Kernel(given));
        assert_refused(&[
            (
                "source: kernal\n",
                "1: source 'kernal' is none: write kernel, or {file: cluster.yaml}",
            ),
            (
                "source: {kernel: {only: [10.244.0.1/16]}}\n",
                "1: only 10.244.0.1/16 has host bits set: write 10.244.0.0/16",
            ),
            (
                "source: {kernel: {buffer: 1}}\n",
                "1: buffer 1 is no size of a socket buffer: write bytes, from 2304 to 1073741824",
            ),
            (
                "source: {file: a.yaml, kernel: {}}\n",
                " source is a file and the kernel: keep one of them",
            ),
        ]);
    }

    #[test]
    fn interfaces_that_cannot_be_are_refused() {
        assert_refused(&[
            ("uplinks: eth0\n", "1: expected a list, such as [a, b]"),
            (
                "uplinks:\n- eth0\n- a-very-long-name\n",
                "3: uplink 'a-very-long-name' is longer than the 15 bytes an interface's name can \
                 have",
            ),
            (
                "uplinks:\n- eth0\n- eth0\n",
                "3: uplink 'eth0' is given a second time: keep one",
            ),
            (
                "uplinks: ['']\n",
                "1: uplink '' is empty: write an interface's name, such as eth0",
            ),
            (
                "uplinks: ['..']\n",
                "1: uplink '..' is no interface's name: write one such as eth0",
            ),
            (
                "uplinks: [eth/0]\n",
                "1: uplink 'eth/0' contains '/', which no interface's name does",
            ),
            (
                "uplinks: [\"eth0\\t\"]\n",
                "1: uplink 'eth0\t' contains '\\t', which no interface's name does",
            ),
            (
                "workloads: ['*']\nuplinks: [eth0]\n",
                "2: uplink eth0 also matches the workloads patterns, but an interface is one or \
                 the other: correct either",
            ),
            (
                "workloads: ['cali[0-9]']\n",
                "1: workloads pattern 'cali[0-9]' contains '[': the only wildcards are * and ?",
            ),
            (
                "workloads: ['']\n",
                "1: workloads pattern '' is empty: write a pattern such as cali*",
            ),
        ]);
    }

    #[test]
    fn other_values_that_cannot_be_are_refused() {
        assert_refused(&[
            (
                "\nnode: ''\n",
                "2: node is empty: write its name, or leave it out",
            ),
            (
                "gateways: [169.254.1.1, 10.0.0.1, 10.0.0.2, 10.0.0.3,\n 10.0.0.4]\n",
                "2: gateways has more than 4 addresses, but proxy ARP has room for no more: \
                 remove some",
            ),
            (
                "gateways: [169.254.1.1/32]\n",
                "1: gateway 169.254.1.1/32 has a prefix length: write 169.254.1.1 alone",
            ),
            (
                "gateways: [224.0.0.1]\n",
                "1: gateway 224.0.0.1 is not an address that other hosts could send to",
            ),
            (
                "node: a\nreverify: 20s\n",
                "2: reverify 20s is no time for that: write one from 50ms to 10s, such as 2s",
            ),
            (
                "acceleration: some\n",
                "1: acceleration 'some' is unknown: write one of established, all",
            ),
            (
                "attach: TCX\n",
                "1: attach 'TCX' is unknown: write one of auto, tcx, clsact",
            ),
            (
                "tunnel:\n  dscp: 64\n",
                "2: dscp 64 is no DSCP: write one from 0 to 63, or inherit",
            ),
            (
                "tunnel: {dscp: EF}\n",
                "1: dscp EF is no DSCP: write one from 0 to 63, or inherit",
            ),
            (
                "tunnel:\n  vxlan:\n    vni: 16777216\n",
                "3: vni 16777216 has more than 24 bits: write one up to 16777215",
            ),
            (
                "tunnel: {vxlan: {vni: four}}\n",
                "1: expected a whole number",
            ),
            (
                "tunnel: {vxlan: {port: 0}}\n",
                "1: port 0 is no UDP port: write one from 1 to 65535",
            ),
            (
                "tunnel: {vxlan: {port: 65536}}\n",
                "1: port 65536 is no UDP port: write one from 1 to 65535",
            ),
            (
                "tunnel: {vxlan: {checksum: yes}}\n",
                "1: expected true or false",
            ),
            (
                "xdp: off\nlisten: 9478\n",
                "2: listen 9478 is no address with a port: write one like 127.0.0.1:9478, or off",
            ),
            (
                "listen: 127.0.0.1\n",
                "1: listen 127.0.0.1 is no address with a port: write one like 127.0.0.1:9478, or \
                 off",
            ),
            (
                "listen: localhost:9478\n",
                "1: listen localhost:9478 is no address with a port: write one like \
                 127.0.0.1:9478, or off",
            ),
            (
                "listen: 127.0.0.1:0\n",
                "1: listen 127.0.0.1:0 has port 0, which nobody could ask: write one from 1 to \
                 65535",
            ),
            (
                "listen: false\n",
                "1: listen false is no address with a port: write one like 127.0.0.1:9478, or off",
            ),
            (
                "pins: bpf/underpass\n",
                "1: pins bpf/underpass is not absolute: write a path in a BPF file system, such \
                 as /sys/fs/bpf/underpass",
            ),
        ]);
    }

    #[test]
    fn an_empty_list_of_workloads_serves_nobody() {
        assert_eq!(
            config("workloads: []").unwrap_err(),
            "/etc/up/config.yaml: workloads is an empty list: name the pods' interfaces, or leave \
             it out"
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = config("pins: up\nattach: tc\ntunnel: {vxlan: {port: 0, vni: 16777216}}\n");
        assert_eq!(error.unwrap_err().lines().count(), 4);
    }

    #[test]
    fn a_configuration_that_is_not_there_is_named() {
        let error = Config::load(Path::new("/nonexistent/config.yaml")).unwrap_err();
        let error = error.to_string();
        let begin = "/nonexistent/config.yaml: there is no such file: ";
        assert!(error.starts_with(begin), "{error}");
    }

    #[test]
    fn a_corrupted_file_is_read_or_refused_by_line() {
        let text = "\
node: node1
uplinks: [eth0]
workloads: [\"cali*\"]
gateways: [169.254.1.1]
acceleration: all
workloadTunnels: false
attach: auto
xdp: auto
source: { file: cluster.yaml }
tunnel: { vxlan: { vni: 4096, port: 4789, checksum: false } }
listen: 127.0.0.1:9478
pins: /sys/fs/bpf/underpass
";
        corrupt(text, 4_000, &["workloads is an empty list"], |text| {
            config(text).err()
        });
    }
}
