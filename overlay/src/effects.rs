//! What a pure machine wants done. Each machine has its own kind of effect; the queue is one.

/// A queue of effects. Owned by the driver, lent to every call, drained after it; reused, never
/// freed.
#[derive(Debug)]
pub struct Effects<E> {
    queue: Vec<E>,
}

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self { queue: Vec::new() }
    }
}

impl<E> Effects<E> {
    /// Adds one.
    pub fn push(&mut self, effect: E) {
        self.queue.push(effect);
    }

    /// Takes all, in order; the memory stays.
    pub fn drain(&mut self) -> impl Iterator<Item = E> + '_ {
        self.queue.drain(..)
    }

    /// What waits.
    pub fn as_slice(&self) -> &[E] {
        &self.queue
    }

    /// Forgets those that are not to stay.
    pub fn retain(&mut self, stays: impl FnMut(&E) -> bool) {
        self.queue.retain(stays);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.queue.clear();
    }
}
