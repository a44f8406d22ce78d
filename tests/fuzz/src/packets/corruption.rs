//! Changes that no builder of packets would make.

use dataplane_common::memory::MemoryTables;
use etherparse::Ipv4Header;

use crate::{addresses, choices::Choices};

/// Where IP headers are: the first, one in IPIP, one in VXLAN.
const IP_HEADERS: [usize; 3] = [14, 34, 64];
/// Bytes that any program reads: to the end of a TCP header in VXLAN.
const READ: usize = 64 + 20 + 20;
/// Where fields of 16 bits are, or halves of others, from an IP header on: length,
/// identification, fragment, protocol and TTL, checksum, ports, lengths.
const WORDS: [usize; 11] = [0, 2, 4, 6, 8, 10, 20, 22, 24, 26, 32];

/// Changes up to three things.
pub(super) fn corrupt(choices: &mut Choices, tables: &MemoryTables, frame: &mut Vec<u8>) {
    for _ in 0..=choices.below(3) {
        change(choices, tables, frame);
    }
    // So that the change is seen by more than the one who looks at checksums.
    if choices.mostly() {
        for header in IP_HEADERS {
            repair_checksum(frame, header);
        }
    }
}

fn change(choices: &mut Choices, tables: &MemoryTables, frame: &mut Vec<u8>) {
    let header = choices.of(&IP_HEADERS);
    match choices.below(8) {
        0 | 1 => {
            let (offset, bit) = (choices.below(READ), choices.below(8));
            if let Some(byte) = frame.get_mut(offset) {
                *byte ^= 1 << bit;
            }
        }
        2 => {
            let (offset, value) = (choices.below(READ), choices.of(&[0, 1, 0x7f, 0x80, 0xff]));
            overwrite(frame, offset, &[value]);
        }
        3 | 4 => {
            let offset = header + choices.of(&WORDS);
            let value = word(choices, frame.len());
            overwrite(frame, offset, &value);
        }
        5 => {
            let offset = header + choices.of(&[12, 16]);
            let address = match choices.below(3) {
                0 => addresses::endpoint(choices, tables),
                1 => addresses::routed(choices, tables, |_| true),
                _ => tables.config.unwrap_or_default().node,
            };
            overwrite(frame, offset, &address);
        }
        6 => {
            let length = choices.below(frame.len().min(READ + 20));
            frame.truncate(length);
        }
        _ => {
            let length = frame.len() + choices.below(64);
            frame.resize(length, choices.of(&[0, 0xff]));
        }
    }
}

/// A value at some boundary, the length of the frame among them.
fn word(choices: &mut Choices, length: usize) -> [u8; 2] {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    match choices.below(4) {
        0 => choices.of(&[0, 1, 19, 20, 21, 0x0fff, 0x2000, 0x4000, 0x8000, u16::MAX]),
        1 => length.wrapping_sub(choices.of(&[13, 14, 15, 34, 42, 64])),
        2 => choices.of(&[4_u16, 6, 17]) | u16::from(choices.bytes::<1>()[0]) << 8,
        _ => choices.word(),
    }
    .to_be_bytes()
}

fn overwrite(frame: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(bytes) = frame.get_mut(offset..offset + value.len()) {
        bytes.copy_from_slice(value);
    }
}

/// Makes the checksum of a header without options right.
fn repair_checksum(frame: &mut [u8], at: usize) {
    let Some(bytes) = frame.get_mut(at..at + 20) else {
        return;
    };
    if bytes[0] == 0x45
        && let Ok((header, _)) = Ipv4Header::from_slice(bytes)
    {
        bytes[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
}
