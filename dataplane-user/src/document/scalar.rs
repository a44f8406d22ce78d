//! Single values as a file's author writes them.
//!
//! Every function here returns the value or the rest of the sentence "VALUE ...": what is wrong
//! with it and what to write instead.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::Ipv4Net;

use crate::address::Mac;

/// A prefix of pod addresses: no host bits, not /0.
pub(crate) fn prefix(text: &str) -> Result<Ipv4Net, String> {
    not_ipv6(text)?;
    if text.parse::<Ipv4Addr>().is_ok() {
        return Err(format!(
            "has no prefix length: write {text}/32 if that one address is meant"
        ));
    }
    let Some(prefix) = address_with_length(text) else {
        return Err("is not an IPv4 prefix: write it like 10.244.0.0/24".to_owned());
    };
    if prefix.prefix_len() == 0 {
        return Err(
            "covers every address there is: write the prefix that pods have theirs from".to_owned(),
        );
    }
    if prefix != prefix.trunc() {
        return Err(format!("has host bits set: write {}", prefix.trunc()));
    }
    Ok(prefix)
}

/// A time within `range`.
pub(crate) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| range.contains(time)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("is no time for that: write one from {least:?} to {most:?}, such as 2s")
    })
}

/// A host's address with the mask of its subnet.
pub(crate) fn address_with_mask(text: &str) -> Result<Ipv4Net, String> {
    not_ipv6(text)?;
    if text.parse::<Ipv4Addr>().is_ok() {
        return Err(format!(
            "has no mask: write it like {text}/24, because CrossSubnet compares the subnet with \
             the addresses of the peers"
        ));
    }
    let Some(address) = address_with_length(text) else {
        return Err("is not an IPv4 address with a mask: write it like 192.168.1.10/24".to_owned());
    };
    of_one_host(address.addr())?;
    if address.prefix_len() == 0 {
        return Err(
            "has the mask /0, by which every peer is on one subnet: write the subnet's".to_owned(),
        );
    }
    // On a /31 both addresses are hosts' (RFC 3021), on a /32 the only one is.
    let network_and_broadcast_exist = address.prefix_len() < 31;
    if network_and_broadcast_exist && address.addr() == address.network() {
        return Err("is the subnet, not a host in it: write the node's own address".to_owned());
    }
    if network_and_broadcast_exist && address.addr() == address.broadcast() {
        return Err("is the subnet's broadcast: write the node's own address".to_owned());
    }
    Ok(address)
}

/// A host's address alone.
pub(crate) fn address(text: &str) -> Result<Ipv4Addr, String> {
    not_ipv6(text)?;
    if let Some(with_length) = address_with_length(text) {
        return Err(format!(
            "has a prefix length: write {} alone",
            with_length.addr()
        ));
    }
    let address = text
        .parse()
        .map_err(|_| "is not an IPv4 address: write it like 10.244.0.1".to_owned())?;
    of_one_host(address)?;
    Ok(address)
}

/// An address, of either family, and a TCP port to listen at.
pub(crate) fn listener(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        "is no address with a port: write one like 127.0.0.1:9478, or off".to_owned()
    })?;
    if address.port() == 0 {
        return Err("has port 0, which nobody could ask: write one from 1 to 65535".to_owned());
    }
    Ok(address)
}

/// The MAC address of one interface.
pub(crate) fn mac(text: &str) -> Result<Mac, String> {
    let mac: Mac = text
        .parse()
        .map_err(|_| "is not a MAC address: write it like 66:5a:01:02:03:04".to_owned())?;
    if mac.is_zero() {
        return Err("is no interface's address: leave it out for the default".to_owned());
    }
    if mac.is_multicast() {
        return Err(
            "is multicast, as its first byte is odd, and no interface has such an address: leave \
             it out for the default"
                .to_owned(),
        );
    }
    Ok(mac)
}

/// The name of a network interface, by the kernel's rule (`dev_valid_name`).
pub(crate) fn interface(text: &str) -> Result<(), String> {
    interface_characters(text)?;
    match text.len() {
        0 => Err("is empty: write an interface's name, such as eth0".to_owned()),
        1..=15 if !matches!(text, "." | "..") => Ok(()),
        1..=15 => Err("is no interface's name: write one such as eth0".to_owned()),
        _ => Err("is longer than the 15 bytes an interface's name can have".to_owned()),
    }
}

/// A pattern for names of network interfaces, in which `*` and `?` are wildcards.
pub(crate) fn interface_pattern(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty: write a pattern such as cali*".to_owned());
    }
    if let Some(other) = text.chars().find(|c| "[]{}".contains(*c)) {
        return Err(format!(
            "contains '{other}': the only wildcards are * and ?"
        ));
    }
    interface_characters(text)
}

/// One of the words in `choices`, as the value that stands beside it there.
pub(crate) fn word<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(word, _)| *word == text);
    chosen.map(|&(_, value)| value).ok_or_else(|| {
        let words = words(choices);
        let one_of = if words.len() > 1 { "one of " } else { "" };
        format!("is unknown: write {one_of}{}", words.join(", "))
    })
}

/// The words in `choices`.
pub(crate) fn words<'c, T>(choices: &[(&'c str, T)]) -> Vec<&'c str> {
    choices.iter().map(|(word, _)| *word).collect()
}

fn interface_characters(text: &str) -> Result<(), String> {
    match text
        .chars()
        .find(|c| matches!(c, '/' | ':') || c.is_whitespace())
    {
        None => Ok(()),
        Some(c) => Err(format!("contains {c:?}, which no interface's name does")),
    }
}

fn not_ipv6(text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err("is IPv6, and underpass is IPv4 only so far: remove it".to_owned());
    }
    Ok(())
}

fn of_one_host(address: Ipv4Addr) -> Result<(), String> {
    if address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
    {
        return Err("is not an address that other hosts could send to".to_owned());
    }
    Ok(())
}

/// `ADDRESS/LENGTH`. Stricter than the parser of [`Ipv4Net`], which takes 010 for 10 where
/// `inet_aton` takes it for 8.
fn address_with_length(text: &str) -> Option<Ipv4Net> {
    let (address, length) = text.split_once('/')?;
    let digits = length.bytes().all(|digit| digit.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits)?;
    Ipv4Net::new(address.parse().ok()?, length).ok()
}
