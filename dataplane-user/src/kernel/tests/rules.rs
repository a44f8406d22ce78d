//! Word of changes of nftables' rules.

use std::{process::Command, time::Duration};

use rtnetlink::sys::AsyncSocket as _;
use tokio::time::timeout;

use super::namespace::in_new_namespace;
use crate::kernel::RuleEvents;

const PATIENCE: Duration = Duration::from_secs(5);

fn run(command_line: &str) {
    let mut words = command_line.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output()
        .expect("it is installed");
    assert!(output.status.success(), "{command_line}: {output:?}");
}

/// Whether something has changed by now; what has is taken.
async fn is_heard(events: &mut RuleEvents) -> bool {
    let heard = timeout(Duration::ZERO, events.changed()).await;
    heard.is_ok_and(|result| result.is_ok())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_change_is_heard_of_once() {
    in_new_namespace(async |_, _| {
        run("nft add table ip before");
        let mut events = RuleEvents::subscribe().expect("netlink answers");
        assert!(!is_heard(&mut events).await);
        for change in [
            "nft add table ip test",
            "nft add chain ip test forward { type filter hook forward priority 0 ; }",
            "nft add set ip test pods { type ipv4_addr ; }",
            "nft add element ip test pods { 10.0.0.1 }",
            "nft add rule ip test forward ip saddr @pods drop",
            "nft delete element ip test pods { 10.0.0.1 }",
            "nft flush chain ip test forward",
            "nft delete table ip test",
            "iptables-nft -I FORWARD -s 10.0.0.1 -j DROP",
            "iptables-nft -D FORWARD -s 10.0.0.1 -j DROP",
        ] {
            run(change);
            let heard = timeout(PATIENCE, events.changed()).await;
            heard.expect(change).expect("it goes on");
            assert!(!is_heard(&mut events).await, "{change}: once");
            run("nft list ruleset");
            assert!(!is_heard(&mut events).await, "to look changes nothing");
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_was_lost_is_a_change() {
    in_new_namespace(async |_, _| {
        let mut events = RuleEvents::subscribe().expect("netlink answers");
        let socket = events.socket.socket_ref();
        socket.set_rx_buf_sz(1_u32).expect("it can be small");
        run("nft add table ip test");
        for number in 0..20 {
            run(&format!("nft add chain ip test chain{number}"));
        }
        assert!(is_heard(&mut events).await);
        run("nft delete table ip test");
        let heard = timeout(PATIENCE, events.changed()).await;
        heard.expect("it is heard of").expect("it goes on");
    });
}
