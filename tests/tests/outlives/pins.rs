//! What is pinned where underpass pins, and is not its own: refused, and left alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::{
    EbpfLoader,
    maps::{Map, MapData},
    programs::{LinkOrder, SchedClassifier, TcAttachType, links::FdLink, tc::TcAttachOptions},
};
use dataplane_common::abi::maps;
use dataplane_tests::{
    Agent, Build, Lab, Mode, Node, PingOptions, cluster_yaml, ping, programs::attached,
    require_root,
};
use dataplane_user::dataplane::{bpf_object, verify};

use crate::scene::{version, versions};

const PATIENCE: Duration = Duration::from_secs(5);

/// Something that is pinned in the place of something of underpass's, and what is said of it.
struct Stranger {
    /// In the directory of this version.
    path: &'static str,
    make: fn(&Path, &Node) -> Result<()>,
    words: &'static [&'static str],
}

const STRANGERS: &[Stranger] = &[
    Stranger {
        path: "maps/ROUTES",
        make: |path, _| pin_map(maps::WORKLOADS, None, path),
        words: &["the map ROUTES (type 12", "is a BPF map (type 1"],
    },
    Stranger {
        path: "maps/CONFIG",
        make: |path, _| pin_map(maps::NEXT_HOPS, Some(1), path),
        words: &["the map CONFIG", "is a BPF map (type 2"],
    },
    Stranger {
        path: "maps/PEERS",
        make: |path, _| pin_map(maps::PEERS, Some(7), path),
        words: &["the map PEERS", "16384 entries", "7 entries"],
    },
    Stranger {
        path: "maps/COUNTERS",
        make: |path, _| pin_program(path),
        words: &["the map COUNTERS", "is a BPF program"],
    },
    Stranger {
        path: "maps/WORKLOADS",
        make: |path, _| make_directory(path),
        words: &["the map WORKLOADS", "is a directory"],
    },
    Stranger {
        path: "links/from_uplink-2",
        make: |path, _| pin_program(path),
        words: &[
            "the link of from_uplink on interface number 2",
            "is a BPF program",
        ],
    },
    Stranger {
        path: "links/from_uplink-77",
        make: |path, node| pin_link("from_workload", "eth0", path, node),
        words: &[
            "the link of from_uplink on interface number 77",
            "is a BPF link (tcx",
        ],
    },
    Stranger {
        path: "links/from_workload-2",
        make: |path, node| pin_link("from_uplink", "eth0", path, node),
        words: &[
            "the link of from_workload on interface number 2",
            "is a BPF link (tcx",
        ],
    },
    Stranger {
        path: "links/from_uplink-2-clsact",
        make: |path, _| pin_map(maps::CONFIG, None, path),
        words: &["the record of a filter", "is a BPF map"],
    },
    Stranger {
        path: "xdp/2-native",
        make: |path, node| pin_link("from_uplink", "eth0", path, node),
        words: &["the XDP link of interface number 2", "is a BPF link (tcx"],
    },
    Stranger {
        path: "xdp/2-off-veth",
        make: |path, _| pin_program(path),
        words: &["the record of why there is no XDP", "is a BPF program"],
    },
];

/// On a node where an agent has never run, and again where one has and its programs are attached.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_not_ours_is_refused_with_a_word_on_it_and_stays() -> Result<()> {
    require_root();
    for stranger in STRANGERS {
        let lab = Lab::flat(1, 2)?;
        let node = lab.node("node-0");
        let path = node.pins().join(version(Build::Tested)).join(stranger.path);
        std::fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        (stranger.make)(&path, node).with_context(|| format!("make {}", path.display()))?;
        let before = pins(node)?;

        let mut agent = Agent::spawn(node, &node.agent_config(), &cluster(&lab))?;
        assert!(!agent.process().wait(PATIENCE)?.success());
        let log = agent.process().log()?;
        let path = path.display().to_string();
        for words in stranger.words.iter().chain([&&*path, &"remove them (rm"]) {
            assert!(log.contains(words), "{words} in: {log}");
        }
        assert_eq!(pins(node)?, before, "{path}: pins");

        let detach = node.underpass(&["detach"])?;
        assert!(detach.status.success(), "{detach:?}");
        let said = String::from_utf8_lossy(&detach.stderr).into_owned()
            + &String::from_utf8_lossy(&detach.stdout);
        assert!(said.contains(&format!("leave {path}")), "{said}");
        assert!(pins(node)?.contains(&PathBuf::from(&path)), "{path} stays");
    }
    Ok(())
}

/// The programs that are attached go on.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn meanwhile_the_dataplane_goes_on_and_comes_back_when_the_stranger_is_gone() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let agents = lab.start_agents(Mode::Vxlan)?;
    lab.wait_resolved()?;
    drop(agents);
    let node = lab.node("node-0");
    let path = node.pins().join(version(Build::Tested)).join("maps/PEERS");
    std::fs::remove_file(&path)?;
    pin_program(&path)?;
    let mut refused = Agent::respawn(node, Build::Tested)?;
    assert!(!refused.process().wait(PATIENCE)?.success());

    let lossless = || -> Result<bool> {
        let remote = lab.pod("node-1", "p0").address();
        let report = ping(node.pod("p0").ns(), remote, &PingOptions::default())?;
        Ok(report.is_lossless())
    };
    assert!(lossless()?, "with what is attached");
    std::fs::remove_file(&path)?;
    let _agent = Agent::restart(node, Build::Tested)?;
    assert!(lossless()?, "with a map made anew");
    Ok(())
}

