//! Which modules a machine loads, and in which order.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::fetch::Unpacked;

/// What the lab needs of a kernel, where it is not built in.
pub(super) const LAB: &[&str] = &[
    "veth",
    "bridge",
    "vxlan",
    "ipip",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
];

/// What a machine's own network device needs.
pub(super) const NETWORK: &[&str] = &["virtio_pci", "virtio_net"];

/// The files of the modules that are `wanted`, each behind those it depends on.
pub(super) fn in_load_order(kernel: &Unpacked, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let dependencies = Dependencies::read(&kernel.modules)?;
    let builtin = read(&kernel.modules.join("modules.builtin"))?;
    let mut order = Vec::new();
    for name in wanted {
        if !builtin.lines().any(|path| module_name(path) == *name) {
            dependencies.append(name, &mut order)?;
        }
    }
    Ok(order
        .into_iter()
        .map(|path| kernel.modules.join(path))
        .collect())
}

/// Of each module, its file and the files it needs, as `modules.dep` has them: the nearest first,
/// those that these need behind them.
struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    fn read(modules: &Path) -> Result<Self> {
        let text = read(&modules.join("modules.dep"))?;
        let lines = text.lines().filter_map(|line| {
            let (file, needed) = line.split_once(':')?;
            let files = [file].into_iter().chain(needed.split_whitespace());
            Some((
                module_name(file).to_owned(),
                files.map(str::to_owned).collect(),
            ))
        });
        Ok(Self(lines.collect()))
    }

    fn append(&self, name: &str, order: &mut Vec<String>) -> Result<()> {
        let Some(files) = self.0.get(name) else {
            bail!("the kernel has no module {name}, and it is not built in");
        };
        for file in files.iter().rev() {
            if !order.contains(file) {
                order.push(file.clone());
            }
        }
        Ok(())
    }
}

/// `kernel/net/ipv4/ipip.ko.xz` is `ipip`.
fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
