//! Explicit congestion notification through a tunnel: RFC 6040, as Linux does it
//! (`include/net/inet_ecn.h`).

const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The outer TOS byte: the DSCP of `tunnel`, and the ECN of `inner`, or ECT(0) where that is CE
/// (`INET_ECN_encapsulate`).
#[inline(always)]
#[must_use]
pub const fn encapsulate(tunnel: u8, inner: u8) -> u8 {
    let ecn = match inner & MASK {
        CE => ECT_0,
        ecn => ecn,
    };
    tunnel & !MASK | ecn
}

/// The inner TOS byte after decapsulation, or `None` where the packet has to be dropped: congestion
/// was marked on a packet whose sender does not understand the mark (`INET_ECN_decapsulate`).
#[inline(always)]
#[must_use]
pub const fn decapsulate(outer: u8, inner: u8) -> Option<u8> {
    match (outer & MASK, inner & MASK) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(inner | CE),
        (ECT_1, ECT_0) => Some((inner & !MASK) | ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encapsulation_copies_ecn_but_not_congestion_and_not_dscp() {
        for tunnel in [0, 0x48, 0xfc] {
            assert_eq!(encapsulate(tunnel, 0xb8 | NOT_ECT), tunnel | NOT_ECT);
            assert_eq!(encapsulate(tunnel, 0xb8 | ECT_0), tunnel | ECT_0);
            assert_eq!(encapsulate(tunnel | CE, 0xb8 | ECT_1), tunnel | ECT_1);
            assert_eq!(encapsulate(tunnel, 0xb8 | CE), tunnel | ECT_0);
        }
    }

    /// Figure 4 of RFC 6040, row by row (inner), column by column (outer).
    #[test]
    fn decapsulation_is_the_table_of_rfc_6040() {
        let outers = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outers.into_iter().zip(row) {
                let expected = expected.map(|ecn| 0xb8 | ecn);
                assert_eq!(
                    decapsulate(outer, 0xb8 | inner),
                    expected,
                    "{inner} {outer}"
                );
            }
        }
    }
}
