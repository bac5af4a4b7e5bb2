//! Pictures within pages: bars for days, and who was in a room when. They have no styles and no scripts of their own.

use chrono::{DateTime, Datelike, Duration, DurationRound, NaiveDate, TimeDelta, Utc, Weekday};
use conferencing_store::entity::{ParticipantRole, UserId};
use maud::{Markup, html};

use crate::view;

/// One bar for each day, the highest as high as the picture.
pub(crate) fn bars(days: &[(NaiveDate, i64)], unit: &str) -> Markup {
    const STEP: usize = 13;
    const HEIGHT: i64 = 70;
    let most = days.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let width = STEP * days.len().max(1);
    let all: i64 = days.iter().map(|(_, value)| value).sum();
    let label = format!(
        "{} {unit} in {} days, at most {} on one day",
        view::number(all),
        days.len(),
        view::number(most)
    );
    html! {
        svg.bars viewBox={ "0 0 " (width) " 92" } role="img" aria-label=(label) {
            line.axis x1="0" x2=(width) y1="70.5" y2="70.5" {}
            @for (number, (day, value)) in days.iter().enumerate() {
                @let height = (HEIGHT - 4) * value / most;
                @let weekend = matches!(day.weekday(), Weekday::Sat | Weekday::Sun);
                rect class=(if weekend { "bar weekend" } else { "bar" }) x=(number * STEP + 1) width=(STEP - 2)
                    y=(HEIGHT - height) height=(height) {
                    title { (day) ": " (view::number(*value)) " " (unit) }
                }
            }
            @if let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) {
                text.tick x="1" y="86" { (first.format("%-d %b")) }
                text.tick x=(width - 1) y="86" text-anchor="end" { (last.format("%-d %b")) }
            }
            text.tick x=(width - 1) y="10" text-anchor="end" { "max. " (view::number(most)) }
        }
    }
}

/// A part of a stay in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) role: ParticipantRole,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
}

/// How a stay ended against somebody's will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOut {
    Kicked,
    Banned,
}

/// Somebody's line in the picture.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) user: UserId,
    pub(crate) name: String,
    pub(crate) segments: Vec<Segment>,
    pub(crate) put_out: Vec<(DateTime<Utc>, PutOut)>,
    pub(crate) changes: Vec<(DateTime<Utc>, String)>,
}

/// Who was in a room when.
pub(crate) struct Timeline {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    /// Those who came first are first.
    pub(crate) lines: Vec<Line>,
    /// From when to when it was recorded, and what became of each.
    pub(crate) recordings: Vec<(DateTime<Utc>, DateTime<Utc>, String)>,
}

const LABELS: i64 = 190;
const PLOT: i64 = 980;
const ROW: i64 = 22;
const TOP: i64 = 26;

impl Timeline {
    fn x(&self, at: DateTime<Utc>) -> i64 {
        let whole = (self.to - self.from).num_milliseconds().max(1);
        let part = (at - self.from).num_milliseconds().clamp(0, whole);
        LABELS + part * PLOT / whole
    }

    /// Where the axis has its lines: six to a dozen of them.
    fn ticks(&self) -> Vec<DateTime<Utc>> {
        let whole = self.to - self.from;
        let steps = [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1_440, 10_080].map(TimeDelta::minutes);
        let step = steps
            .into_iter()
            .find(|step| *step * 12 >= whole)
            .unwrap_or(whole.max(TimeDelta::minutes(1)));
        let mut at = self.from.duration_trunc(step).unwrap_or(self.from);
        let mut ticks = Vec::new();
        while at <= self.to && ticks.len() < 40 {
            if at >= self.from {
                ticks.push(at);
            }
            at += step;
        }
        ticks
    }

    pub(crate) fn draw(&self) -> Markup {
        let band = if self.recordings.is_empty() { 0 } else { ROW };
        let count = i64::try_from(self.lines.len()).unwrap_or(0);
        let bottom = TOP + band + count * ROW;
        let format = if self.to - self.from > Duration::days(1) {
            "%-d %b %H:%M"
        } else {
            "%H:%M"
        };
        let label = format!(
            "Who was in the room, from {} to {}",
            self.from.format("%F %H:%M"),
            self.to.format("%F %H:%M")
        );
        html! {
            svg.timeline viewBox={ "0 0 " (LABELS + PLOT + 10) " " (bottom + 4) } role="img" aria-label=(label) {
                @for tick in self.ticks() {
                    line.grid x1=(self.x(tick)) x2=(self.x(tick)) y1="20" y2=(bottom) {}
                    text.tick x=(self.x(tick)) y="14" text-anchor="middle" { (tick.format(format)) }
                }
                @if band > 0 {
                    text.name x=(LABELS - 8) y=(TOP + 15) text-anchor="end" { "recorded" }
                    @for (from, to, what) in &self.recordings {
                        rect.recording x=(self.x(*from)) width=((self.x(*to) - self.x(*from)).max(2)) y=(TOP + 7) height="8" {
                            title { (what) ", " (from.format("%H:%M:%S")) " to " (to.format("%H:%M:%S")) }
                        }
                    }
                }
                @for (number, line) in (0_i64..).zip(&self.lines) {
                    (self.line(TOP + band + number * ROW, line))
                }
            }
        }
    }

