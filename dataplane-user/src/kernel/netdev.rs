//! What the driver of a device says of XDP (the generic netlink family `netdev`, since Linux 6.3).

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use genetlink::GenetlinkError;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _,
    NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// `NETDEV_XDP_ACT_BASIC`: the driver runs programs, which may drop and pass on.
const BASIC: u64 = 1;

/// Whether the driver of interface `index` runs XDP programs; `None` where the kernel does not tell.
///
/// # Panics
///
/// Outside a tokio runtime with I/O enabled.
pub async fn has_native_xdp(index: u32) -> Result<Option<bool>> {
    let (connection, mut handle, _unsolicited) =
        genetlink::new_connection().context("cannot open a generic netlink socket")?;
    let connection = tokio::spawn(connection);
    let features = async {
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(Netdev::of(index)));
        message.header.flags = NLM_F_REQUEST;
        let mut answers = match handle.request(message).await {
            Ok(answers) => answers,
            // There is no such family.
            Err(GenetlinkError::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(answer) = answers.next().await else {
            return Ok(None);
        };
        match answer?.payload {
            NetlinkPayload::InnerMessage(message) => Ok(message.payload.xdp_features()),
            NetlinkPayload::Error(error) => Err(error.to_io().into()),
            _ => Ok(None),
        }
    };
    let features: Result<Option<u64>> = features.await;
    connection.abort();
    let features = features
        .with_context(|| format!("cannot ask what interface number {index} can do with XDP"))?;
    Ok(features.map(|features| features & BASIC != 0))
}

/// A question, or the answer to it.
#[derive(Debug)]
struct Netdev {
    attributes: Vec<DefaultNla>,
}

impl Netdev {
    fn of(index: u32) -> Self {
        let index = DefaultNla::new(NETDEV_A_DEV_IFINDEX, index.to_ne_bytes().to_vec());
        Self {
            attributes: vec![index],
        }
    }

    fn xdp_features(&self) -> Option<u64> {
        let mut attributes = self.attributes.iter();
        let features =
            attributes.find(|attribute| attribute.kind() == NETDEV_A_DEV_XDP_FEATURES)?;
        let mut value = vec![0; features.value_len()];
        features.emit_value(&mut value);
        Some(u64::from_ne_bytes(value.try_into().ok()?))
    }
}

impl GenlFamily for Netdev {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        NETDEV_CMD_DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Netdev {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Netdev {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let attributes = NlasIterator::new(buffer).map(|attribute| {
            let attribute = attribute?;
            Ok(DefaultNla::new(
                attribute.kind(),
                attribute.value().to_vec(),
            ))
        });
        Ok(Self {
            attributes: attributes.collect::<Result<_, DecodeError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_the_kernel_writes_it() {
        let features = |attributes: &[(u16, &[u8])]| {
            let attributes = attributes.iter();
            let message = Netdev {
                attributes: attributes
                    .map(|(kind, value)| DefaultNla::new(*kind, value.to_vec()))
                    .collect(),
            };
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            let header = GenlHeader { cmd: 1, version: 1 };
            let read = Netdev::parse_with_param(&bytes, header).unwrap();
            read.xdp_features()
        };
        let index: (u16, &[u8]) = (1, &[7, 0, 0, 0]);
        assert_eq!(features(&[index]), None);
        let none = 0_u64.to_ne_bytes();
        assert_eq!(features(&[index, (3, &none)]), Some(0));
        let veth = 0x23_u64.to_ne_bytes();
        assert_eq!(features(&[index, (3, &veth)]), Some(0x23));
    }
}
