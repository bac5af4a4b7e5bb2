//! What is missing from a list, and what is too much in it.

/// A line of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a, E, H> {
    Both(&'a E, &'a H),
    Missing(&'a E),
    Unexpected(&'a H),
}

impl<E, H> Line<'_, E, H> {
    pub(crate) fn is_both(&self) -> bool {
        matches!(self, Self::Both(..))
    }
}

/// Pairs as many as can be. In order, by the longest common subsequence; else by whoever fits first, after the most particular have chosen: one that
/// fits more waits for those that fit less.
pub(crate) fn diff<'a, E, H>(
    expected: &'a [E],
    happened: &'a [H],
    in_order: bool,
    fits: impl Fn(&E, &H) -> bool,
) -> Vec<Line<'a, E, H>> {
    if in_order {
        aligned(expected, happened, fits)
    } else {
        matched(expected, happened, fits)
    }
}

fn aligned<'a, E, H>(expected: &'a [E], happened: &'a [H], fits: impl Fn(&E, &H) -> bool) -> Vec<Line<'a, E, H>> {
    let (rows, columns) = (expected.len(), happened.len());
    // The longest pairing of what is left from there on.
    let mut longest = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            longest[row][column] = if fits(&expected[row], &happened[column]) {
                longest[row + 1][column + 1] + 1
            } else {
                longest[row + 1][column].max(longest[row][column + 1])
            };
        }
    }
    let mut lines = Vec::new();
    let (mut row, mut column) = (0, 0);
    while row < rows || column < columns {
        if row < rows && column < columns && fits(&expected[row], &happened[column]) {
            lines.push(Line::Both(&expected[row], &happened[column]));
            (row, column) = (row + 1, column + 1);
        } else if row < rows && (column == columns || longest[row + 1][column] >= longest[row][column + 1]) {
            lines.push(Line::Missing(&expected[row]));
            row += 1;
        } else {
            lines.push(Line::Unexpected(&happened[column]));
            column += 1;
        }
    }
    lines
}

/// A greatest matching, by augmenting paths.
fn matched<'a, E, H>(expected: &'a [E], happened: &'a [H], fits: impl Fn(&E, &H) -> bool) -> Vec<Line<'a, E, H>> {
    let mut partner_of: Vec<Option<usize>> = vec![None; happened.len()];
    for index in 0..expected.len() {
        let mut seen = vec![false; happened.len()];
        place(index, expected, happened, &fits, &mut partner_of, &mut seen);
    }
    let mut lines = Vec::new();
    for (index, one) in happened.iter().enumerate() {
        lines.push(match partner_of[index] {
            Some(partner) => Line::Both(&expected[partner], one),
            None => Line::Unexpected(one),
        });
    }
    let missing = (0..expected.len()).filter(|index| !partner_of.contains(&Some(*index)));
    lines.extend(missing.map(|index| Line::Missing(&expected[index])));
    lines
}

/// Finds a partner for one, if need be by finding another for who has it.
fn place<E, H>(
    index: usize,
    expected: &[E],
    happened: &[H],
    fits: &impl Fn(&E, &H) -> bool,
    partner_of: &mut Vec<Option<usize>>,
    seen: &mut Vec<bool>,
) -> bool {
    for candidate in 0..happened.len() {
        if seen[candidate] || !fits(&expected[index], &happened[candidate]) {
            continue;
        }
        seen[candidate] = true;
        let is_free = match partner_of[candidate] {
            None => true,
            Some(other) => place(other, expected, happened, fits, partner_of, seen),
        };
        if is_free {
            partner_of[candidate] = Some(index);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::Line::{Both, Missing, Unexpected};
    use super::*;

    /// `?` fits all.
    fn fits(expected: &char, happened: &char) -> bool {
        *expected == '?' || expected == happened
    }

    #[test]
    fn in_order_as_much_as_possible_is_paired() {
        let (expected, happened): (Vec<char>, Vec<char>) = ("abcd".chars().collect(), "xacdy".chars().collect());
        let lines = diff(&expected, &happened, true, fits);
        let wanted = [
            Unexpected(&'x'),
            Both(&'a', &'a'),
            Missing(&'b'),
            Both(&'c', &'c'),
            Both(&'d', &'d'),
            Unexpected(&'y'),
        ];
        assert_eq!(lines, wanted);
        let swapped = diff(&['a', 'b'], &['b', 'a'], true, fits)
            .iter()
            .filter(|line| line.is_both())
            .count();
        assert_eq!(swapped, 1);
    }

    #[test]
    fn in_any_order_the_particular_ones_get_theirs() {
        for expected in [['?', 'a'], ['a', '?']] {
            assert!(diff(&expected, &['a', 'b'], false, fits).iter().all(Line::is_both));
        }
        let lines = diff(&['a', 'a', 'c'], &['a', 'b'], false, fits);
        assert_eq!(
            lines,
            [Both(&'a', &'a'), Unexpected(&'b'), Missing(&'a'), Missing(&'c')]
        );
    }
}
