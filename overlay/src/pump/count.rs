//! One counter per reason, so that nothing disappears unseen.
//!
//! Every datagram received is counted exactly once: `flooded` (new, whether delivered, forwarded
//! or both), `control` (handed to the control plane without passing the seen table), or one
//! [`DropReason`]. What is lost elsewhere (device, control channel, sending) has a reason too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Defines an enum whose variants carry the name and the meaning that users see.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal : $doc:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $doc] $variant,)* }

        impl $name {
            /// All of them, in the order in which `floodmesh counters` prints them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            const COUNT: usize = Self::ALL.len();

            /// The name in `floodmesh counters` and in logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it counts, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

counted! {
    /// Why something was dropped. One counter each.
    DropReason {
        // From the network, judged by the data plane; the first that applies counts.
        Malformed = "malformed": "datagram too short, too long or of the wrong magic",
        WrongVersion = "wrong_version": "datagram of another protocol version",
        BadSource = "bad_source": "src netid is 0 or ffffffff",
        BadInform = "bad_inform": "Inform shorter than 22 bytes",
        UnderlayInOverlay = "underlay_in_overlay": "datagram of a link that arrived through our own device",
        NotSealed = "not_sealed": "datagram of the plain protocol at a sealed node",
        PlainFromSealed = "plain_from_sealed": "plain datagram in the name, or from the address, of a node that is known to speak sealed (mode prefer)",
        UnknownSession = "unknown_session": "sealed datagram or payload of a session that we do not have, or no longer",
        Replayed = "replayed": "sealed datagram or payload that had come before, or is too old to tell",
        Forged = "forged": "sealed datagram or payload that is not authentic",
        UnfairShare = "unfair_share": "datagram above its neighbor's or its source's fair share while more comes than can be handled",
        FramesFull = "frames_full": "message in a sealed datagram that held too many",
        Handshake = "handshake": "handshake refused: form, mac, rate, room, or an unknown partner",
        NotAdmitted = "not_admitted": "handshake of a member that pins, the list of trusted keys or its certificate keep out",
        GuestRate = "guest_rate": "message of a plain neighbor that the bridge did not let in to sealed ones: above limits.guest_per_second",
        NoRight = "no_right": "message for which its sender's certificate gives it no right",
        RateClass = "rate_class": "message of a neighbor's own above the rate class of its certificate",
        ClearData = "clear_data": "Data in clear that had to be sealed end to end",
        Unsigned = "unsigned": "sealed broadcast without the signature that is asked for, or of an origin whose key is not known yet",
        BroadcastRate = "broadcast_rate": "signed broadcast above 200/s of its origin or 2,000/s in all",
        EndWaiting = "end_waiting": "packet that waited for an end-to-end session: too many did, or none came up",
        NoSession = "no_session": "copy for a link that has no session to seal it with",
        Stranger = "stranger": "message from an endpoint that is not a live link",
        OwnEcho = "own_echo": "our own message came back",
        NetidConflict = "netid_conflict": "message with our netid as src that we did not send",
        NotForUs = "not_for_us": "NO_FORWARD message for another node",
        Duplicate = "duplicate": "message that had come before",
        DuplicatePong = "duplicate_pong": "further copy of a Pong for us; counted towards ping's last hops",
        SeenFull = "seen_full": "refused: the neighbor fills the seen table beyond its memory bound",
        // From the network, judged on delivery.
        UnknownService = "unknown_service": "Data whose first byte names no service we have",
        BadPacket = "bad_packet": "delivered packet or frame that is not well-formed, or packet for one address that was sent to all nodes",
        WrongMode = "wrong_mode": "packet from a TUN node at our TAP device, or frame from a TAP node at our TUN device",
        SourceClaimed = "source_claimed": "packet whose source address another node has claimed",
        SourcePrefix = "source_prefix": "packet whose source address lies outside the prefixes of a node's certificate, another's or our own",
        TooBigForDevice = "too_big_for_device": "packet larger than the device's MTU",
        StormControl = "storm_control": "broadcast, multicast or unknown unicast above its rate",
        MacHeld = "mac_held": "frame of a MAC that moves between nodes too often",
        NoDevice = "no_device": "packet for the device while there is none",
        DeviceDown = "device_down": "packet for the device while it is down",
        DeviceError = "device_error": "packet that the device refused",
        // From the device.
        BadDevicePacket = "bad_device_packet": "packet from the device that is not well-formed",
        NoRoute = "no_route": "packet from the device to an address that no node has claimed",
        HoldFull = "hold_full": "packet that waited for a claim while 16 others waited",
        HoldExpired = "hold_expired": "packet that waited 1 s for a claim in vain",
        SourceNotOurs = "source_not_ours": "packet from the device with a source address of another node",
        OwnDestination = "own_destination": "packet or frame from the device to an address on our own side",
        OverlayLoop = "overlay_loop": "packet from the device that is our own link traffic",
        BridgeLoop = "bridge_loop": "frame in a loop through bridges, or a loop-detect beacon",
        PacketTooBig = "packet_too_big": "packet or frame from the device above the MTU; a packet's sender was told",
        ReadTruncated = "read_truncated": "packet or frame cut on reading from the device, since it exceeds the MTU",
        NoNeighbor = "no_neighbor": "message originated while there was no live neighbor",
        // On the way to control.
        ControlFull = "control_full": "control datagram while the control plane was behind",
        StrangerFull = "stranger_full": "stranger's control datagram while too many others waited",
        ServiceFull = "service_full": "service payload above its neighbor's ration, or while its inbox was full",
        // In control.
        HelloBudget = "hello_budget": "Hello above 1,000/s in all or 5/s per endpoint",
        CandidatesFull = "candidates_full": "Hello of a new endpoint while too many await proof",
        PrefixBudget = "prefix_budget": "candidate above its address prefix's share",
        NeighborsFull = "neighbors_full": "stranger refused: enough neighbors",
        ChallengeBudget = "challenge_budget": "challenge put off: 500/s in all or 1/s per endpoint",
        Amplification = "amplification": "answer withheld: 3 times the bytes received from there are sent",
        UnknownPong = "unknown_pong": "Pong that answers nothing we asked",
        PingRationed = "ping_rationed": "Ping above its ration, not answered",
        SpoofedControl = "spoofed_control": "Hello, Goodbye or Inform whose src is not its sender",
        StrangersWord = "strangers_word": "Goodbye or Inform from an endpoint that is not a live link",
        InformRefused = "inform_refused": "Inform that names an address we never probe",
        InformBudget = "inform_budget": "Inform above the budget of its teller or of its address",
        InformUnneeded = "inform_unneeded": "Inform of a node or address that needs no probing",
        BadDirectory = "bad_directory": "directory payload that is not well-formed",
        ClaimRefused = "claim_refused": "claim of a prefix that is ours, reserved, or held by another node",
        DirectoryFull = "directory_full": "claim beyond the table's bound",
        // On sending.
        TxNoBuffer = "tx_no_buffer": "datagram dropped: ENOBUFS or a full socket buffer",
        TxUnreachable = "tx_unreachable": "datagram dropped: no route to the far end, or it was refused",
        TxTooBig = "tx_too_big": "datagram dropped: larger than the path takes even in fragments",
        TxError = "tx_error": "datagram dropped: other error on sending",
        RxError = "rx_error": "receive call that failed",
        RxTruncated = "rx_truncated": "datagram larger than any we accept",
    }
}

counted! {
    /// What went well, and totals.
    Total {
        Received = "received": "datagrams received",
        Flooded = "flooded": "datagrams that were new: delivered, forwarded or both",
        Control = "control": "datagrams of strangers and dialed endpoints handed to control",
        Forwarded = "forwarded": "messages forwarded, once however many links carried them",
        Delivered = "delivered": "packets written to the device",
        Originated = "originated": "packets read from the device and sent",
        Sent = "sent": "datagrams sent, each copy",
        Fragmented = "fragmented": "datagrams above a path's MTU, sent in fragments",
        SocketDrops = "socket_drops": "datagrams the kernel dropped before we read them",
        Unreachables = "unreachables": "ICMP answers written to the device",
        SeenShortened = "seen_shortened": "digests forgotten before 5 minutes for want of memory",
    }
}

/// All counters of one node.
///
/// Calls: from any thread; relaxed.
#[derive(Debug)]
pub struct Counters {
    drops: [AtomicU64; DropReason::COUNT],
    totals: [AtomicU64; Total::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            drops: [const { AtomicU64::new(0) }; DropReason::COUNT],
            totals: [const { AtomicU64::new(0) }; Total::COUNT],
        }
    }
}

impl Counters {
    /// Counts one drop.
    pub fn count(&self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts `n` drops.
    pub fn count_many(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].fetch_add(n, Relaxed);
    }

    /// Adds `n` to a total.
    pub fn add(&self, total: Total, n: u64) {
        self.totals[total as usize].fetch_add(n, Relaxed);
    }

    /// How many were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// The total so far.
    pub fn total(&self, total: Total) -> u64 {
        self.totals[total as usize].load(Relaxed)
    }
}
