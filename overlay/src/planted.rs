//! Mistakes planted on purpose, so that the simulator can be seen to find them (`.ci/long planted`).
//!
//! A simulator that finds nothing may be blind. So each of these can be switched on in a build with
//! the feature `planted`, one at a time, by its name in `FLOODMESH_PLANTED`; the simulator's laws
//! have to catch every one. In every other build `is` is the constant `false`, and what it guards
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
    ForgetEarly = "forget-early": "Messages are forgotten within a minute, not after five.",
    TakeRefused = "take-refused": "What the full seen table refuses is forwarded all the same.",
    SkipProof = "skip-proof": "Who says Hello is a neighbor, wherever it says to be.",
    AnswerPong = "answer-pong": "A Pong is answered by a Pong.",
    BelieveGoodbye = "believe-goodbye": "A Goodbye ends a link at once, and nobody is challenged.",
    ForwardAlways = "forward-always": "NO_FORWARD and dst 0 are forwarded too.",
    DeliverAll = "deliver-all": "Data for others is delivered here as well.",
    AcceptPlain = "accept-plain": "A sealed node takes plain datagrams.",
    CommitForged = "commit-forged": "The replay window is moved by what does not open.",
    WindowSlip = "window-slip": "The newest datagram of a session opens twice.",
    ReuseCounter = "reuse-counter": "Every 64th counter seals two datagrams.",
    KeepSessions = "keep-sessions": "Sessions open for four times as long as they may.",
    NeverRekey = "never-rekey": "Sessions end without a successor.",
    SealAtFin = "seal-at-fin": "An initiator seals with a session before the far end has it.",
    IgnorePins = "ignore-pins": "Any key may come under a netid.",
    SpeakForOthers = "speak-for-others": "A member introduces itself under any netid.",
    SkipMac = "skip-mac": "INITs are not asked for a mac.",
    MoveUnasked = "move-unasked": "A link moves to wherever its newest datagram came from.",
    CrossZones = "cross-zones": "What is said in one zone goes on in the other, without a bridge.",
    BelieveLatched = "believe-latched": "Plain datagrams are taken in the name of who is known to speak sealed.",
    RetireAtOnce = "retire-at-once": "With a secret end all sessions that were made under it.",
    IgnoreRights = "ignore-rights": "Nobody asks what a certificate lets a node do.",
    ServeAll = "serve-all": "Nobody has a share of a saturated node: who brings most gets most.",
    BelieveSources = "believe-sources": "A node may speak from an address that is another's.",
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
