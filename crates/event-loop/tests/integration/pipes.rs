//! Pipes, and other descriptors used as pipes.

use std::fs::File;
use std::future::poll_fn;
use std::io::{IoSlice, Read, Seek, Write};
use std::os::fd::OwnedFd;

use bytes::BytesMut;
use event_loop::pipe::{Reader, Writer, pipe};
use event_loop::{counters, spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{run, settle};

#[test]
fn more_than_a_pipe_holds_is_written_and_read() {
    run(async {
        let (mut reader, mut writer) = pipe().unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        let writing = spawn({
            let sent = sent.clone();
            async move {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
                let error = writer.write_all(b"more").await.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
            }
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
        writing.await;
    });
}

#[test]
fn a_pipe_without_a_reader_is_an_error() {
    run(async {
        let (reader, mut writer) = pipe().unwrap();
        let waiting = spawn(async move {
            let mut result = Ok(());
            while result.is_ok() {
                result = writer.write_all(&[0; 4096]).await;
            }
            result.unwrap_err().kind()
        });
        settle().await;
        assert!(!waiting.is_finished(), "the pipe is full");
        drop(reader);
        assert_eq!(waiting.await, std::io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn several_slices_are_written_in_one_call() {
    run(async {
        let (mut reader, mut writer) = pipe().unwrap();
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        let written =
            poll_fn(|context| writer.poll_write_vectored(context, &slices)).await.unwrap();
        assert_eq!((written, counters().writes), (7, 1));
        let mut buffer = BytesMut::with_capacity(100);
        poll_fn(|context| reader.poll_read_into(context, &mut buffer)).await.unwrap();
        assert_eq!(&buffer[..], b"one two");
        drop(writer);
        assert_eq!(
            poll_fn(|context| reader.poll_read_into(context, &mut buffer)).await.unwrap(),
            0
        );
    });
}

#[test]
fn regular_files_are_always_ready() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b'x'; 100_000]).unwrap();
    file.rewind().unwrap();
    run(async {
        let mut text = Vec::new();
        let fd = OwnedFd::from(file.try_clone().unwrap());
        Reader::from_fd(fd).unwrap().read_to_end(&mut text).await.unwrap();
        assert_eq!(text.len(), 100_000);
        let fd = OwnedFd::from(file.try_clone().unwrap());
        Writer::from_fd(fd).unwrap().write_all(b"the end").await.unwrap();
    });
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("xthe end"));
}

#[test]
fn a_descriptor_that_is_always_ready_does_not_starve_others() {
    run(async {
        let open =
            || OwnedFd::from(File::options().read(true).write(true).open("/dev/zero").unwrap());
        let reading = spawn(async move {
            let mut zeros = Reader::from_fd(open()).unwrap();
            let mut buffer = [1; 1000];
            while zeros.read(&mut buffer).await.unwrap() > 0 {}
        });
        let writing = spawn(async move {
            let mut hole = Writer::from_fd(open()).unwrap();
            while hole.write(&[1; 1000]).await.unwrap() > 0 {}
        });
        for _ in 0..10 {
            event_loop::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(!reading.is_finished() && !writing.is_finished());
        let counters = counters();
        let operations = (counters.reads + counters.writes) / counters.polls;
        assert!((10..=32).contains(&operations), "{counters:?}");
    });
}

#[test]
fn dev_null_accepts_writes_and_is_empty() {
    run(async {
        let open =
            || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        Writer::from_fd(open()).unwrap().write_all(&[0; 100_000]).await.unwrap();
        let mut nothing = Vec::new();
        Reader::from_fd(open()).unwrap().read_to_end(&mut nothing).await.unwrap();
        assert!(nothing.is_empty());
    });
}
