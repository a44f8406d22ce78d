//! Connections that begin as no kernel here begins them.

use anyhow::{Context as _, Result, ensure};
use crc::{CRC_32_ISCSI, Crc};
use dataplane_tests::netfilter::{Backend, Routes, Scene};
use etherparse::TcpHeader;

use crate::{compare::with_and_without, hands::Hand};

/// IP's number of SCTP.
const SCTP: u8 = 132;

/// Packets each way, once a connection is there.
const PACKETS: u32 = 200;

/// Both ends send a SYN before they have the other's (RFC 9293, 3.5).
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_simultaneous_open_is_carried() -> Result<()> {
    with_and_without("2s", (Routes::Kernel, Backend::Nft), 2, |scene| {
        let mut tracked = Vec::new();
        for (one, other) in [((0, "p0"), (0, "p1")), ((0, "p0"), (1, "p0"))] {
            let ends = [one, other].map(|(node, pod)| Hand::of(scene.pod(node, pod)));
            let [Ok(one), Ok(other)] = ends else {
                anyhow::bail!("no ends: {:?}", ends.map(Result::err))
            };
            let syn = |ack| Segment { syn: true, ack };
            one.send(&segment(&one, &other, syn(false), 0), &other)?;
            other.send(&segment(&other, &one, syn(false), 0), &one)?;
            one.send(&segment(&one, &other, syn(true), 0), &other)?;
            other.send(&segment(&other, &one, syn(true), 0), &one)?;
            let data = |number| {
                let data = Segment {
                    syn: false,
                    ack: true,
                };
                one.send(&segment(&one, &other, data, number), &other)?;
                other.send(&segment(&other, &one, data, number), &one)
            };
            go_on(scene, data)?;
            tracked.extend(scene.states(one.pod(), other.pod())?);
        }
        Ok(tracked)
    })
}

/// An association of one stream (RFC 9260, 5.1): four packets of handshake, and data.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn sctp_is_carried() -> Result<()> {
    with_and_without("2s", (Routes::Kernel, Backend::IptablesNft), 2, |scene| {
        let client = Hand::of(scene.pod(0, "p0"))?;
        let server = Hand::of(scene.pod(1, "p0"))?;
        let (init, init_ack, cookie_echo, cookie_ack) = (1, 2, 10, 11);
        // Both ends say which tag packets to them have to have; the first has none.
        client.send(
            &sctp(&client, &server, 0, &chunk(init, &initiation(7))),
            &server,
        )?;
        server.send(
            &sctp(&server, &client, 7, &chunk(init_ack, &initiation(9))),
            &client,
        )?;
        client.send(
            &sctp(&client, &server, 9, &chunk(cookie_echo, b"cook")),
            &server,
        )?;
        server.send(&sctp(&server, &client, 7, &chunk(cookie_ack, b"")), &client)?;
        go_on(scene, |number| {
            let number = number.to_be_bytes();
            let data = [&number[..], &[0; 8], b"data"].concat();
            client.send(&sctp(&client, &server, 9, &chunk(0, &data)), &server)?;
            // What has come, room for more, and neither gaps nor repetitions.
            let ack = [&number[..], &[0, 1, 0, 0], &[0; 4]].concat();
            server.send(&sctp(&server, &client, 7, &chunk(3, &ack)), &client)
        })?;
        scene.states(client.pod(), server.pod())
    })
}

/// Exchanges packets until they are carried, and then some more, most of which have to be.
fn go_on(scene: &Scene, mut exchange: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let mut number = 0;
    let mut next = || {
        number += 1;
        exchange(number).with_context(|| format!("packet {number}"))
    };
    scene.until_carried(&mut next)?;
    let before = scene.carried()?;
    (0..PACKETS).try_for_each(|_| next())?;
    let carried = scene.carried()? - before;
    ensure!(
        !scene.is_accelerated() || carried > u64::from(PACKETS),
        "{carried} carried"
    );
    Ok(())
}

/// What a segment says.
#[derive(Clone, Copy)]
struct Segment {
    syn: bool,
    ack: bool,
}

/// A segment from one end, of which SYN and data before it have been acknowledged.
fn segment(from: &Hand, to: &Hand, Segment { syn, ack }: Segment, number: u32) -> Vec<u8> {
    const DATA: &[u8] = b"data";
    // Each begins at its own number: from the host part of its address.
    let start = |hand: &Hand| u32::from(hand.pod().address()).wrapping_mul(1000);
    let sent = |number: u32| if syn { 0 } else { 1 + 4 * (number - 1) };
    // Whoever has the lower address speaks first.
    let is_answer = from.pod().address() > to.pod().address();
    let heard = if syn {
        1
    } else {
        sent(number) + if is_answer { 4 } else { 0 }
    };
    let header = TcpHeader {
        syn,
        ack,
        acknowledgment_number: if ack {
            start(to).wrapping_add(heard)
        } else {
            0
        },
        ..TcpHeader::new(4000, 4000, start(from).wrapping_add(sent(number)), 64000)
    };
    from.ip(to).tcp(header, if syn { b"" } else { DATA })
}

/// A packet with one chunk (RFC 9260, 3).
fn sctp(from: &Hand, to: &Hand, tag: u32, chunk: &[u8]) -> Vec<u8> {
    const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    let ports = [4000_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat();
    let mut packet = [&ports[..], &tag.to_be_bytes(), &[0; 4], chunk].concat();
    let checksum = CRC32C.checksum(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    from.ip(to).packet(SCTP, &packet)
}

fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a short chunk");
    // DATA is a whole message: it begins and ends here.
    let flags = if kind == 0 { 3 } else { 0 };
    [&[kind, flags][..], &length.to_be_bytes(), value].concat()
}

/// What INIT and INIT ACK say: the tag, room, one stream each way, the first number.
fn initiation(tag: u32) -> Vec<u8> {
    let room = 65536_u32.to_be_bytes();
    let first = 1_u32.to_be_bytes();
    [&tag.to_be_bytes()[..], &room, &[0, 1, 0, 1], &first].concat()
}
