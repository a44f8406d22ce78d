//! Settings of connection tracking, which each network namespace has for itself.

use std::{fmt, fs, io, path::PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{AccessFlags, access};

/// Where the kernel has them, for the network namespace of the calling thread.
const DIRECTORY: &str = "/proc/sys/net/netfilter";

/// A setting of connection tracking, `net.netfilter.…`, that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sysctl {
    /// Whether a TCP segment outside the window that conntrack has followed is valid all the same.
    BeLiberal,
    /// Whether a RST outside of it is valid all the same (since Linux 5.14).
    IgnoreInvalidRst,
    /// Seconds after which a TCP connection is forgotten that nothing is heard of.
    TimeoutEstablished,
    /// Seconds after which one is forgotten that has data out that nobody acknowledged.
    TimeoutUnacknowledged,
    /// Seconds after which one is forgotten whose segments were sent again and again.
    TimeoutMaxRetrans,
}

impl Sysctl {
    /// Its name in [`DIRECTORY`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeLiberal => "nf_conntrack_tcp_be_liberal",
            Self::IgnoreInvalidRst => "nf_conntrack_tcp_ignore_invalid_rst",
            Self::TimeoutEstablished => "nf_conntrack_tcp_timeout_established",
            Self::TimeoutUnacknowledged => "nf_conntrack_tcp_timeout_unacknowledged",
            Self::TimeoutMaxRetrans => "nf_conntrack_tcp_timeout_max_retrans",
        }
    }

    /// What it is; `None` where the kernel has none, be it that it is too old or that there is no
    /// connection tracking.
    pub fn read(self) -> Result<Option<u32>> {
        let text = match fs::read_to_string(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {self}")),
        };
        let number = text.trim().parse();
        let number = number.with_context(|| format!("cannot understand {self}, {text:?}"))?;
        Ok(Some(number))
    }

    /// Sets it.
    pub fn write(self, value: u32) -> Result<()> {
        fs::write(self.path(), value.to_string()).with_context(|| self.cannot_be(value))
    }

    /// Fails as [`Sysctl::write`] would, and sets nothing.
    pub fn check_writable(self, value: u32) -> Result<()> {
        access(&self.path(), AccessFlags::W_OK).with_context(|| self.cannot_be(value))
    }

    fn cannot_be(self, value: u32) -> String {
        format!(
            "cannot set {self} to {value}; underpass needs root and a writable /proc/sys, or somebody \
             else to set it (sysctl -w {self}={value})"
        )
    }

    fn path(self) -> PathBuf {
        [DIRECTORY, self.name()].iter().collect()
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.netfilter.{}", self.name())
    }
}
