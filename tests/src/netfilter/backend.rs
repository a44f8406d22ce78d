//! The ways in which rules get into a kernel.

use std::fmt;

use anyhow::Result;

use crate::NetNs;

/// Whose rules they are, and by what they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `iptables-legacy`, which tells nobody that it writes.
    IptablesLegacy,
    /// `iptables-nft`.
    IptablesNft,
    /// `nft`.
    Nft,
}

impl Backend {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::IptablesLegacy, Self::IptablesNft, Self::Nft];

    /// Adds rules to those of `ns`, all or none: of nft a script, of the others what
    /// iptables-restore(8) reads. Chains that are declared in it are emptied.
    pub fn load(self, ns: &NetNs, rules: &str) -> Result<()> {
        let command = match self {
            Self::IptablesLegacy => ns.command("iptables-legacy-restore").arg("--noflush"),
            Self::IptablesNft => ns.command("iptables-nft-restore").arg("--noflush"),
            Self::Nft => ns.command("nft").args(["-f", "-"]),
        };
        command.input(rules)?.run()?;
        Ok(())
    }

    /// All rules of `ns`, with how often each was met.
    pub fn list(self, ns: &NetNs) -> Result<String> {
        match self {
            Self::IptablesLegacy => ns.exec("iptables-legacy-save -c"),
            Self::IptablesNft => ns.exec("iptables-nft-save -c"),
            Self::Nft => ns.exec("nft list ruleset"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nft => "nft",
        })
    }
}
