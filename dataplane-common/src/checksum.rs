//! The Internet checksum (RFC 1071), whole and by increments (RFC 1624).
//!
//! Sums are formed of 16-bit words in memory order, whatever the host's byte order: the ones'
//! complement sum comes out in the same order (RFC 1071 section 2 (B)).

use network_types::ip::Ipv4Hdr;

/// The checksum of a header without options, whatever its checksum field holds.
#[inline(always)]
#[must_use]
pub fn ipv4(header: &Ipv4Hdr) -> [u8; 2] {
    (!fold(sum_without_check(header))).to_ne_bytes()
}

/// Whether the checksum field of a header without options is right.
#[inline(always)]
#[must_use]
pub fn ipv4_is_valid(header: &Ipv4Hdr) -> bool {
    fold(sum_without_check(header) + word(header.check)) == 0xffff
}

/// The checksum after one 16-bit word under it changed: RFC 1624, equation 3.
#[inline(always)]
#[must_use]
pub fn replace(check: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let sum = complement(check) + complement(old) + word(new);
    (!fold(sum)).to_ne_bytes()
}

#[inline(always)]
fn sum_without_check(h: &Ipv4Hdr) -> u32 {
    word([h.vihl, h.tos])
        + word(h.tot_len)
        + word(h.id)
        + word(h.frags)
        + word([h.ttl, h.proto])
        + word([h.src_addr[0], h.src_addr[1]])
        + word([h.src_addr[2], h.src_addr[3]])
        + word([h.dst_addr[0], h.dst_addr[1]])
        + word([h.dst_addr[2], h.dst_addr[3]])
}

#[inline(always)]
fn word(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_ne_bytes(bytes))
}

#[inline(always)]
fn complement(bytes: [u8; 2]) -> u32 {
    u32::from(!u16::from_ne_bytes(bytes))
}

/// Adds the carries back in: twice is enough for a sum of fewer than 65,536 words.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // the sum is below 0x1_0000 after two folds
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example header of RFC 1071's usual illustration: checksum 0xb861.
    const HEADER: Ipv4Hdr = Ipv4Hdr {
        vihl: 0x45,
        tos: 0,
        tot_len: [0x00, 0x73],
        id: [0, 0],
        frags: [0x40, 0x00],
        ttl: 0x40,
        proto: 0x11,
        check: [0xb8, 0x61],
        src_addr: [0xc0, 0xa8, 0x00, 0x01],
        dst_addr: [0xc0, 0xa8, 0x00, 0xc7],
    };

    #[test]
    fn a_known_header_has_its_known_checksum() {
        assert_eq!(ipv4(&HEADER), [0xb8, 0x61]);
        assert!(ipv4_is_valid(&HEADER));
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut header = HEADER;
        header.ttl ^= 1;
        assert!(!ipv4_is_valid(&header));
    }

    #[test]
    fn an_increment_equals_the_whole_for_every_ttl_and_tos() {
        for ttl in 1..=255u8 {
            for tos in 0..=255u8 {
                let mut header = Ipv4Hdr { ttl, ..HEADER };
                header.check = ipv4(&header);
                let check = replace(header.check, [ttl, header.proto], [ttl - 1, header.proto]);
                let check = replace(check, [header.vihl, header.tos], [header.vihl, tos]);
                header.ttl -= 1;
                header.tos = tos;
                header.check = check;
                assert!(ipv4_is_valid(&header), "ttl {ttl} tos {tos}");
            }
        }
    }
}
