//! A drawing of lines over a logarithmic axis, as SVG.

use std::fmt::Write as _;

/// One set of axes.
pub struct Panel {
    pub title: String,
    pub across: String,
    pub lines: Vec<Line>,
}

/// Points are (how many rows, milliseconds).
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 40.0;
const LEGEND: f64 = 16.0;
/// Told apart by everybody, and on paper by their dashes.
const STYLES: [(&str, &str); 4] = [
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#8a5a9e", "8 3 2 3"),
];

pub fn svg(panels: &[Panel]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let (count, legend) = (
        panels.len() as f64,
        panels.iter().map(|panel| panel.lines.len()).max().unwrap_or(0) as f64,
    );
    let (width, height) = (WIDTH * count, HEIGHT + LEGEND * legend + 6.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut left = 0.0;
    for panel in panels {
        let _ = writeln!(svg, "<g transform=\"translate({left} 0)\">");
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
        left += WIDTH;
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = points().map(|point| point.1).fold(0.0, f64::max);
        let step = step(most);
        let top = (most / step).ceil() * step;
        let (least, most) = points().fold((f64::INFINITY, 0.0_f64), |(least, most), point| {
            (least.min(point.0.log10()), most.max(point.0.log10()))
        });
        let x =
            |rows: f64| LEFT + 8.0 + (rows.log10() - least) / (most - least).max(0.1) * (WIDTH - LEFT - RIGHT - 16.0);
        let y = |millis: f64| TOP + (1.0 - millis / top) * (HEIGHT - TOP - BOTTOM);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}</text>",
            self.title
        );
        let mut tick = 0.0;
        while tick <= top + step / 2.0 {
            let (at, end) = (y(tick), WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                at + 4.0,
                short(tick),
            );
            tick += step;
        }
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" fill=\"#555\">ms</text>", TOP - 6.0);
        let mut marks: Vec<f64> = points().map(|point| point.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for mark in marks {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(mark),
                HEIGHT - BOTTOM + 16.0,
                rows(mark),
            );
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        let below = HEIGHT - BOTTOM + 32.0;
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
            self.across
        );
        let mut legend = HEIGHT + 8.0;
        for (line, (colour, dashes)) in self.lines.iter().zip(STYLES) {
            let stroke = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(rows, millis)| format!("{:.1},{:.1}", x(*rows), y(*millis)))
                .collect();
            let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {stroke}/>", path.join(" "));
            for (rows, millis) in &line.points {
                let (x, y) = (x(*rows), y(*millis));
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
            }
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {}h26\" {stroke}/><text x=\"{}\" y=\"{legend}\">{}</text>",
                legend - 4.0,
                LEFT + 32.0,
                line.name,
            );
            legend += LEGEND;
        }
    }
}

/// Between the lines of the grid, of which there are three to seven.
fn step(most: f64) -> f64 {
    let power = 10.0_f64.powf((most / 3.0).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| most / step >= 3.0)
        .unwrap_or(power)
}

fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn rows(number: f64) -> String {
    if number >= 1e6 {
        format!("{} M", short(number / 1e6))
    } else if number >= 1e3 {
        format!("{} k", short(number / 1e3))
    } else {
        short(number)
    }
}
