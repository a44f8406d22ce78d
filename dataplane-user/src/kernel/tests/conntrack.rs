//! Entries of connection tracking: read, and changed.

use std::process::Command;

use super::namespace::in_new_namespace;
use crate::kernel::{ConnTuple, Conntrack, Detail, TCP_ESTABLISHED};

const TCP: u8 = 6;
const ICMP: u8 = 1;

/// Runs `conntrack` with these arguments, separated by spaces, and returns what it prints.
fn conntrack(arguments: &str) -> String {
    let output = Command::new("conntrack")
        .args(arguments.split_whitespace())
        .output()
        .expect("conntrack is installed");
    assert!(output.status.success(), "conntrack {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("conntrack prints UTF-8")
}

fn tuple(source: &str, destination: &str, protocol: u8, detail: Detail) -> ConnTuple {
    ConnTuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        detail,
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_entry_is_found_by_the_tuple_of_either_way_and_none_is_none() {
    in_new_namespace(async |_, _| {
        conntrack(
            "-I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --state ESTABLISHED -t 77",
        );
        let mut asked = Conntrack::connect().unwrap();
        let there = tuple("10.0.0.1", "10.0.0.2", TCP, Detail::Ports(1000, 80));
        let back = tuple("10.0.0.2", "10.0.0.1", TCP, Detail::Ports(80, 1000));
        for wanted in [there, back] {
            let entry = asked.get(&wanted).unwrap().expect("there is one");
            assert_eq!((entry.original, entry.reply), (there, back));
            assert_eq!(entry.tcp_state, Some(TCP_ESTABLISHED));
            assert_eq!(entry.leaves_as(&wanted), wanted, "untranslated");
            assert!(entry.timeout.is_some_and(|left| (70..=77).contains(&left)));
            assert!(!entry.is_fixed);
        }
        let other = tuple("10.0.0.1", "10.0.0.2", TCP, Detail::Ports(1000, 81));
        assert_eq!(asked.get(&other).unwrap(), None);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_translated_is_told_by_both_of_its_tuples() {
    in_new_namespace(async |_, _| {
        conntrack(
            "-I -p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 1000 --dport 80 --dst-nat 10.0.0.2:8080 \
             --state ESTABLISHED -t 77",
        );
        let mut asked = Conntrack::connect().unwrap();
        let service = tuple("10.0.0.1", "10.96.0.1", TCP, Detail::Ports(1000, 80));
        let backend = tuple("10.0.0.1", "10.0.0.2", TCP, Detail::Ports(1000, 8080));
        let entry = asked.get(&service).unwrap().expect("there is one");
        assert_eq!(entry.leaves_as(&service), backend);
        let reply = backend.turned_around();
        let entry = asked.get(&reply).unwrap().expect("there is one");
        assert_eq!(entry.leaves_as(&reply), service.turned_around());
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_echo_is_found_by_its_identifier() {
    in_new_namespace(async |_, _| {
        conntrack(
            "-I -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 513 -t 77",
        );
        let mut asked = Conntrack::connect().unwrap();
        let request = tuple("10.0.0.1", "10.0.0.2", ICMP, Detail::Icmp(513, 8));
        let reply = tuple("10.0.0.2", "10.0.0.1", ICMP, Detail::Icmp(513, 0));
        for wanted in [request, reply] {
            let entry = asked.get(&wanted).unwrap().expect("there is one");
            assert_eq!((entry.original, entry.reply), (request, reply));
            assert_eq!(entry.tcp_state, None);
        }
        let other = tuple("10.0.0.1", "10.0.0.2", ICMP, Detail::Icmp(514, 8));
        assert_eq!(asked.get(&other).unwrap(), None);
    });
}

/// More than fit into one datagram of a list.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn all_tcp_entries_are_listed_and_no_others() {
    in_new_namespace(async |_, _| {
        for port in 1..=300 {
            conntrack(&format!(
                "-I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 80 --state SYN_SENT -t 77"
            ));
        }
        conntrack("-I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 53 -t 77");
        conntrack("-I -p tcp -s fd00::1 -d fd00::2 --sport 1 --dport 80 --state LISTEN -t 77");
        let entries = Conntrack::connect().unwrap().tcp_entries().unwrap();
        assert_eq!(entries.len(), 300);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_timeout_is_set_and_what_is_gone_is_no_error() {
    in_new_namespace(async |_, _| {
        let there = "-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80";
        conntrack(&format!("-I {there} --state ESTABLISHED -t 77"));
        let mut asked = Conntrack::connect().unwrap();
        let wanted = tuple("10.0.0.1", "10.0.0.2", TCP, Detail::Ports(1000, 80));
        let entry = asked.get(&wanted).unwrap().expect("there is one");
        asked.set_timeout(&entry, 5000).unwrap();
        let listed = conntrack("-L -p tcp");
        let left = listed.split_whitespace().nth(2).unwrap();
        assert!((4990..=5000).contains(&left.parse().unwrap()), "{listed}");
        assert!(listed.contains("ESTABLISHED"), "{listed}");
        conntrack(&format!("-D {there}"));
        asked.set_timeout(&entry, 5000).unwrap();
        asked.be_liberal().unwrap();
    });
}
