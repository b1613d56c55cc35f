//! Which data threads there are, and what each does.
//!
//! ```text
//!   1 thread    All                 device <-> sockets
//!   2 threads   Out  In             device --> sockets, sockets --> device and sockets
//!   n threads   Out  Out  ..  In    one queue of the device for each Out
//! ```
//!
//! What this promises: *no node reorders a flow*. The packets of one flow (addresses, protocol and
//! ports, the same for all) leave in the order in which the device gave them, and arrive at the
//! device in the order in which the first copy of each reached this machine.
//!
//! - *Out* may be many. The kernel puts a flow into one queue ([`tuntap`] says how, and of what it
//!   makes an exception: datagrams in fragments), and a queue has one thread.
//! - *In* is one, however many sockets there are. Copies of a flow come over several neighbors,
//!   and the first of each packet now from this one, now from that. One thread takes them as
//!   they come; of two threads that share the neighbors, each would write what it found new in the
//!   order in which they happened to run. `tests/BENCHMARKS.md`, "Threads", has what that does.
//!   Nor would it help a pair: a neighbor's datagrams have one address and port, and what the
//!   kernel joins on receiving (UDP_GRO) cannot be shared by what is in it.

use super::args::DeviceMode;

/// Most data threads. The way in is one of them, so that more would hardly ever have work.
pub const MAX_THREADS: u16 = 16;

/// Which ways of the data path a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Both. On few processors the fastest, and the quickest to answer: what one way brings about is
    /// often done before a second thread would be awake.
    All,
    /// From the device, or one queue of it, into the mesh.
    Out,
    /// From the sockets to the device, and on to other nodes.
    In,
}

impl Duty {
    /// Whether it reads the device.
    pub fn reads_device(self) -> bool {
        self != Self::In
    }

    /// Whether it reads the sockets.
    pub fn reads_sockets(self) -> bool {
        self != Self::Out
    }

    /// The name of its thread.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "data",
            Self::Out => "data-out",
            Self::In => "data-in",
        }
    }
}

/// The duties of `threads` data threads. Without a device there is one way only, and one thread.
pub fn duties(threads: u16, mode: DeviceMode) -> Vec<Duty> {
    if threads <= 1 || mode == DeviceMode::None {
        return vec![Duty::All];
    }
    let mut duties = vec![Duty::Out; usize::from(threads) - 1];
    duties.push(Duty::In);
    duties
}

/// How many of them read the device: the queues that it needs.
pub fn queues(duties: &[Duty]) -> u16 {
    let readers = duties.iter().filter(|duty| duty.reads_device());
    u16::try_from(readers.count()).unwrap_or(MAX_THREADS)
}

/// How many data threads there are where the owner does not say.
///
/// Source: DATAPATH 10: one is the fastest on two processors; a second needs one of its own, beside
/// those of the programs that use the mesh. Not more on larger machines: then the way in, which has
/// one thread, is the narrower one.
pub fn usual_threads(processors: usize) -> u16 {
    if processors >= 4 { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_number_of_threads_one_reads_the_sockets_and_the_device_has_a_reader() {
        for mode in [DeviceMode::Tun, DeviceMode::Tap, DeviceMode::None] {
            for threads in 1..=MAX_THREADS {
                let duties = duties(threads, mode);
                let readers = duties.iter().filter(|duty| duty.reads_sockets());
                assert_eq!(readers.count(), 1, "{duties:?}");
                assert!(queues(&duties) >= 1, "{duties:?}");
            }
        }
    }

    #[test]
    fn all_threads_but_one_read_a_queue_each() {
        use Duty::{All, In, Out};
        for (threads, expected, readers) in [
            (1, vec![All], 1),
            (2, vec![Out, In], 1),
            (3, vec![Out, Out, In], 2),
            (4, vec![Out, Out, Out, In], 3),
        ] {
            let duties = duties(threads, DeviceMode::Tun);
            assert_eq!((queues(&duties), duties), (readers, expected));
        }
        assert_eq!(queues(&duties(MAX_THREADS, DeviceMode::Tap)), 15);
    }

    #[test]
    fn without_a_device_one_thread_does_it_all() {
        assert_eq!(duties(MAX_THREADS, DeviceMode::None), [Duty::All]);
    }

    #[test]
    fn a_second_thread_comes_with_the_fourth_processor_and_a_third_never_unasked() {
        let usual = [1, 2, 3, 4, 8, 64].map(usual_threads);
        assert_eq!(usual, [1, 1, 1, 2, 2, 2]);
    }
}
