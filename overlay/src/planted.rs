//! Mistakes planted on purpose, so that the simulator can be seen to find them (`.ci/long planted`).
//!
//! A simulator that finds nothing may be blind. So each of these can be switched on in a build with
//! the feature `planted`, one at a time, by its name in `FLOODMESH_PLANTED`; the simulator's laws
//! have to catch every one. In every other build [`is`] is the constant `false`, and what it guards
//! is not there; a daemon cannot be built with the feature at all.

#[cfg(all(feature = "planted", feature = "daemon"))]
compile_error!("a daemon with mistakes planted in it is for nobody");

/// Defines the mistakes and their names.
macro_rules! mistakes {
    ($($variant:ident = $name:literal : $doc:literal,)*) => {
        /// A mistake, and what it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake { $(#[doc = $doc] $variant,)* }

        #[cfg(feature = "planted")]
        impl Mistake {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What `FLOODMESH_PLANTED` calls it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

mistakes! {
    ForgetEarly = "forget-early": "Messages are forgotten within a minute, not after five (S6).",
    TakeRefused = "take-refused": "What the full seen table refuses is forwarded all the same (S6).",
    SkipProof = "skip-proof": "Who says Hello is a neighbor, wherever it says to be (S4).",
    AnswerPong = "answer-pong": "A Pong is answered by a Pong (S7).",
    BelieveGoodbye = "believe-goodbye": "A forged Goodbye ends a link, since no answer to the challenge undoes it (T3).",
    ForwardAlways = "forward-always": "NO_FORWARD and dst 0 are forwarded too (S3).",
    DeliverAll = "deliver-all": "Data for others is delivered here as well (S8).",
    AcceptPlain = "accept-plain": "A sealed node takes plain datagrams (S10).",
    CommitForged = "commit-forged": "The replay window is moved by what does not open (S11).",
    WindowSlip = "window-slip": "The newest datagram of a session opens twice.",
    ReuseCounter = "reuse-counter": "Every 64th counter seals two datagrams (S9).",
    KeepSessions = "keep-sessions": "Sessions open for four times as long as they may (S9).",
    NeverRekey = "never-rekey": "Sessions end without a successor (V1).",
    SealAtFin = "seal-at-fin": "An initiator seals with a session before the far end has it (V1).",
    IgnorePins = "ignore-pins": "Any key may come under a netid (S8).",
    SpeakForOthers = "speak-for-others": "A member introduces itself under any netid (S25).",
    SkipMac = "skip-mac": "INITs are not asked for a mac (S11).",
    CookieRetries = "cookie-retries": "A COOKIE makes an INIT go out at once.",
}

/// Whether this mistake is planted.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Mistake) -> bool {
    false
}

/// Whether this mistake is planted.
///
/// # Panics
/// When the variable names none that there is.
#[cfg(feature = "planted")]
pub(crate) fn is(mistake: Mistake) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<Option<Mistake>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let name = std::env::var("FLOODMESH_PLANTED").ok()?;
        let all = Mistake::ALL.iter();
        let found = all.copied().find(|mistake| mistake.name() == name);
        Some(found.unwrap_or_else(|| panic!("there is no mistake {name}")))
    });
    *planted == Some(mistake)
}
