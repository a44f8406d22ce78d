//! What the BPF programs and userspace share.
//!
//! A packet is read here from top to bottom: [`parse`] turns its headers into facts, [`decide`]
//! turns facts and tables into a verdict, [`rewrite`] carries the verdict out on the bytes. The
//! programs in `dataplane-ebpf` deliver the result; host tests and `underpass explain` run the
//! very same code on [`memory`] packets and tables.
//!
//! Invariant: nothing here can panic, allocate or loop over packet data; it is linked into BPF
//! programs.
//!
//! Invariant: addresses and other wire values are byte arrays in network byte order; integers in
//! map keys and values are in the host's order.
#![no_std]
// A BPF program is one function to the verifier: a packet pointer that crosses a call that was not
// inlined loses what the verifier knew about it.
#![allow(clippy::inline_always)]

#[cfg(any(test, feature = "memory"))]
extern crate std;

pub mod abi;
pub mod addresses;
pub mod arp;
pub mod checksum;
pub mod decide;
pub mod ecn;
pub mod flow;
pub mod flows;
pub mod headers;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod monitor;
pub mod packet;
pub mod parse;
pub mod reason;
pub mod rewrite;
pub mod tables;
pub mod trie;
pub mod tuple;
