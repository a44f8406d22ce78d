//! What is pinned at a path, whoever pinned it: as the kernel describes it in `/proc/self/fdinfo`.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::{Context, Result};
use aya::maps::MapData;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pinned {
    /// A BPF map.
    Map(Shape),
    /// A BPF link.
    Link(Link),
    /// A BPF program.
    Program,
    /// A directory.
    Directory,
    /// Something else: nothing that underpass makes.
    Other,
}

/// What has to be right of a map so that it can be used: aya reuses one without a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// `BPF_MAP_TYPE_*`.
    pub(super) kind: u32,
    /// Size of a key in bytes.
    pub(super) key: u32,
    /// Size of a value in bytes.
    pub(super) value: u32,
    /// How many entries there is room for.
    pub(super) entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
}

/// What is to be known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's word for its type: `tcx`, `xdp`.
    pub(super) kind: String,
    /// The interface it is on, by index; 0 when that is gone.
    pub(super) ifindex: u32,
    /// The number of its program.
    pub(super) program: u32,
}

/// Looks at a path; `None` where there is nothing.
pub(super) fn look(path: &Path) -> Result<Option<Pinned>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
    };
    if metadata.is_dir() {
        return Ok(Some(Pinned::Directory));
    }
    if !metadata.is_file() {
        return Ok(Some(Pinned::Other));
    }
    let facts = facts(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Some(classify(&facts)))
}

/// The lines of fdinfo, by their names.
fn facts(path: &Path) -> Result<BTreeMap<String, String>> {
    // Whatever is pinned there: the kernel opens it all the same, and only the descriptor is used.
    let object = MapData::from_pin(path)?;
    let descriptor = object.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect())
}

fn classify(facts: &BTreeMap<String, String>) -> Pinned {
    let number = |name| {
        let text: &str = facts.get(name).map_or("0", String::as_str);
        match text.strip_prefix("0x") {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => text.parse(),
        }
        .unwrap_or_default()
    };
    if facts.contains_key("map_type") {
        Pinned::Map(Shape {
            kind: number("map_type"),
            key: number("key_size"),
            value: number("value_size"),
            entries: number("max_entries"),
            flags: number("map_flags"),
        })
    } else if let Some(kind) = facts.get("link_type") {
        Pinned::Link(Link {
            kind: kind.clone(),
            ifindex: number("ifindex"),
            program: number("prog_id"),
        })
    } else if facts.contains_key("prog_type") {
        Pinned::Program
    } else {
        Pinned::Other
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(shape) => write!(f, "a BPF map ({shape})"),
            Self::Link(link) => {
                write!(
                    f,
                    "a BPF link ({} on interface number {})",
                    link.kind, link.ifindex
                )
            }
            Self::Program => f.write_str("a BPF program"),
            Self::Directory => f.write_str("a directory"),
            Self::Other => f.write_str("something that underpass does not make"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type {}, keys of {} bytes, values of {}, {} entries, flags {:#x}",
            self.kind, self.key, self.value, self.entries, self.flags
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    #[test]
    fn maps_links_and_programs_are_told_by_what_the_kernel_says_of_them() {
        let map = "pos:\t0\nmap_type:\t11\nkey_size:\t8\nvalue_size:\t4\nmax_entries:\t1048576\n\
                   map_flags:\t0x1\nmap_extra:\t0x0\n";
        assert_eq!(
            classify(&facts(map)),
            Pinned::Map(Shape {
                kind: 11,
                key: 8,
                value: 4,
                entries: 1 << 20,
                flags: 1
            })
        );
        let link = "link_type:\ttcx\nlink_id:\t2\nprog_tag:\tab\nprog_id:\t57\nifindex:\t3\n\
                    attach_type:\t46 (tcx_ingress)\n";
        assert_eq!(
            classify(&facts(link)),
            Pinned::Link(Link {
                kind: "tcx".to_owned(),
                ifindex: 3,
                program: 57
            })
        );
        assert_eq!(classify(&facts("prog_type:\t3\n")), Pinned::Program);
        assert_eq!(classify(&facts("pos:\t0\n")), Pinned::Other);
    }
}
