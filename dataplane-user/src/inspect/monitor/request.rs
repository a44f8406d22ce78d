//! What is asked of the programs.

use std::num::NonZeroU32;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use dataplane_common::{
    abi::{Filter, Hook, MAX_SNAP, Monitor, Network},
    reason::{Action, Reason},
};
use ipnet::Ipv4Net;
use nix::net::if_::if_nametoindex;

/// Which packets are asked for. What is empty asks for nothing in particular.
#[derive(Clone, Debug)]
pub struct Request {
    /// Of these networks at one end; of two, one at each.
    pub networks: Vec<Ipv4Net>,
    /// With these ports, likewise.
    pub ports: Vec<u16>,
    /// Of this IP protocol.
    pub protocol: Option<u8>,
    /// At these hooks.
    pub hooks: Vec<Hook>,
    /// At hooks on this side.
    pub side: Option<Side>,
    /// That went where they went for these reasons.
    pub reasons: Vec<Reason>,
    /// That this was done with.
    pub actions: Vec<Action>,
    /// On this interface.
    pub interface: Option<String>,
    /// Whether a hook is asked for, too, that only looked at a packet which another one tells of.
    pub everything: bool,
    /// One of so many, by chance.
    pub sample: NonZeroU32,
    /// Bytes of each frame; of more than [`MAX_SNAP`], so many.
    pub snap: u32,
}

/// Which way a packet passes a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Into the host: from a pod, from the wire, or out of a tunnel that the kernel opened.
    In,
    /// Out of the host's stack: to a pod, to the wire, or to the carrier.
    Out,
}

impl Request {
    /// As the programs take it.
    ///
    /// # Errors
    ///
    /// There is no such interface.
    pub fn monitor(&self, vxlan_port: u16) -> Result<Monitor> {
        let mut monitor = Monitor {
            sample: u32::MAX / self.sample,
            snap: self.snap.min(u32::try_from(MAX_SNAP)?),
            filter: self.filter(vxlan_port)?,
            ..Monitor::OFF
        };
        for hook in Hook::ALL.into_iter().filter(|hook| self.has_hook(*hook)) {
            for reason in Reason::ALL {
                if self.has_reason(hook, *reason) {
                    monitor.want(hook, *reason);
                }
            }
        }
        Ok(monitor)
    }

    fn filter(&self, vxlan_port: u16) -> Result<Filter> {
        let mut filter = Filter::any(vxlan_port);
        ensure!(
            self.networks.len() <= 2 && self.ports.len() <= 2,
            "a packet has two ends: name at most two addresses, and at most two ports"
        );
        for (network, asked) in filter.networks.iter_mut().zip(&self.networks) {
            *network = Network::new(asked.addr().octets(), asked.prefix_len());
        }
        for (port, asked) in filter.ports.iter_mut().zip(&self.ports) {
            *port = *asked;
        }
        if let Some(protocol) = self.protocol {
            filter.protocol = protocol.into();
        }
        if let Some(name) = &self.interface {
            filter.ifindex = if_nametoindex(name.as_str()).with_context(|| {
                format!("there is no interface {name} here: `underpass links list` has those with programs")
            })?;
        }
        Ok(filter)
    }

    fn has_hook(&self, hook: Hook) -> bool {
        (self.hooks.is_empty() || self.hooks.contains(&hook))
            && self.side.is_none_or(|side| side == Side::of(hook))
    }

    fn has_reason(&self, hook: Hook, reason: Reason) -> bool {
        let is_asked_for = self.reasons.is_empty() || self.reasons.contains(&reason);
        let action = hook.action(reason);
        let is_done = self.actions.is_empty() || self.actions.contains(&action);
        // Whoever names a hook or a reason means it.
        let is_said_elsewhere =
            self.hooks.is_empty() && self.reasons.is_empty() && !self.everything;
        is_asked_for && is_done && !(is_said_elsewhere && only_looks(hook, action, reason))
    }
}

/// Whether another hook tells of a packet that this one leaves alone for this reason.
fn only_looks(hook: Hook, action: Action, reason: Reason) -> bool {
    match hook {
        Hook::XdpUplink => action == Action::Stack,
        Hook::ToWorkload | Hook::ToUplink => reason == Reason::Unmarked,
        _ => false,
    }
}

