//! The bare loops over QUIC, driven by the loader that drives the broker.

use bateau_benches::failure::Failure;
use bateau_benches::native::ends::listen;
use bateau_benches::native::loops::{EchoFile, HEAD_BYTES, serve_echo, serve_sink};
use bateau_benches::native::replay::{Line, Plan, produce_frames};
use bateau_benches::native::run;
use bateau_benches::payload::{Noise, Shape};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::Frame;
use std::path::PathBuf;
use std::sync::mpsc;

/// A loop on a thread of its own, and a loader on this one.
fn beside<S, L, T>(
    serve: impl FnOnce(quinn::Endpoint) -> S + Send,
    load: impl FnOnce(Line) -> L,
) -> (Result<(), Failure>, Result<T, Failure>)
where
    S: Future<Output = Result<(), Failure>>,
    L: Future<Output = Result<T, Failure>>,
{
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            run(async move {
                let (endpoint, door) = listen()?;
                tell.send(door).expect("the loader waits for it");
                serve(endpoint).await
            })
        });
        let door = told.recv().expect("it listens");
        let loaded = run(async { load(Line::to_bare_loop(door).await?).await });
        (server.join().expect("no panic"), loaded)
    })
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    (directory, path)
}

#[test]
fn every_request_is_written_once_in_order_and_answered() {
    const REQUESTS: u64 = 300;
    let (_directory, path) = file();
    let mut noise = Noise::new(1);
    let batches = [Shape::SINGLE, Shape::BULK].repeat(25);
    let batches = batches.iter().map(|shape| (shape.batch(&mut noise).expect("a batch"), 1));
    let set = produce_frames(TopicId::default(), batches).expect("they fit");
    let written: u64 = set.iter().map(|request| request.frame.len() as u64).sum();
    let written = written * REQUESTS / 50;
    let (served, replayed) = beside(
        |endpoint| serve_sink(endpoint, &path, written + 100),
        |mut line| {
            let set = &set;
            async move {
                line.replay(Plan { requests: REQUESTS, inflight: 16 }, set).await?;
                line.close().await;
                Ok(())
            }
        },
    );
    served.expect("the loop ends with its connection");
    replayed.expect("every request is answered");
    let found = std::fs::read(&path).expect("the file is there");
    let expected: Vec<u8> = set.iter().flat_map(|request| request.frame.to_vec()).collect();
    let expected = expected.repeat(usize::try_from(REQUESTS / 50).expect("six"));
    assert!(found[..expected.len()] == expected[..], "the file holds the requests in order");
    assert_eq!(&found[expected.len()..], [0; 100], "it was allocated in full");
}

#[test]
fn the_window_is_kept_by_weight_and_what_is_larger_goes_alone() {
    let (_directory, path) = file();
    let mut noise = Noise::new(1);
    let weights = [1, 100, 1, 1, 7, 8, 9];
    let batches = weights.map(|weight| (Shape::SINGLE.batch(&mut noise).expect("one"), weight));
    let set = produce_frames(TopicId::default(), batches).expect("they fit");
    let (served, replayed) = beside(
        |endpoint| serve_sink(endpoint, &path, 1 << 20),
        |mut line| {
            let set = &set;
            async move {
                line.replay(Plan { requests: 70, inflight: 8 }, set).await?;
                line.close().await;
                Ok(())
            }
        },
    );
    served.expect("the loop ends with its connection");
    replayed.expect("no request waits for ever");
}

#[test]
fn an_echo_comes_back_as_it_was_sent_and_after_a_write() {
    let (_directory, path) = file();
    let batch = Shape::SINGLE.batch(&mut Noise::new(1)).expect("a batch");
    let set = produce_frames(TopicId::default(), [(batch, 1)]).expect("it fits");
    let request = set[0].clone();
    let (served, times) = beside(
        |endpoint| serve_echo(endpoint, Some(EchoFile { path: &path, round_trips: 10 })),
        |mut line| async move {
            let same = |frame: Frame| {
                assert_eq!(&request.frame[HEAD_BYTES..], &frame.body[..]);
                Ok(())
            };
            let times = line.round_trips(10, &request, same).await?;
            line.close().await;
            Ok(times)
        },
    );
    served.expect("the loop ends with its connection");
    assert_eq!(times.expect("ten round trips").len(), 10);
    let found = std::fs::read(&path).expect("the file is there");
    assert!(found.len() == 10 * 4096 && found.chunks(4096).all(|piece| piece == &found[..4096]));
    assert!(found.iter().any(|byte| *byte != 0));
}
