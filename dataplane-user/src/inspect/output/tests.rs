use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::{
    address::Mac,
    inspect::{EndpointRow, HookRow, LinkRow, MapRow, NextHopRow, ProgramRow, schema},
};

fn next_hop() -> NextHopRow {
    NextHopRow {
        number: 3,
        kind: "vxlan",
        peer: Some([192, 168, 1, 11].into()),
        gateway: Some([192, 168, 1, 1].into()),
        interface: Some("eth0".to_owned()),
        mtu: Some(1450),
        routes: 64,
        source: Some([192, 168, 1, 10].into()),
        vtep_mac: Some(Mac([0x66, 0x5a, 1, 2, 3, 4])),
    }
}

fn link(state: &'static str, program: Option<u32>, why: Option<&str>) -> LinkRow {
    LinkRow {
        hook: HookRow {
            interface: "eth0".to_owned(),
            hook: "xdp_uplink",
            state,
            why: why.map(str::to_owned),
        },
        ifindex: 2,
        program,
        pin: PathBuf::from("/sys/fs/bpf/underpass/v1/xdp/2-native"),
    }
}

fn map() -> MapRow {
    MapRow {
        name: "PEERS".to_owned(),
        kind: "hash".to_owned(),
        entries: Some(1),
        max_entries: 16384,
        id: 70,
        key_bytes: 4,
        value_bytes: 12,
        flags: 1,
        pin: PathBuf::from("/sys/fs/bpf/underpass/v1/maps/PEERS"),
    }
}

fn program() -> ProgramRow {
    ProgramRow {
        name: "from_uplink".to_owned(),
        id: 57,
        interfaces: 2,
        tag: "00ab34cd56ef7890".to_owned(),
        loaded: Some("2026-01-02T03:04:05Z".to_owned()),
        verified_instructions: Some(44_000),
        bytes: Some(30_000),
    }
}

/// The value that JSON and YAML both hold, which is as the schema says.
fn value<R: Listed>(rows: &[R]) -> Value {
    let json: Value = serde_json::from_str(&render(rows, Format::Json).unwrap()).unwrap();
    let yaml: Value = serde_saphyr::from_str(&render(rows, Format::Yaml).unwrap()).unwrap();
    assert_eq!(json, yaml);
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&json), "{json}");
    json
}

#[test]
fn next_hops() {
    assert_eq!(
        render(&[next_hop()], Format::Table).unwrap(),
        "NUMBER  KIND   PEER          GATEWAY      INTERFACE  MTU   ROUTES\n\
         3       vxlan  192.168.1.11  192.168.1.1  eth0       1450  64\n"
    );
    assert_eq!(
        render(&[next_hop()], Format::Wide).unwrap(),
        "NUMBER  KIND   PEER          GATEWAY      INTERFACE  MTU   ROUTES  SOURCE        VTEP-MAC\n\
         3       vxlan  192.168.1.11  192.168.1.1  eth0       1450  64      192.168.1.10  66:5a:01:02:03:04\n"
    );
    assert_eq!(
        value(&[next_hop()]),
        json!({
            "apiVersion": "underpass/v1",
            "kind": "NextHopList",
            "items": [{
                "number": 3,
                "kind": "vxlan",
                "peer": "192.168.1.11",
                "gateway": "192.168.1.1",
                "interface": "eth0",
                "mtu": 1450,
                "routes": 64,
                "source": "192.168.1.10",
                "vtepMAC": "66:5a:01:02:03:04",
            }],
        })
    );
}

#[test]
fn links() {
    let rows = [
        link("native", Some(57), None),
        link("off", None, Some("no")),
    ];
    assert_eq!(
        render(&rows, Format::Table).unwrap(),
        "INTERFACE  HOOK        STATE   PROGRAM\n\
         eth0       xdp_uplink  native  57\n\
         eth0       xdp_uplink  off     -\n"
    );
    assert_eq!(
        value(&rows[1..])["items"],
        json!([{
            "interface": "eth0",
            "hook": "xdp_uplink",
            "state": "off",
            "why": "no",
            "ifindex": 2,
            "pin": "/sys/fs/bpf/underpass/v1/xdp/2-native",
        }])
    );
}

#[test]
fn maps() {
    assert_eq!(
        render(&[map()], Format::Wide).unwrap(),
        "NAME   TYPE  ENTRIES  MAX-ENTRIES  ID  KEY  VALUE  FLAGS  PIN\n\
         PEERS  hash  1        16384        70  4    12     0x1    /sys/fs/bpf/underpass/v1/maps/PEERS\n"
    );
    assert_eq!(value(&[map()])["items"][0]["type"], "hash");
}

#[test]
fn programs() {
    assert_eq!(
        render(&[program()], Format::Wide).unwrap(),
        "NAME         ID  INTERFACES  LOADED                TAG               VERIFIED-INSTRUCTIONS  BYTES\n\
         from_uplink  57  2           2026-01-02T03:04:05Z  00ab34cd56ef7890  44000                  30000\n"
    );
    assert_eq!(
        value(&[program()])["items"][0]["verifiedInstructions"],
        44_000
    );
}

#[test]
fn an_empty_list_is_one_all_the_same() {
    let none: [EndpointRow; 0] = [];
    assert_eq!(
        render(&none, Format::Table).unwrap(),
        "ADDRESS  INTERFACE  IFINDEX  MAC  HOST-MAC  MTU\n(none)\n"
    );
    assert_eq!(value(&none)["items"], json!([]));
}

#[test]
fn what_there_is_one_of_has_its_fields_beside_the_version() {
    let explanation = Explanation {
        source: [10, 244, 0, 2].into(),
        destination: [10, 244, 1, 2].into(),
        protocol: "udp".to_owned(),
        source_port: Some(40_000),
        destination_port: Some(53),
        hook: None,
        action: "stack",
        reason: None,
        steps: vec!["no program sees it".to_owned()],
        mtu: None,
        flow: None,
        far_node: None,
        outer: Vec::new(),
    };
    let json = render_explanation(&explanation, Format::Json).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let yaml = render_explanation(&explanation, Format::Yaml).unwrap();
    assert_eq!(json, serde_saphyr::from_str::<Value>(&yaml).unwrap());
    assert_eq!(
        json,
        json!({
            "apiVersion": "underpass/v1",
            "kind": "Explanation",
            "source": "10.244.0.2",
            "destination": "10.244.1.2",
            "protocol": "udp",
            "sourcePort": 40_000,
            "destinationPort": 53,
            "action": "stack",
            "steps": ["no program sees it"],
        })
    );
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&json), "{json}");
}
