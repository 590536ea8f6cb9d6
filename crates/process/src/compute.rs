//! A value computed in a forked child, with limits, while the loop continues.

use std::future::Future;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, fs};

use event_loop::pipe::{self, Reader};
use event_loop::{Panic, time};

use crate::child::Child;
use crate::descriptors;
use crate::failure::Failure;
use crate::fork::{self, ForkOptions};
use crate::limits::Limits;
use crate::output::{pass_on, read_to_end, to_stderr};

/// Computes a value in a child, with limits, without blocking the loop.
///
/// `work` runs in a forked child as described at [`fork::fresh`]: its side effects stay there, and only the bytes it
/// returns come back, at most as many as its memory limit. What it prints goes to our standard error. The fork
/// happens at once; the future waits for the value, and dropping it kills the child.
///
/// Costs a fork, about half a millisecond for a small process. The caller has to bound how many run at once.
///
/// ```
/// # use process::{Failure, Limits, compute};
/// # event_loop::run(async {
/// match compute(Limits::DEFAULT, || vec![1, 2, 3]).await {
///     Ok(bytes) => assert_eq!(bytes, [1, 2, 3]),
///     // A fork is not safe with several threads, as here: then compute it in this process.
///     Err(Failure::CannotFork(error)) => eprintln!("{error}"),
///     Err(other) => panic!("{other}"),
/// }
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// The future returns a [`Failure`], whatever `work` does.
pub fn compute(limits: Limits, work: impl FnOnce() -> Vec<u8>) -> Computation {
    let computing = start(limits, work);
    Computation { future: Box::pin(async move { finish(computing?, limits).await }) }
}

/// A value being computed by a child. From [`compute`].
#[must_use = "the child is killed when this is dropped"]
pub struct Computation {
    future: Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>,
}

impl Future for Computation {
    type Output = Result<Vec<u8>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(context)
    }
}

impl fmt::Debug for Computation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Computation").finish_non_exhaustive()
    }
}

/// The child and the pipe that carries its value: one byte for the kind, the length, the bytes.
type Computing = (Child, Reader);

const VALUE: u8 = b'v';
const PANIC: u8 = b'p';
const HEADER_BYTES: usize = 9;

fn start(limits: Limits, work: impl FnOnce() -> Vec<u8>) -> Result<Computing, Failure> {
    let (reader, writer) = pipe::ends().map_err(Failure::CannotFork)?;
    let given = [writer.as_raw_fd()];
    let options = ForkOptions { limits: Some(limits), given: &given, captures_output: true };
    let child = fork::fresh(options, move || {
        // std's own hook may read the program's line tables (RUST_BACKTRACE): more memory than the child has.
        panic::set_hook(Box::new(|info| drop(writeln!(io::stderr(), "{info}"))));
        let (kind, bytes) = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => (VALUE, value),
            Err(payload) => (PANIC, Panic::from(payload).message().as_bytes().to_vec()),
        };
        let _ = io::stdout().flush();
        let written = descriptors::set_blocking(writer.as_fd()).and_then(|()| {
            let mut file = fs::File::from(writer);
            file.write_all(&[kind])?;
            file.write_all(&(bytes.len() as u64).to_le_bytes())?;
            file.write_all(&bytes)
        });
        u8::from(written.is_err())
    });
    let child = child.map_err(Failure::CannotFork)?;
    Ok((child, Reader::from_fd(reader).map_err(Failure::Lost)?))
}

async fn finish((mut child, reader): Computing, limits: Limits) -> Result<Vec<u8>, Failure> {
    let printed = child.stderr.take();
    let printed = event_loop::spawn(async move { pass_on(printed, to_stderr).await });
    let max = usize::try_from(limits.memory).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES);
    let ending = async {
        let value = read_to_end(Some(reader), max).await;
        (value, child.wait().await)
    };
    let Ok((value, status)) = time::timeout(limits.wall, ending).await else {
        // What it has printed is still passed on; that task ends once the child is dropped and killed.
        printed.detach();
        return Err(Failure::WallTime(limits.wall));
    };
    let value = value.map_err(Failure::Lost)?;
    let announced = value.get(1..HEADER_BYTES).and_then(|length| length.try_into().ok());
    let announced = announced.map(u64::from_le_bytes);
    if announced == Some((value.len().saturating_sub(HEADER_BYTES)) as u64) {
        let bytes = value[HEADER_BYTES..].to_vec();
        // Its output appears before its value is used.
        printed.await;
        return match value[0] {
            VALUE => Ok(bytes),
            _ => Err(Failure::Panicked(String::from_utf8_lossy(&bytes).into_owned())),
        };
    }
    let out_of_memory = printed.await;
    Err(Failure::of(status, child.usage(), &limits, out_of_memory))
}
