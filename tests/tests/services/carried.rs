//! Which packets are carried past the stack, and which are left to it.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::Hook,
    reason::{Action, Reason},
};
use dataplane_tests::{
    Counters, Mode, Node, Pod,
    netfilter::{KubeProxy, Sightings},
    patient, require_root, uninterrupted,
    web::{self, Load},
};

use crate::scene::{Carrying, ECHO, ECHO_PORT, FAR, NEAR, Scene};

/// Few connections, and many questions over each.
const LOAD: Load = Load {
    requests: 1000,
    at_once: 2,
    keep_alive: true,
};

/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn beside_iptables_of_old() -> Result<()> {
    carried_where_nothing_is_translated(KubeProxy::IptablesLegacy)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn beside_iptables_on_nftables() -> Result<()> {
    carried_where_nothing_is_translated(KubeProxy::IptablesNft)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn beside_nftables() -> Result<()> {
    carried_where_nothing_is_translated(KubeProxy::Nftables)
}

/// A node that translates a connection carries none of its packets; the node of the server, where
/// it is one between two pods, most. Where nothing is translated, both do.
fn carried_where_nothing_is_translated(proxy: KubeProxy) -> Result<()> {
    require_root();
    for carrying in Carrying::BY_UNDERPASS {
        let scene = Scene::begin(proxy, carrying)?;
        let itself = SocketAddrV4::new(scene.far().address(), web::PORT);
        let what = || format!("{carrying:?}");

        let asking = |target| walked(&scene, |client| LOAD.put(client.ns(), target).map(drop));

        let [here, there] = asking(NEAR).with_context(what)?;
        assert_left(here, carrying);
        assert_eq!(there, Walked::default(), "{carrying:?}");

        let [here, there] = asking(FAR).with_context(what)?;
        assert_left(here, carrying);
        assert_carried(there, carrying);

        let [here, there] = asking(itself).with_context(what)?;
        assert_carried(here, carrying);
        assert_carried(there, carrying);

        let [here, there] =
            walked(&scene, |client| echo(client, ECHO, scene.far())).with_context(what)?;
        assert_left(here, carrying);
        assert_carried(there, carrying);
    }
    Ok(())
}

fn assert_left(walked: Walked, carrying: Carrying) {
    let Walked { carried, left } = walked;
    assert_eq!(
        carried, 0,
        "{carrying:?}: a translated flow's packets, {left} left"
    );
    assert!(
        left >= u64::from(LOAD.requests),
        "{carrying:?}: {left} left"
    );
}

fn assert_carried(walked: Walked, carrying: Carrying) {
    let Walked { carried, left } = walked;
    // Of each request there are two, the question and the answer.
    assert!(
        carried >= 2 * u64::from(LOAD.requests) * 9 / 10 && left < carried / 10,
        "{carrying:?}: {carried} carried, {left} left"
    );
}

/// As many datagrams as there are requests of [`LOAD`], each after the answer to the last one. The
/// client takes answers from whom it has asked alone.
fn echo(client: &Pod, to: SocketAddrV4, server: &Pod) -> Result<()> {
    let bind = |pod: &Pod, port| {
        let socket = pod.ns().run(|| {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind a socket of a pod")
        })?;
        socket.set_read_timeout(Some(patient(PATIENCE)))?;
        anyhow::Ok(socket)
    };
    let (server, client) = (bind(server, ECHO_PORT)?, bind(client, 0)?);
    client.connect(to)?;
    let answering = thread::spawn(move || -> Result<()> {
        let mut datagram = [0; 4];
        for _ in 0..LOAD.requests {
            let heard = uninterrupted(|| server.recv_from(&mut datagram));
            let (_, from) = heard.context("hear a question")?;
            server.send_to(&datagram, from)?;
        }
        Ok(())
    });
    for question in 0..LOAD.requests {
        client.send(&question.to_be_bytes())?;
        let mut answer = [0; 4];
        uninterrupted(|| client.recv(&mut answer)).context("hear an answer")?;
        assert_eq!(u32::from_be_bytes(answer), question);
    }
    let answered = answering.join();
    answered.unwrap_or_else(|panic| resume_unwind(panic))
}

/// What the programs of both nodes do with packets of the client and those that it gets.
fn walked(scene: &Scene, ask: impl FnOnce(&Pod) -> Result<()>) -> Result<[Walked; 2]> {
    let (here, client) = scene.client();
    let nodes: [&Node; 2] = [here, scene.other_client().0];
    let before = nodes.map(Counters::read);
    ask(client)?;
    let mut walked = [Walked::default(); 2];
    for ((walked, node), before) in walked.iter_mut().zip(nodes).zip(before) {
        *walked = Walked::of(&Counters::read(node)?.since(&before?));
    }
    Ok(walked)
}

/// What `established` is for: what is carried by route alone reaches the client in the name of the
/// server, whom it has not asked.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_carried_by_route_alone_is_not_translated_back() -> Result<()> {
    require_root();
    for target in [NEAR, FAR] {
        let scene = Scene::begin_with(KubeProxy::Nftables, Carrying::File(Mode::Vxlan), "all")?;
        let (_, client) = scene.client();
        let sightings = Sightings::of(client.ns(), &scene.endpoint_addresses())?;
        // It gives up after a second.
        let asking = format!("ab -s 1 -n 1 http://{target}/");
        let error = client.ns().exec(&asking).err();
        error.with_context(|| format!("{target} was reached"))?;
        assert!(sightings.count()? > 0, "{target}");
    }
    Ok(())
}

/// How many packets the programs of a node have carried past its stack, or left to it although they
/// could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Walked {
    carried: u64,
    left: u64,
}

impl Walked {
    /// Of what pods and other nodes sent.
    fn of(counters: &Counters) -> Self {
        let count = |which: &dyn Fn(Reason) -> bool| {
            let hooks = [Hook::FromWorkload, Hook::FromUplink].map(Hook::name);
            let reasons = Reason::ALL.iter().filter(|reason| which(**reason));
            let counts = reasons
                .flat_map(|reason| hooks.map(|hook| counters.get(hook, reason.name()).packets));
            counts.sum()
        };
        Self {
            carried: count(&|reason| {
                reason.action() == Action::Forward && reason != Reason::ArpAnswered
            }),
            left: count(&|reason| reason == Reason::NotEstablished),
        }
    }
}
