//! Appends lines to the ledger, many lines with one write to disk.
//!
//! A thread takes all lines that have arrived while it waited for the disk, writes them in one piece and waits for the
//! disk again. The busier the gateway, the larger the group. A request that needs its line on the disk waits for the
//! line's number.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::{Line, read_from};

/// The maximum number of bytes in one write.
const GROUP_BYTES: usize = 1 << 20;

/// The only writer of a ledger file.
pub(in crate::sandbox) struct Writer {
    lines: mpsc::Sender<(u64, Vec<u8>)>,
    thread: JoinHandle<()>,
    last: u64,
}

/// The number of the last line on the disk. The channel closes when the ledger can no longer be written.
#[derive(Clone)]
pub(in crate::sandbox) struct Durable(watch::Receiver<u64>);

/// The ledger cannot be written, so no further line is accepted.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the ledger cannot be written")]
pub(in crate::sandbox) struct Closed;

impl Writer {
    /// Opens the ledger and returns its lines. Creates it if it is missing. Cuts off an incomplete last line, which a crash
    /// may leave. Fails while another process writes the ledger.
    pub(in crate::sandbox) fn open(path: &Path) -> io::Result<(Self, Durable, Vec<Line>)> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::WouldBlock, "another process writes this ledger")
        })?;
        let (lines, whole) = read_from(&file)?;
        if file.metadata()?.len() > whole {
            tracing::warn!(
                lines = lines.len(),
                "the ledger's last line was incomplete and was removed"
            );
            file.set_len(whole)?;
        }
        file.sync_all()?;
        let last = lines.len() as u64;
        let (told, durable) = watch::channel(last);
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("ledger".into()).spawn(move || {
            if let Err(error) = write_all(&mut file, &receiver, &told) {
                tracing::error!(%error, "the ledger cannot be written");
            }
        })?;
        Ok((Self { lines: sender, thread, last }, Durable(durable), lines))
    }

    /// Queues a line and returns its number, counted from 1. The line is not on the disk yet.
    pub(in crate::sandbox) fn append(&mut self, line: &Line) -> Result<u64, Closed> {
        let mut text = serde_json::to_vec(line).map_err(|_| Closed)?;
        text.push(b'\n');
        self.lines.send((self.last + 1, text)).map_err(|_| Closed)?;
        self.last += 1;
        Ok(self.last)
    }

    /// Ends the thread after its last line and releases the file. Blocks.
    pub(in crate::sandbox) fn close(self) {
        drop(self.lines);
        // A panic of the thread has already been reported.
        let _ = self.thread.join();
    }
}

impl Durable {
    /// Returns once line `number` is on the disk.
    pub(in crate::sandbox) async fn wait(&self, number: u64) -> Result<(), Closed> {
        let mut durable = self.0.clone();
        durable.wait_for(|safe| *safe >= number).await.map(|_| ()).map_err(|_| Closed)
    }
}

fn write_all(
    file: &mut File,
    lines: &mpsc::Receiver<(u64, Vec<u8>)>,
    told: &watch::Sender<u64>,
) -> io::Result<()> {
    let mut group = Vec::new();
    while let Ok((mut last, line)) = lines.recv() {
        group.clear();
        group.extend_from_slice(&line);
        while group.len() < GROUP_BYTES {
            let Ok((number, line)) = lines.try_recv() else { break };
            group.extend_from_slice(&line);
            last = number;
        }
        file.write_all(&group)?;
        file.sync_data()?;
        told.send_replace(last);
    }
    Ok(())
}
