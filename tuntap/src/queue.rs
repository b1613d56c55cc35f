//! Where a device reads and writes: the kernel's queues, or their twin in memory.
//!
//! A device may have several queues, one for each thread that reads. The kernel puts packets of the
//! same addresses and ports into the same queue, so that no flow is reordered between threads
//! (a datagram in fragments counts by its addresses alone).
//!
//! ```text
//!   kernel --flow a, c--> queue 0 --> read by the first handle
//!          --flow b-----> queue 1 --> read by the second
//!          <------------- one more queue, detached <-- written by all
//! ```
//!
//! Why nobody writes to the queues that are read: the kernel moves a flow to the queue that its
//! answers were written to. One thread that writes everything would draw all flows into one queue.
//! A detached queue gets no packets, and what is written to it moves nothing.
//!
//! Sources: `tun_automq_select_queue`, `tun_flow_update` and `tun_get_user` of the kernel.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::device::Mode;
use crate::linux::{self, Flavor};

/// Where packets are read and written as the kernel has them.
pub(crate) trait Raw: fmt::Debug + Send + 'static {
    /// Reads one packet; never waits.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes one packet, whose bytes lie in `slices`.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()>;
    /// What to poll for readability.
    fn readiness(&self) -> BorrowedFd<'_>;
    /// A second handle on the same.
    fn share(&self) -> io::Result<Self>
    where
        Self: Sized;
}

/// A handle on one of the kernel's queues.
#[derive(Debug)]
pub(crate) struct Queue {
    reads: File,
    /// The detached queue, where there are several; else the one that is read.
    writes: Option<File>,
}

impl Queue {
    /// Creates the interface `name`, which the caller has checked, and `count` queues of it; returns
    /// them with its name.
    ///
    /// State: with several queues the interface is always new. With one it may have been there, left
    ///        by somebody for us.
    ///
    /// # Errors
    /// What the kernel says: `EBUSY` when the interface is in use, or several queues are wanted and
    /// it exists; `EINVAL` when it is of another kind or has several queues.
    pub(crate) fn create(
        name: &str,
        mode: Mode,
        virtio: bool,
        count: u16,
    ) -> io::Result<(Vec<Self>, String)> {
        let several = count > 1;
        let flavor = |is_first| Flavor {
            mode,
            virtio,
            several,
            // Else a second daemon would be given further queues of the first one's device.
            exclusive: several && is_first,
        };
        let (first, name) = linux::open_queue(name, flavor(true))?;
        if !several {
            let writes = None;
            return Ok((
                vec![Self {
                    reads: first,
                    writes,
                }],
                name,
            ));
        }
        let another = || linux::open_queue(&name, flavor(false)).map(|(file, _)| file);
        let mut readers = vec![first];
        for _ in 1..count {
            readers.push(another()?);
        }
        let writes = another()?;
        linux::detach_queue(writes.as_fd())?;
        let queue = |reads| {
            let writes = Some(writes.try_clone()?);
            Ok(Self { reads, writes })
        };
        let queues = readers.into_iter().map(queue).collect::<io::Result<_>>()?;
        Ok((queues, name))
    }
}

impl Raw for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.read(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let writes = self.writes.as_mut().unwrap_or(&mut self.reads);
        writes.write_vectored(slices).map(drop)
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.reads.as_fd()
    }

    fn share(&self) -> io::Result<Self> {
        Ok(Self {
            reads: self.reads.try_clone()?,
            writes: self.writes.as_ref().map(File::try_clone).transpose()?,
        })
    }
}
