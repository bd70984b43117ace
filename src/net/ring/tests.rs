//! Sockets of a ring against plain ones at the other end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::super::{Buffers, PacketStream, Socket, Stream};
use super::provided::SIZE;
use super::*;

/// Runs a test on a core with a ring; `None` where the kernel has none.
fn on_a_core<T, F: Future<Output = T>>(test: impl FnOnce(Rc<Buffers>) -> F) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let ring = Ring::new().inspect_err(|e| eprintln!("no io_uring here: {e}")).ok()?;
        ring.crowded.set(true);
        tokio::task::spawn_local(Rc::clone(&ring).drive());
        Some(test(Rc::new(Buffers::with_ring(Some(ring)))).await)
    })
}

/// A socket that is on the ring, and its other end.
fn pair(core: &Rc<Buffers>) -> (PacketStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut near = PacketStream::new(Stream::Plain(Socket::unix(near, core).unwrap()), Rc::clone(core));
    assert!(near.poll_fill(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
    (near, far)
}

async fn read_all(stream: &mut PacketStream, n: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < n {
        stream.fill().await.unwrap();
        all.extend_from_slice(stream.buffered());
        stream.consume(stream.buffered().len());
    }
    all
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * 31 + i / 251) % 256).try_into().unwrap()).collect()
}

