//! Numbers of several rounds, and their tables.

/// One number a round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, number: f64) {
        self.0.push(number);
    }

    /// Round by round, this through that: what slowed both down is not in it.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// The median, and from where to where.
    pub fn shown(&self, decimals: usize) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!(
            "**{:.decimals$}** ({least:.decimals$}–{most:.decimals$})",
            self.median()
        )
    }
}

/// Prints one row of a table.
pub fn row(cells: &[&str]) {
    println!("| {} |", cells.join(" | "));
}

/// Prints what a table begins with.
pub fn header(cells: &[&str]) {
    println!();
    row(cells);
    row(&vec!["---"; cells.len()]);
}