impl Side {
    /// That of a packet at `hook`.
    #[must_use]
    pub const fn of(hook: Hook) -> Self {
        match hook {
            Hook::FromWorkload | Hook::FromUplink | Hook::FromCarrier | Hook::XdpUplink => Self::In,
            Hook::FromStack | Hook::ToWorkload | Hook::ToUplink => Self::Out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            networks: Vec::new(),
            ports: Vec::new(),
            protocol: None,
            hooks: Vec::new(),
            side: None,
            reasons: Vec::new(),
            actions: Vec::new(),
            interface: None,
            everything: false,
            sample: NonZeroU32::MIN,
            snap: 128,
        }
    }

    fn wants(request: &Request, hook: Hook, reason: Reason) -> bool {
        let monitor = request.monitor(4789).unwrap();
        let number = reason as usize;
        monitor.reasons[hook as usize][number / 64] >> (number % 64) & 1 != 0
    }

    #[test]
    fn without_being_asked_a_packet_is_told_of_where_something_is_decided() {
        let request = request();
        assert!(wants(&request, Hook::FromWorkload, Reason::NoRoute));
        assert!(wants(&request, Hook::FromUplink, Reason::NotForHost));
        assert!(wants(&request, Hook::ToUplink, Reason::Verified));
        assert!(!wants(&request, Hook::ToUplink, Reason::Unmarked));
        assert!(!wants(&request, Hook::XdpUplink, Reason::NotForHost));
        assert!(wants(&request, Hook::XdpUplink, Reason::TakenOut));
    }

    #[test]
    fn whoever_names_a_hook_or_everything_gets_all_of_it() {
        let everything = Request {
            everything: true,
            ..request()
        };
        let hook = Request {
            hooks: vec![Hook::ToUplink],
            ..request()
        };
        for asked in [everything, hook] {
            assert!(wants(&asked, Hook::ToUplink, Reason::Unmarked));
        }
        let reason = Request {
            reasons: vec![Reason::Unmarked],
            ..request()
        };
        assert!(wants(&reason, Hook::ToWorkload, Reason::Unmarked));
        assert!(!wants(&reason, Hook::FromWorkload, Reason::NoRoute));
    }

    #[test]
    fn what_is_done_is_what_is_done_at_that_hook() {
        let dropped = Request {
            actions: vec![Action::Drop],
            ..request()
        };
        assert!(wants(&dropped, Hook::FromStack, Reason::NoRoute));
        assert!(!wants(&dropped, Hook::FromWorkload, Reason::NoRoute));
    }

    #[test]
    fn a_side_has_its_hooks_alone() {
        let out = Request {
            side: Some(Side::Out),
            ..request()
        };
        assert!(wants(&out, Hook::FromStack, Reason::SentVxlan));
        assert!(!wants(&out, Hook::FromWorkload, Reason::SentVxlan));
    }

    #[test]
    fn a_filter_is_what_was_named() {
        let asked = Request {
            networks: vec!["10.244.1.7/24".parse().unwrap()],
            ports: vec![80, 443],
            protocol: Some(6),
            ..request()
        };
        let filter = asked.monitor(8472).unwrap().filter;
        assert_eq!(filter.networks[0], Network::new([10, 244, 1, 0], 24));
        assert_eq!(filter.networks[1], Network::ANY);
        assert_eq!((filter.ports, filter.protocol), ([80, 443], 6));
        assert_eq!((filter.vxlan_port, filter.ifindex), (8472, 0));
        let nowhere = Request {
            interface: Some("no-such-interface".to_owned()),
            ..request()
        };
        let error = nowhere.monitor(4789).unwrap_err();
        assert!(error.to_string().contains("no-such-interface"), "{error}");
        let three_ends = Request {
            ports: vec![80; 3],
            ..request()
        };
        let error = three_ends.monitor(4789).unwrap_err();
        assert!(error.to_string().contains("two ends"), "{error}");
    }

    #[test]
    fn a_sample_is_a_share_of_all_numbers() {
        let one_of = |sample| Request {
            sample: NonZeroU32::new(sample).unwrap(),
            ..request()
        };
        assert_eq!(one_of(1).monitor(4789).unwrap().sample, u32::MAX);
        assert_eq!(one_of(16).monitor(4789).unwrap().sample, u32::MAX / 16);
        let long = Request {
            snap: u32::MAX,
            ..request()
        };
        assert_eq!(long.monitor(4789).unwrap().snap, 512);
    }
}
