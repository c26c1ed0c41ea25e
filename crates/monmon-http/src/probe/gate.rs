//! How many bytes a server may send: counted below hyper, which takes interim replies and HTTP/2 control frames
//! without end and without a word.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of the beginning of a reply is kept, to tell apart what hyper reports alike.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// What was read, and up to where reading may go.
#[derive(Debug)]
pub(crate) struct Gate {
    read: AtomicU64,
    limit: AtomicU64,
    kept: std::sync::Mutex<Vec<u8>>,
}

impl Gate {
    pub(crate) fn new(limit: u64) -> Arc<Gate> {
        Arc::new(Gate {
            read: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            kept: std::sync::Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Allows so many bytes from here on.
    pub(crate) fn allow(&self, more: u64) {
        self.limit.store(self.read().saturating_add(more), Ordering::Relaxed);
    }

    /// Whether more came than was let through. Asked here, because HTTP/2 keeps only the text of an error.
    pub(crate) fn is_flooded(&self) -> bool {
        self.read() > self.limit.load(Ordering::Relaxed)
    }

    /// The beginning of what came.
    pub(crate) fn kept(&self) -> Vec<u8> {
        self.kept.lock().map(|kept| kept.clone()).unwrap_or_default()
    }

    fn took(&self, bytes: &[u8]) -> bool {
        let read = self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if read < KEPT_BYTES_MAX as u64
            && let Ok(mut kept) = self.kept.lock()
        {
            let room = KEPT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        read + bytes.len() as u64 <= self.limit.load(Ordering::Relaxed)
    }
}

/// More came than the gate lets through.
#[derive(Debug, thiserror::Error)]
#[error("the server sent more bytes than a reply may have")]
pub(crate) struct Flood;

/// A connection behind its gate, which opens with the first byte that we send: a server may answer before it is asked,
/// and hyper takes that for the remains of a reply before.
#[derive(Debug)]
pub(crate) struct Gated<T> {
    inner: T,
    gate: Arc<Gate>,
    asked: bool,
    reader: Option<Waker>,
}

impl<T> Gated<T> {
    pub(crate) fn new(inner: T, gate: Arc<Gate>) -> Gated<T> {
        Gated { inner, gate, asked: false, reader: None }
    }

    fn has_asked(&mut self, written: &Poll<io::Result<usize>>) {
        if !self.asked && matches!(written, Poll::Ready(Ok(bytes)) if *bytes > 0) {
            self.asked = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gated<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        match self.gate.took(&buffer.filled()[before..]) {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(io::Error::other(Flood))),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gated<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.has_asked(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.has_asked(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
