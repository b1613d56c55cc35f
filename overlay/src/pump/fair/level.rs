//! Max-min fairness: the level up to which everybody's wish can be granted.

/// The share of each: who wants less than that gets all it wants, and who wants more gets the share,
/// so that `capacity` is used up. Infinite if there is enough for all.
///
/// State:  sorts `wants`.
/// Cost:   no allocation.
/// Source: Bertsekas, Gallager, "Data Networks", 6.5.2 (max-min flow control).
pub fn level(wants: &mut [f64], capacity: f64) -> f64 {
    wants.sort_unstable_by(f64::total_cmp);
    let mut rest = capacity;
    let mut left = wants.len() as f64;
    for want in wants.iter() {
        if want * left > rest {
            return (rest / left).max(0.0);
        }
        rest -= want;
        left -= 1.0;
    }
    f64::INFINITY
}
