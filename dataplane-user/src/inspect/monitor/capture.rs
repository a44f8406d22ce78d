//! Packets in a file that Wireshark and tcpdump read (pcapng, draft-ietf-opsawg-pcapng).

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result};
use dataplane_common::abi::{Event, Hook};
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

use super::{PacketRow, Reader, Side};

/// A file of packets. Each has a comment that says what became of it, and is of an interface that is named
/// after the hook, too: a packet is in the file once for each hook that it passed.
pub struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
    /// The numbers of the interfaces, by their index and hook.
    interfaces: HashMap<(u32, u8), u32>,
    snap: u32,
}

impl<W: Write> Capture<W> {
    /// Begins a file, to hold `snap` bytes of each packet at the most.
    pub fn new(file: W, snap: u32) -> Result<Self> {
        let application = concat!("underpass ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            options: vec![SectionHeaderOption::UserApplication(application.into())],
            ..SectionHeaderBlock::default()
        };
        Ok(Self {
            writer: PcapNgWriter::with_section_header(file, section).map_err(cannot_write)?,
            interfaces: HashMap::new(),
            snap,
        })
    }

    /// Adds a packet.
    pub fn add(&mut self, event: &Event, reader: &Reader) -> Result<()> {
        let Some((hook, row)) = event.hook().zip(PacketRow::new(event, reader)) else {
            return Ok(());
        };
        let interface_id = self.interface(event, hook, &row.interface)?;
        let time = reader.time(event.time).duration_since(UNIX_EPOCH);
        let direction = match Side::of(hook) {
            Side::In => 1,
            Side::Out => 2,
        };
        let captured = event.frame.get(..event.captured as usize);
        self.write(EnhancedPacketBlock {
            interface_id,
            timestamp: time.unwrap_or_default(),
            original_len: event.length,
            data: Cow::Borrowed(captured.unwrap_or(&event.frame)),
            options: vec![
                EnhancedPacketOption::Comment(row.outcome().into()),
                EnhancedPacketOption::Flags(direction),
            ],
        })
    }

    /// Ends the file: `lost` packets are not in it, for want of room.
    pub fn finish(mut self, lost: u64) -> Result<()> {
        // The buffer that they did not fit into is one for all.
        if !self.interfaces.is_empty() {
            self.write(InterfaceStatisticsBlock {
                interface_id: 0,
                timestamp: 0,
                options: vec![InterfaceStatisticsOption::IsbOsDrop(lost)],
            })?;
        }
        self.flush()
    }

    /// Has everything in the file that was added.
    pub fn flush(&mut self) -> Result<()> {
        let flushed = self.writer.get_mut().flush();
        flushed.context("cannot write to the file of packets")
    }

    fn interface(&mut self, event: &Event, hook: Hook, name: &str) -> Result<u32> {
        const NANOSECONDS: u8 = 9;
        let key = (event.ifindex, event.hook);
        if let Some(number) = self.interfaces.get(&key) {
            return Ok(*number);
        }
        self.write(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snap,
            options: vec![
                InterfaceDescriptionOption::IfName(format!("{name} {}", hook.name()).into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        let number = u32::try_from(self.interfaces.len())?;
        self.interfaces.insert(key, number);
        Ok(number)
    }

    fn write<'b>(&mut self, block: impl PcapNgBlock<'b>) -> Result<()> {
        let written = self.writer.write_pcapng_block(block);
        written.map(|_| ()).map_err(cannot_write)
    }
}

/// An I/O error is a cause that others look for.
fn cannot_write(error: PcapError) -> anyhow::Error {
    let cause = match error {
        PcapError::IoError(error) => anyhow::Error::new(error),
        other => anyhow::Error::new(io::Error::other(other)),
    };
    cause.context("cannot write to the file of packets")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dataplane_common::reason::Reason;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::{
        super::row::tests::{READER, event, tcp},
        *,
    };

    #[test]
    fn a_file_has_its_packets_by_interface_and_hook() {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file, 512).unwrap();
        let hooks = [Hook::FromWorkload, Hook::ToUplink, Hook::FromWorkload];
        for hook in hooks {
            let event = event(hook, Reason::NoRoute, &tcp());
            capture.add(&event, &READER).unwrap();
        }
        capture.finish(7).unwrap();

        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut packets = Vec::new();
        let mut lost = None;
        while let Some(block) = reader.next_block() {
            match block.unwrap().into_owned() {
                Block::EnhancedPacket(packet) => packets.push(packet),
                Block::InterfaceStatistics(statistics) => lost = Some(statistics.options),
                _ => {}
            }
        }
        let interfaces: Vec<_> = packets.iter().map(|packet| packet.interface_id).collect();
        assert_eq!(interfaces, [0, 1, 0]);
        assert_eq!(lost, Some(vec![InterfaceStatisticsOption::IsbOsDrop(7)]));
        let [first, second, _] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!(*first.data, tcp()[..]);
        assert_eq!(first.timestamp, Duration::from_millis(1500));
        let comment = EnhancedPacketOption::Comment("stack (no-route)".into());
        assert_eq!(first.options, [comment, EnhancedPacketOption::Flags(1)]);
        assert_eq!(second.options[1], EnhancedPacketOption::Flags(2));
    }

    #[test]
    fn a_file_without_packets_is_one_too() {
        let mut file = Vec::new();
        Capture::new(&mut file, 512).unwrap().finish(0).unwrap();
        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        assert!(reader.next_block().is_none());
    }
}
