//! Speed of what every response passes through: `cargo bench --bench wire`.
//!
//! `reply` is the state machine over a result set (GB/s of bytes that are only passed on); `split` finds packet boundaries alone,
//! which is the floor; `point` is the whole response to a point select.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switchover::wire::Capabilities;
use switchover::wire::packet::{self, HEADER, Header};
use switchover::wire::reply::{Event, Expect, Reply};

const COLUMN: &[u8] = b"\x03def\x00\x00\x00\x011\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];
/// Bytes of a read buffer of the proxy.
const READ: usize = 64 * 1024;

/// A result set of four columns, with rows of `width` bytes, of about `bytes` bytes.
fn result_set(width: usize, bytes: usize) -> Vec<u8> {
    let (mut out, mut sequence) = (Vec::with_capacity(bytes + 1000), 1);
    sequence = packet::put(&mut out, sequence, &[4]);
    for _ in 0..4 {
        sequence = packet::put(&mut out, sequence, COLUMN);
    }
    sequence = packet::put(&mut out, sequence, EOF);
    let mut row = vec![b'x'; width];
    row[0] = u8::try_from(width - 1).unwrap_or(250);
    while out.len() < bytes {
        sequence = packet::put(&mut out, sequence, &row);
    }
    packet::put(&mut out, sequence, EOF);
    out
}

/// The same, with rows of lengths that cannot be foretold, around `width`.
fn mixed(width: usize, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 1000);
    let mut sequence = packet::put(&mut out, 1, &[1]);
    sequence = packet::put(&mut out, sequence, COLUMN);
    sequence = packet::put(&mut out, sequence, EOF);
    let (row, mut random) = (vec![b'x'; 2 * width], 1u32);
    while out.len() < bytes {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = width / 2 + (random >> 16) as usize % width;
        sequence = packet::put(&mut out, sequence, &row[..length]);
    }
    packet::put(&mut out, sequence, EOF);
    out
}

/// As the relay does it: in reads of at most 64 KiB, what is left over offered again with what follows.
fn pass_over(bytes: &[u8]) -> u64 {
    let mut reply = Reply::new(Expect::Results, Capabilities::PROTOCOL_41);
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + READ).min(bytes.len());
        let step = reply.feed(&bytes[start..end]).unwrap();
        start += step.consumed;
        if step.event == Event::Done {
            return reply.outcome().rows;
        }
    }
}

fn reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    for width in [12, 100, 1000] {
        let bytes = result_set(width, 8 << 20);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("rows of", width), &bytes, |b, bytes| {
            b.iter(|| pass_over(black_box(bytes)));
        });
    }
    let bytes = mixed(100, 8 << 20);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("rows of about 100", |b| b.iter(|| pass_over(black_box(&bytes))));
    let point = result_set(121, 200);
    group.throughput(Throughput::Elements(1));
    group.bench_function("point", |b| b.iter(|| pass_over(black_box(&point))));
    group.finish();
}

fn split(c: &mut Criterion) {
    let mut group = c.benchmark_group("split");
    for width in [12, 100, 1000] {
        let bytes = result_set(width, 8 << 20);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("packets of", width), &bytes, |b, bytes| {
            b.iter(|| {
                let (mut at, mut packets) = (0, 0u64);
                while let Some(header) = black_box(bytes).get(at..).and_then(Header::read) {
                    at += HEADER + header.len();
                    packets += 1;
                }
                packets
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reply, split);
criterion_main!(benches);