/// What is in no place of underpass's does not keep it from working, and stays.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_beside_ours_is_left_alone() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    let ours = node.pins().join(version(Build::Tested));
    let strangers = ["maps/FOREIGN", "links/foreign", "xdp/foreign", "foreign"];
    for stranger in strangers {
        let path = ours.join(stranger);
        std::fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        pin_program(&path)?;
    }
    make_directory(&ours.join("foreign-directory"))?;
    let beside = node.pins().join("somebody");
    pin_program(&beside)?;
    let mut agent = Agent::start(node, &node.agent_config(), &cluster(&lab))?;
    let log = agent.process().log()?;
    for stranger in strangers {
        let path = ours.join(stranger);
        let words = format!("{} is not underpass's", path.display());
        assert!(log.contains(&words), "{words} in: {log}");
    }
    assert!(node.underpass(&["status"])?.status.success());
    agent.process().terminate()?;
    assert!(node.underpass(&["detach"])?.status.success());
    let left = pins(node)?;
    let left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(left.len(), 11, "five directories, six strangers: {left:?}");
    assert_eq!(attached(node, "eth0", TcAttachType::Ingress)?.len(), 0);
    Ok(())
}

/// Of another version's directory, only what a version pins is removed.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_no_versions_stays_in_the_directory_of_another() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    let theirs = node.pins().join("v99");
    for directory in ["maps", "links", "xdp"] {
        std::fs::create_dir_all(theirs.join(directory))?;
    }
    pin_map(maps::CONFIG, None, &theirs.join("maps/SOMETHING"))?;
    pin_link(
        "from_uplink",
        "eth0",
        &theirs.join("links/some_hook-2"),
        node,
    )?;
    let foreign = theirs.join("maps/PROGRAM");
    pin_program(&foreign)?;
    let mut agent = Agent::start(node, &node.agent_config(), &cluster(&lab))?;
    let log = agent.process().log()?;
    assert!(
        log.contains(&format!("leave {}", foreign.display())),
        "{log}"
    );
    assert!(foreign.exists());
    assert!(!theirs.join("maps/SOMETHING").exists());
    assert_eq!(
        attached(node, "eth0", TcAttachType::Ingress)?.len(),
        1,
        "ours"
    );
    agent.process().terminate()?;
    std::fs::remove_file(&foreign)?;
    assert!(node.underpass(&["detach"])?.status.success());
    assert!(pins(node)?.is_empty());
    Ok(())
}

/// Not even a directory, whichever version it is of.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_that_is_refused_leaves_nothing_behind() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    let _agent = Agent::start(node, &node.agent_config(), &cluster(&lab))?;
    let before = pins(node)?;
    for build in [Build::Tested, Build::OtherLayout] {
        let mut second = Agent::respawn(node, build)?;
        assert!(!second.process().wait(PATIENCE)?.success());
        let log = second.process().log()?;
        assert!(log.contains("stop that agent first"), "{log}");
        assert_eq!(pins(node)?, before, "{build:?}");
        let detach = node.underpass_of(build, &["detach"])?;
        assert!(!detach.status.success());
        assert_eq!(pins(node)?, before, "{build:?}: detach");
    }
    assert_eq!(versions(node)?, [version(Build::Tested)]);
    Ok(())
}

fn cluster(lab: &Lab) -> String {
    cluster_yaml(lab, Mode::Vxlan.ipip_mode(), Mode::Vxlan.vxlan_mode())
}

/// Everything below the pin directory.
fn pins(node: &Node) -> Result<Vec<PathBuf>> {
    fn read(directory: &Path, all: &mut Vec<PathBuf>) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                read(&path, all)?;
            }
            all.push(path);
        }
        Ok(())
    }
    let mut all = Vec::new();
    if node.pins().exists() {
        read(node.pins(), &mut all)?;
    }
    all.sort();
    Ok(all)
}

/// Pins a map of its own that is made as the object's `like`, but for its size.
fn pin_map(like: &str, entries: Option<u32>, path: &Path) -> Result<()> {
    let mut loader = EbpfLoader::new();
    for map in maps::ALL {
        loader.map_max_entries(map, 1);
    }
    if let Some(entries) = entries {
        loader.map_max_entries(like, entries);
    }
    let mut ebpf = loader.load(bpf_object()?)?;
    let map = ebpf.take_map(like).context("the object has the map")?;
    data(&map).pin(path)?;
    Ok(())
}

fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data) | Map::PerCpuArray(data) => data,
        map => panic!("no such map: {map:?}"),
    }
}

/// Pins a program.
fn pin_program(path: &Path) -> Result<()> {
    load("from_uplink", |program| {
        program.pin(path)?;
        Ok(())
    })
}

/// Attaches `hook`'s program to the ingress of an interface, in a link of its own, and pins that.
fn pin_link(hook: &str, interface: &str, path: &Path, node: &Node) -> Result<()> {
    load(hook, |program| {
        node.ns().run(|| {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
            let link: FdLink = program.take_link(id)?.try_into()?;
            link.pin(path)?;
            Ok(())
        })
    })
}

fn load(name: &str, work: impl FnOnce(&mut SchedClassifier) -> Result<()>) -> Result<()> {
    let mut loader = EbpfLoader::new();
    for map in maps::ALL {
        loader.map_max_entries(map, 1);
    }
    let mut ebpf = loader.load(bpf_object()?)?;
    let program = ebpf.program_mut(name).context("the object has it")?;
    let program: &mut SchedClassifier = program.try_into()?;
    verify(|| program.load())?;
    work(program)
}

fn make_directory(path: &Path) -> Result<()> {
    Ok(std::fs::create_dir(path)?)
}
