//! Two connections of one pod's port that meet in one tuple, once an address is translated.
//!
//! One goes to another pod's address, which becomes the server's; the other to the server itself, for
//! which netfilter has to find another source port. So packets with the tuple of the one leave the
//! node for the other, in both directions. A pod's address, since to it there is a route: a Service's
//! is none that underpass would carry anything to.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Pod, Talk,
    netfilter::{Backend, Routes, Scene},
};

use crate::compare::with_and_without;

/// The port at the address that is translated.
const TRANSLATED_PORT: u16 = 80;

/// The client's port, and the server's.
const PORTS: (u16, u16) = (4000, 8080);

const ROUNDS: u64 = 200;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn tcp_of_two_connections_is_not_mixed_up() -> Result<()> {
    two_connections(|client, server, address, translated_first| {
        let translated = || Talk::tcp_by(client, server, PORTS, address, TRANSLATED_PORT);
        let directly = || Talk::tcp(client, server, PORTS);
        Ok(if translated_first {
            [translated()?, directly()?]
        } else {
            [directly()?, translated()?]
        })
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn udp_of_two_connections_is_not_mixed_up() -> Result<()> {
    two_connections(|client, server, address, translated_first| {
        let translated = (address, TRANSLATED_PORT);
        let direct = (server.address(), PORTS.1);
        let [first, second] = if translated_first {
            [translated, direct]
        } else {
            [direct, translated]
        };
        let mut first = Talk::udp_by(client, server, PORTS, first.0, first.1)?;
        // Tracked before the other is.
        first.rounds(1)?;
        let second = first.beside(client, second.0, second.1)?;
        Ok([first, second])
    })
}

fn two_connections(talks: impl Fn(&Pod, &Pod, Ipv4Addr, bool) -> Result<[Talk; 2]>) -> Result<()> {
    for translated_first in [true, false] {
        for (node, name) in [(0, "p1"), (1, "p0")] {
            let what = format!("the translated one first: {translated_first}, to node {node}");
            let setting = (Routes::Kernel, Backend::Nft);
            let played = with_and_without("1s", setting, 2, |scene| {
                let (client, server) = (scene.pod(0, "p0"), scene.pod(node, name));
                let address = scene.pod(1, "p1").address();
                translate(scene, address, server.address())?;
                let mut talks = talks(client, server, address, translated_first)?;
                for _ in 0..ROUNDS {
                    talks.iter_mut().try_for_each(|talk| talk.rounds(1))?;
                }
                let [_, second] = &talks;
                ensure!(
                    second.seen_from()?.port() != PORTS.0,
                    "the two do not meet in one tuple"
                );
                // Whoever comes first keeps its port, and the direct one then all.
                ensure!(
                    !translated_first || scene.carried_on(0)? == 0,
                    "what is translated is carried"
                );
                scene.states(client, server)
            });
            played.context(what)?;
        }
    }
    Ok(())
}

/// Has the client's node translate an address to the server's.
fn translate(scene: &Scene, address: Ipv4Addr, server: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "table ip translated {{\n\
           chain prerouting {{\n\
             type nat hook prerouting priority dstnat\n\
             ip daddr {address} meta l4proto {{ tcp, udp }} th dport {TRANSLATED_PORT} \
               dnat to {server}:{}\n\
           }}\n\
         }}\n",
        PORTS.1
    );
    let node = scene.lab.nodes()[0].ns();
    node.command("nft").args(["-f", "-"]).input(&rules)?.run()?;
    Ok(())
}
