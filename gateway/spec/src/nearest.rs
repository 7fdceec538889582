//! "Did you mean": the known word nearest to a written one.

/// The nearest of `known`, when it is near enough to be meant: a third of its letters may differ, two at least, or all but
/// the ending (`retries` for `retry`). Letters that changed places count once, case counts not at all.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.to_lowercase().chars().take(LENGTH_MAX).collect();
    let distances = known.into_iter().filter_map(|word| {
        let characters: Vec<char> = word.to_lowercase().chars().take(LENGTH_MAX).collect();
        let distance = distance(&written, &characters);
        let near = distance <= (characters.len() / 3).max(2) && distance < characters.len();
        (near || differ_in_ending(&written, &characters)).then_some((distance, word))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Whether both begin alike for most of the shorter one.
fn differ_in_ending(a: &[char], b: &[char]) -> bool {
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    alike >= ALIKE_MIN && alike * 3 >= a.len().min(b.len()) * 2 && a.len().abs_diff(b.len()) <= ALIKE_MIN
}

/// Fewer letters in common say nothing, and longer endings are other words.
const ALIKE_MIN: usize = 4;

/// `, did you mean `x`?` or nothing.
pub(crate) fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known)
        .map(|word| format!(", did you mean `{word}`?"))
        .unwrap_or_default()
}

/// Longer than any word we know; what is cut off could not have been near. Keeps the square of the work small.
const LENGTH_MAX: usize = 64;

/// Optimal string alignment: insertions, deletions, substitutions, neighbours swapped.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(x != y);
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        const KNOWN: [&str; 5] = ["subscriber", "channel", "reply", "delivery", "filters"];
        for (written, meant) in [
            ("subcriber", Some("subscriber")),
            ("Channel", Some("channel")),
            ("relpy", Some("reply")),
            ("delivry", Some("delivery")),
            ("deliveries", Some("delivery")),
            ("filter", Some("filters")),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, KNOWN), meant, "{written}");
        }
        assert_eq!(
            nearest("ab", ["xy"]),
            None,
            "nothing in common is not near, however short"
        );
    }
}
