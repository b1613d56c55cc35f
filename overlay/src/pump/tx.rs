//! What one round has to send: ranges of one arena, and which neighbor to spare.
//!
//! The bytes of a message exist once. Fan-out to the links happens when the batch is flushed, in
//! the transport, from the same arena: no copy per neighbor.

use super::rx::Span;
use crate::node::zone::Zones;

/// Most datagrams handed to the kernel in one call: four full trains, or the same in single
/// datagrams. No round of reading is longer.
pub const MAX_BATCH: usize = 256;

/// One message to flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxItem {
    /// The whole datagram in the arena.
    pub span: Span,
    /// The neighbor it came from (its place in the `NeighborSet`), to whom it is not sent back.
    pub except: Option<u16>,
    /// Links of which zones it goes over.
    pub zones: Zones,
    /// There is one link, and its far end is whom it is for (SEALED.md S82).
    pub alone: bool,
}

/// Messages of one arena that wait to be flooded.
#[derive(Debug, Default)]
pub struct TxBatch {
    items: Vec<TxItem>,
}

impl TxBatch {
    /// An empty batch with room for `items` without allocating.
    pub fn with_capacity(items: usize) -> Self {
        Self {
            items: Vec::with_capacity(items),
        }
    }

    /// Adds a message for all links but those of `except`. Grows only when more are pushed than the
    /// batch was made for.
    pub fn push(&mut self, span: Span, except: Option<u16>) {
        self.push_within(Zones::All, span, except);
    }

    /// The same for links of these zones alone.
    pub fn push_within(&mut self, zones: Zones, span: Span, except: Option<u16>) {
        self.items.push(TxItem {
            span,
            except,
            zones,
            alone: false,
        });
    }

    /// Adds a message for the one link that there is. Otherwise as [`Self::push`].
    pub fn push_alone(&mut self, span: Span) {
        self.items.push(TxItem {
            span,
            except: None,
            zones: Zones::All,
            alone: true,
        });
    }

    /// The messages, in the order pushed.
    pub fn items(&self) -> &[TxItem] {
        &self.items
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets all messages and keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}
