//! Link-layer addresses as they are written in files and printed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// An Ethernet address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether this is `00:00:00:00:00:00`, which is no interface's address.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// Whether the group bit is set (IEEE 802, clause 8.2.2), so that the address stands for
    /// several interfaces, or, as `ff:ff:ff:ff:ff:ff`, for all.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// The text is not six pairs of hexadecimal digits with colons between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address such as 66:5a:01:02:03:04")]
pub struct InvalidMac;

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mut pairs = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            *byte = hex_byte(pairs.next().ok_or(InvalidMac)?)?;
        }
        match pairs.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(InvalidMac),
        }
    }
}

fn hex_byte(pair: &str) -> Result<u8, InvalidMac> {
    // `from_str_radix` alone would take "+f" and "f".
    let two_digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !two_digits {
        return Err(InvalidMac);
    }
    u8::from_str_radix(pair, 16).map_err(|_| InvalidMac)
}

impl JsonSchema for Mac {
    fn schema_name() -> Cow<'static, str> {
        "Mac".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An Ethernet address.",
            "type": "string",
            "pattern": "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$",
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let mac = Mac([0x66, 0x5a, 0x01, 0x02, 0x03, 0xfe]);
        assert_eq!(mac.to_string(), "66:5a:01:02:03:fe");
        assert_eq!("66:5A:01:02:03:Fe".parse(), Ok(mac));
        assert_eq!(
            serde_json::to_string(&mac).unwrap(),
            "\"66:5a:01:02:03:fe\""
        );
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "66:5a:01:02:03",
            "66:5a:01:02:03:04:05",
            "66:5a:01:02:03:04:",
            "66-5a-01-02-03-04",
            "6:5a:01:02:03:04",
            "+6:5a:01:02:03:04",
            "66:5a:01:02:03:0g",
            "665a01020304",
            "66:5a:01:02:03:é",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac), "{text:?}");
        }
    }

    #[test]
    fn tells_groups_and_nobody_from_interfaces() {
        assert!(Mac([0; 6]).is_zero());
        assert!(!Mac([0, 0, 0, 0, 0, 1]).is_zero());
        assert!(Mac([0xff; 6]).is_multicast());
        assert!(Mac([0x01, 0, 0x5e, 0, 0, 1]).is_multicast());
        assert!(!Mac([0x66, 0x5a, 0x01, 0x02, 0x03, 0x05]).is_multicast());
    }
}
