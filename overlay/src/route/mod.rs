//! What netids own which addresses, pure.