    fn line(&self, y: i64, line: &Line) -> Markup {
        html! {
            line.row x1="0" x2=(LABELS + PLOT) y1=(y) y2=(y) {}
            a href={ "/people/" (line.user) } {
                text.name x=(LABELS - 8) y=(y + 15) text-anchor="end" { (cut(&line.name)) }
            }
            @for segment in &line.segments {
                @let (class, name) = of_role(segment.role);
                rect class={ "stay " (class) } x=(self.x(segment.from)) width=((self.x(segment.to) - self.x(segment.from)).max(2))
                    y=(y + 4) height=(ROW - 8) {
                    title { (line.name) ", " (name) ", " (segment.from.format("%H:%M:%S")) " to " (segment.to.format("%H:%M:%S")) }
                }
            }
            @for (at, what) in &line.changes {
                circle.change cx=(self.x(*at)) cy=(y + ROW / 2) r="3.5" { title { (what) " at " (at.format("%H:%M:%S")) } }
            }
            @for (at, put_out) in &line.put_out {
                @let x = self.x(*at);
                @let middle = y + ROW / 2;
                @match put_out {
                    PutOut::Kicked => path.putout d={ "M" (x - 4) " " (middle - 4) "L" (x + 4) " " (middle + 4) "M" (x - 4) " " (middle + 4) "L" (x + 4) " " (middle - 4) } {
                        title { (line.name) " was kicked at " (at.format("%H:%M:%S")) }
                    },
                    PutOut::Banned => rect.ban x=(x - 4) y=(middle - 5) width="9" height="10" {
                        title { (line.name) " was banned at " (at.format("%H:%M:%S")) }
                    },
                }
            }
        }
    }
}

/// What the colours and signs mean.
pub(crate) fn legend() -> Markup {
    html! {
        p.legend {
            @for (class, name) in [("host", "host"), ("cohost", "co-host"), ("guest", "participant")] {
                svg.sign viewBox="0 0 14 12" aria-hidden="true" { rect class={ "stay " (class) } width="14" height="12" {} } " " (name) " "
            }
            svg.sign viewBox="0 0 14 12" aria-hidden="true" { circle.change cx="7" cy="6" r="3.5" {} } " role changed "
            svg.sign viewBox="0 0 14 12" aria-hidden="true" { path.putout d="M3 2L11 10M3 10L11 2" {} } " kicked "
            svg.sign viewBox="0 0 14 12" aria-hidden="true" { rect.ban x="2" y="1" width="9" height="10" {} } " banned "
            svg.sign viewBox="0 0 14 12" aria-hidden="true" { rect.recording y="2" width="14" height="8" {} } " recorded"
        }
    }
}

fn of_role(role: ParticipantRole) -> (&'static str, &'static str) {
    match role {
        ParticipantRole::Host => ("host", "host"),
        ParticipantRole::CoHost => ("cohost", "co-host"),
        ParticipantRole::Participant => ("guest", "participant"),
    }
}

fn cut(name: &str) -> String {
    match name.chars().count() {
        0..=26 => name.to_owned(),
        _ => name.chars().take(25).chain(['…']).collect(),
    }
}

/// A stay in its roles: it ended as `last`, and these changes were in it, each with the roles before and after, in their order.
pub(crate) fn segments(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    last: ParticipantRole,
    changes: &[(DateTime<Utc>, ParticipantRole, ParticipantRole)],
) -> Vec<Segment> {
    let within: Vec<_> = changes.iter().filter(|(at, ..)| from <= *at && *at <= to).collect();
    let mut role = within.first().map_or(last, |(_, before, _)| *before);
    let mut begin = from;
    let mut segments = Vec::new();
    for (at, _, after) in within {
        segments.push(Segment {
            role,
            from: begin,
            to: *at,
        });
        (role, begin) = (*after, *at);
    }
    segments.push(Segment { role, from: begin, to });
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use ParticipantRole::{CoHost, Host, Participant};

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 - 1_790_000_000 % 3_600 + minute * 60, 0).unwrap()
    }

    #[test]
    fn a_stay_is_cut_where_its_role_changes() {
        let changes = [
            (at(5), Participant, CoHost),
            (at(9), CoHost, Host),
            (at(30), Host, CoHost),
        ];
        let cut: Vec<_> = segments(at(0), at(20), Host, &changes)
            .into_iter()
            .map(|one| (one.role, one.from, one.to))
            .collect();
        assert_eq!(
            cut,
            [
                (Participant, at(0), at(5)),
                (CoHost, at(5), at(9)),
                (Host, at(9), at(20))
            ]
        );
        assert_eq!(segments(at(0), at(4), Participant, &changes).len(), 1);
    }

    #[test]
    fn the_axis_has_a_readable_number_of_lines() {
        for minutes in [1, 7, 45, 61, 300, 2_000, 50_000] {
            let timeline = Timeline {
                from: at(3),
                to: at(3 + minutes),
                lines: Vec::new(),
                recordings: Vec::new(),
            };
            let ticks = timeline.ticks().len();
            assert!((1..=13).contains(&ticks), "{minutes}: {ticks}");
        }
    }

    #[test]
    fn names_are_escaped_and_times_stay_in_the_picture() {
        let line = Line {
            user: "018f0000-0000-7000-8000-000000000001".parse().unwrap(),
            name: "<script>alert(1)</script>".to_owned(),
            segments: segments(at(-600), at(600), Host, &[]),
            put_out: vec![(at(5), PutOut::Kicked), (at(6), PutOut::Banned)],
            changes: vec![(at(7), "\"><b>".to_owned())],
        };
        let timeline = Timeline {
            from: at(0),
            to: at(30),
            lines: vec![line],
            recordings: vec![(at(1), at(2), "<i>".to_owned())],
        };
        let drawn = timeline.draw().into_string();
        for hostile in ["<script", "<b>", "<i>"] {
            assert!(!drawn.contains(hostile), "{drawn}");
        }
        assert!(drawn.contains("x=\"190\" width=\"980\""), "{drawn}");
    }
}