#[test]
fn bytes_of_every_length_arrive_in_order() {
    on_a_core(|core| async move {
        let (mut near, mut far) = pair(&core);
        let lengths = [1, 2, 100, SIZE as usize - 1, SIZE as usize, SIZE as usize + 1, 70_000, 3, 1_000_000, 5];
        for length in lengths {
            let sent = pattern(length);
            let writer = thread::spawn({
                let (sent, mut far) = (sent.clone(), far.try_clone().unwrap());
                move || far.write_all(&sent).unwrap()
            });
            assert!(read_all(&mut near, length).await == sent, "{length} bytes");
            writer.join().unwrap();
        }
        for length in lengths {
            let sent = pattern(length);
            let reader = thread::spawn({
                let mut far = far.try_clone().unwrap();
                move || {
                    let mut got = vec![0; length];
                    far.read_exact(&mut got).unwrap();
                    got
                }
            });
            for part in sent.chunks(20_000) {
                near.write(part).await.unwrap();
            }
            while !reader.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(reader.join().unwrap() == sent, "{length} bytes");
        }
        far.write_all(b"last").unwrap();
        drop(far);
        assert_eq!(read_all(&mut near, 4).await, b"last");
        assert_eq!(near.fill().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

/// Nobody reads: the ring takes what its bound allows, and the kernel holds the peer back.
#[test]
fn a_socket_that_is_not_read_takes_no_more_than_its_share() {
    on_a_core(|core| async move {
        let (mut near, far) = pair(&core);
        let (mut other, mut far_other) = pair(&core);
        far.set_nonblocking(true).unwrap();
        poll_fn(|cx| {
            assert!(near.poll_fill(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let mut taken = 0;
        let mut far = far;
        for round in 0..200u8 {
            // many small writes, each of which would take a buffer
            while let Ok(n) = far.write(&[round; 100]) {
                taken += n;
            }
            // the others go on
            far_other.write_all(&[round; 3]).unwrap();
            assert_eq!(read_all(&mut other, 3).await, [round; 3]);
        }
        assert!(taken < 2 << 20, "{taken} bytes were taken");
        let writer = thread::spawn(move || drop(far));
        assert_eq!(read_all(&mut near, taken).await.len(), taken);
        writer.join().unwrap();
    });
}

/// More sockets than buffers, each with bytes that nobody has read yet.
#[test]
fn all_are_served_where_buffers_run_out() {
    on_a_core(|core| async move {
        let mut pairs: Vec<_> = (0..600).map(|_| pair(&core)).collect();
        for (near, _) in &mut pairs {
            poll_fn(|cx| {
                assert!(near.poll_fill(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        for round in 0..3u8 {
            for (number, (_, far)) in pairs.iter_mut().enumerate() {
                far.write_all(&[round, (number % 256).try_into().unwrap(), (number / 256).try_into().unwrap()])
                    .unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            for (number, (near, _)) in pairs.iter_mut().enumerate() {
                assert_eq!(
                    read_all(near, 3).await,
                    [round, (number % 256).try_into().unwrap(), (number / 256).try_into().unwrap()]
                );
            }
        }
    });
}

/// A goodbye that was written and not sent yet is sent when the stream is dropped, and then its end.
#[test]
fn what_was_written_outlives_its_stream() {
    on_a_core(|core| async move {
        for length in [5usize, 60_000, 400_000] {
            let (mut near, mut far) = pair(&core);
            let sent = pattern(length);
            let reader = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                let mut got = Vec::new();
                far.read_to_end(&mut got).unwrap();
                got
            });
            for part in sent.chunks(3_000) {
                near.write(part).await.unwrap();
            }
            drop(near);
            core.ring().unwrap().settle(Duration::from_secs(20)).await;
            assert!(reader.join().unwrap() == sent, "{length} bytes");
        }
        let state = core.ring().unwrap().state.borrow();
        assert_eq!(state.lingering.len(), 0);
        assert_eq!(state.slots.len() - state.free.len(), 0, "slots that nobody has");
    });
}

/// A peer that reads nothing does not hold its socket for ever.
#[test]
fn a_peer_that_reads_nothing_is_given_up() {
    on_a_core(|core| async move {
        let ring = Rc::clone(core.ring().unwrap());
        let (near, far) = pair(&core);
        let mut near = near;
        let writing = tokio::time::timeout(Duration::from_millis(50), near.write(&[1; 1 << 20]));
        assert!(writing.await.is_err(), "all of it was taken");
        drop(near);
        assert_eq!(ring.state.borrow().lingering.len(), 1);
        for _ in 0..LINGER {
            ring.tick();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ring.state.borrow().lingering.len(), 0);
        let mut far = far;
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).unwrap();
        assert!(!rest.is_empty());
    });
}

#[test]
fn a_failed_socket_says_so_to_who_writes() {
    on_a_core(|core| async move {
        let (mut near, far) = pair(&core);
        drop(far);
        let mut failed = None;
        for _ in 0..100 {
            if let Err(e) = near.write(b"nobody reads this").await {
                failed = Some(e.kind());
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(failed, Some(io::ErrorKind::BrokenPipe));
    });
}

/// A socket that goes over to the ring and back, again and again, while bytes pass both ways.
#[test]
fn a_socket_changes_between_ring_and_tokio() {
    on_a_core(|core| async move {
        let ring = Rc::clone(core.ring().unwrap());
        let (mut near, far) = pair(&core);
        let sent = pattern(3_000_000);
        let writer = thread::spawn({
            let (sent, mut far) = (sent.clone(), far.try_clone().unwrap());
            move || {
                for (number, part) in sent.chunks(1_237).enumerate() {
                    far.write_all(part).unwrap();
                    if number % 16 == 0 {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            }
        });
        let reader = thread::spawn({
            let mut far = far.try_clone().unwrap();
            move || {
                let mut got = vec![0; 3_000_000];
                far.read_exact(&mut got).unwrap();
                got
            }
        });
        let (mut got, mut back, mut rounds) = (Vec::new(), sent.chunks(1_511), 0);
        while got.len() < sent.len() {
            ring.crowded.set(rounds % 7 < 4);
            rounds += 1;
            near.fill().await.unwrap();
            got.extend_from_slice(near.buffered());
            near.consume(near.buffered().len());
            for part in back.by_ref().take(3) {
                near.write(part).await.unwrap();
            }
        }
        for part in back {
            near.write(part).await.unwrap();
        }
        assert!(got == sent && rounds > 100, "{rounds} rounds");
        while !reader.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(reader.join().unwrap() == sent);
        writer.join().unwrap();
        // idle, in the way that few connections are served
        ring.crowded.set(false);
        for _ in 0..3 {
            let _ = tokio::time::timeout(Duration::from_millis(5), near.fill()).await;
        }
        assert_eq!(ring.state.borrow().slots.len() - ring.state.borrow().free.len(), 0);
    });
}
