//! What a container without privileges keeps from a process.

/// Makes the root file system and `/proc/sys` read-only, as container runtimes do, for what it runs
/// then in a mount namespace of its own. Before Linux 5.11 maps count as locked memory, of which there
/// has to be no limit: to raise it takes a capability more. Newer kernels ask for none.
const SCRIPT: &str = "mount --bind /proc/sys /proc/sys\n\
                      mount -o remount,bind,ro /proc/sys\n\
                      mount -o remount,bind,ro /\n\
                      ulimit -l unlimited 2>/dev/null || true\n\
                      exec \"$@\"";

/// A container's bounds: capabilities, no new privileges, and what is read-only.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// The bounding set, as setpriv(1) takes it.
    bounding: String,
}

impl Confinement {
    /// With these capabilities and no others, named as Kubernetes does: `NET_ADMIN`.
    #[must_use]
    pub fn only(capabilities: &[String]) -> Self {
        let added = capabilities.iter().map(|name| format!(",+{name}"));
        Self {
            bounding: format!("-all{}", added.collect::<String>()).to_lowercase(),
        }
    }

    /// With all capabilities but this.
    #[must_use]
    pub fn without(capability: &str) -> Self {
        Self {
            bounding: format!("-{capability}").to_lowercase(),
        }
    }

    /// The words of a command line that runs `words` so.
    pub(crate) fn around(&self, words: Vec<String>) -> Vec<String> {
        let bounding = format!("--bounding-set={}", self.bounding);
        ["unshare", "-m", "sh", "-ec", SCRIPT, "sh", "setpriv"]
            .into_iter()
            .chain([&*bounding, "--inh-caps=-all", "--no-new-privs", "--"])
            .map(str::to_owned)
            .chain(words)
            .collect()
    }
}
