//! What was measured, as pictures: each as SVG and as PNG.

use std::{
    fs,
    path::{Path as FilePath, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        BitMapBackend, ChartBuilder, Color as _, DashedLineSeries, DrawingArea, DrawingBackend,
        EmptyElement, ErrorBar, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement,
        RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, Text,
    },
    style::{BLACK, IntoFont as _, RED, TextStyle, WHITE},
};

use crate::{
    Carriage,
    font::{self, FONT},
    statistics::{Spread, median, quantile_of_sorted},
};

use super::{About, Path, Results, Way, report::FLOORS, results::Quantity, scenes::Acceleration};

/// Pixels of a picture.
const SIZE: (u32, u32) = (1100, 760);

/// Pixels for the names of bars.
const NAMES: i32 = 160;

/// Parts of all answers that are drawn: the slowest ones would make the others a line.
const DRAWN: f64 = 0.99;

/// What there are bars of.
const BARS: [Quantity; 6] = [
    Quantity::Tcp,
    Quantity::TcpEight,
    Quantity::Udp,
    Quantity::HttpKept,
    Quantity::Http,
    Quantity::LatencyMedian,
];

/// What is bounded by the wire, not by processors.
const BOUNDED: [Quantity; 3] = [Quantity::Tcp, Quantity::TcpEight, Quantity::Udp];

/// What became of drawing, whatever on.
type Drawn = Result<()>;

/// Draws everything into `directory`, and returns where the pictures are.
pub(crate) fn draw(directory: &FilePath, about: &About, results: &Results) -> Result<Vec<PathBuf>> {
    font::register()?;
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let mut paths = Vec::new();
    for picture in [Picture::Bars, Picture::Latency, Picture::Routes] {
        let path = |ending| directory.join(picture.name()).with_extension(ending);
        let (svg, png) = (path("svg"), path("png"));
        picture.draw(
            &SVGBackend::new(&svg, SIZE).into_drawing_area(),
            about,
            results,
        )?;
        picture.draw(
            &BitMapBackend::new(&png, SIZE).into_drawing_area(),
            about,
            results,
        )?;
        paths.extend([svg, png]);
    }
    Ok(paths)
}

#[derive(Clone, Copy)]
enum Picture {
    Bars,
    Latency,
    Routes,
}

impl Picture {
    fn name(self) -> &'static str {
        match self {
            Self::Bars => "modes",
            Self::Latency => "latency",
            Self::Routes => "routes",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Bars => {
                "Pod to pod across nodes, as a part of host to host (1 = as host to host)"
            }
            Self::Latency => "TCP request/response of one byte, pod to pod across nodes",
            Self::Routes => {
                "Nanoseconds a 64-byte packet takes on the sending node, by VXLAN to random routes"
            }
        }
    }

    fn draw<B: DrawingBackend>(
        self,
        area: &DrawingArea<B, Shift>,
        about: &About,
        results: &Results,
    ) -> Drawn {
        self.compose(area, about, results)
            .with_context(|| format!("draw {}", self.name()))
    }

    fn compose<B: DrawingBackend>(
        self,
        area: &DrawingArea<B, Shift>,
        about: &About,
        results: &Results,
    ) -> Drawn {
        area.fill(&WHITE).map_err(owned)?;
        let width = i32::try_from(SIZE.0)?;
        let below = i32::try_from(SIZE.1)? - 34;
        let middle = |y| (width / 2, y);
        let centred = |size| {
            style(size).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Center,
                plotters::style::text_anchor::VPos::Top,
            ))
        };
        area.draw(&Text::new(self.title(), middle(8), centred(18)))
            .map_err(owned)?;
        for (number, line) in (0..).zip([about.machine.as_str(), about.command.as_str()]) {
            let place = middle(below + 16 * number);
            area.draw(&Text::new(line.to_owned(), place, centred(13)))
                .map_err(owned)?;
        }
        let inner = area.clone().shrink((0, 34), (SIZE.0, SIZE.1 - 34 - 40));
        match self {
            Self::Bars => bars(&inner, results)?,
            Self::Latency => latency(&inner, results)?,
            Self::Routes => by_routes(&inner, results)?,
        }
        area.present().map_err(owned)
    }
}

/// A panel for each quantity that was measured, and in it a bar for each way.
fn bars<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn {
    let measured = BARS.into_iter().filter_map(|quantity| {
        let host = median(results.of_hosts(quantity))?;
        let bars = Way::all().filter_map(|way| {
            let values = results.values(way, Path::PodToPod, quantity);
            Some((way, Spread::of(values)?.per(host)))
        });
        Some((quantity, bars.collect::<Vec<_>>()))
    });
    let measured: Vec<_> = measured.collect();
    let panels = area.split_evenly((measured.len().div_ceil(2), 2));
    for ((quantity, bars), panel) in measured.iter().zip(&panels) {
        bars_of(panel, *quantity, bars)?;
    }
    Ok(())
}

fn bars_of<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    quantity: Quantity,
    bars: &[(Way, Spread)],
) -> Drawn {
    let most = bars
        .iter()
        .map(|(_, spread)| spread.high)
        .fold(1.0, f64::max)
        * 1.08;
    let count = f64::from(u32::try_from(bars.len())?);
    let is_bounded = BOUNDED.contains(&quantity);
    let name = quantity.name().0;
    let caption = if is_bounded {
        let bounds = FLOORS.map(|(name, overhead)| format!("{name} {:.4}", 1.0 - overhead));
        format!("{name} (the wire allows {})", bounds.join(", "))
    } else {
        name.to_owned()
    };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(caption, style(15))
        .x_label_area_size(22)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most, 0.0..count)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_style(style(12))
        .light_line_style(WHITE)
        .draw()
        .map_err(owned)?;
    for (number, (way, spread)) in (0..).zip(bars) {
        // The first is uppermost.
        let bottom = count - f64::from(number) - 1.0;
        let (low, high) = (bottom + 0.15, bottom + 0.85);
        let bar = Rectangle::new([(0.0, low), (spread.median, high)], color(*way).filled());
        chart.draw_series([bar]).map_err(owned)?;
        let middle = bottom + 0.5;
        let error = ErrorBar::new_horizontal(
            middle,
            spread.low,
            spread.median,
            spread.high,
            BLACK.stroke_width(1),
            6,
        );
        chart.draw_series([error]).map_err(owned)?;
        let name = EmptyElement::at((0.0, middle))
            + Text::new(way.to_string(), (6 - NAMES, -6), style(13));
        chart.draw_series([name]).map_err(owned)?;
    }
    let unity = vec![(1.0, 0.0), (1.0, count)];
    chart
        .draw_series([PathElement::new(unity, BLACK.mix(0.5))])
        .map_err(owned)?;
    if is_bounded {
        for (_, overhead) in FLOORS {
            let at = 1.0 - overhead;
            let line = [(at, 0.0), (at, count)];
            let dashes = DashedLineSeries::new(line, 4, 3, RED.stroke_width(1));
            chart.draw_series(dashes).map_err(owned)?;
        }
    }
    Ok(())
}

/// Which part of the answers had come in which time.
fn latency<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn {
    const POINTS: u32 = 400;
    let of_hosts = [(Way::Bare, Path::HostToHost)];
    let of_pods = Way::all().map(|way| (way, Path::PodToPod));
    let measured = of_hosts
        .into_iter()
        .chain(of_pods)
        .filter_map(|(way, path)| {
            let times = results.latencies(way, path);
            let points = (0..=POINTS).map(|point| DRAWN * f64::from(point) / f64::from(POINTS));
            let points = points.map(|part| Some((quantile_of_sorted(&times, part)?, part)));
            Some((way, points.collect::<Option<Vec<_>>>()?))
        });
    let lines: Vec<_> = measured.collect();
    let times = || {
        lines
            .iter()
            .flat_map(|(_, points)| points.iter().map(|(time, _)| *time))
    };
    let (least, most) = (
        times().fold(f64::MAX, f64::min),
        times().fold(1.0, f64::max),
    );
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((least.min(most / 2.0)..most).log_scale(), 0.0..1.0)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .x_desc("microseconds")
        .y_desc("part of the answers")
        .x_label_formatter(&|time| format!("{time:.0}"))
        .label_style(style(13))
        .light_line_style(WHITE)
        .draw()
        .map_err(owned)?;
    for (way, points) in lines {
        let color = color(way).stroke_width(width(way));
        chart
            .draw_series(LineSeries::new(points, color))
            .map_err(owned)?
            .label(way.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .label_font(style(13))
        .draw()
        .map_err(owned)
}

/// What routes cost, by their number.
fn by_routes<B: DrawingBackend>(area: &DrawingArea<B, Shift>, results: &Results) -> Drawn {
    let all = &results.by_routes;
    let most_routes = all.iter().map(|cost| cost.routes).max().unwrap_or(0).max(2);
    let most = all
        .iter()
        .flat_map(|cost| &cost.values)
        .copied()
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (0.8..f64::from(most_routes) * 1.25).log_scale(),
            0.0..most * 1.1,
        )
        .map_err(owned)?;
    chart
        .configure_mesh()
        .x_desc("routes")
        .y_desc("ns a packet, beyond the generator")
        .x_label_formatter(&|routes| format!("{routes:.0}"))
        .y_label_formatter(&|time| format!("{time:.0}"))
        .label_style(style(13))
        .light_line_style(WHITE)
        .draw()
        .map_err(owned)?;
    let ways = [
        Way::Kernel(Carriage::Vxlan),
        Way::Underpass(Carriage::Vxlan, Acceleration::All),
    ];
    for way in ways {
        let costs = all.iter().filter(|cost| cost.way == way);
        let points: Vec<_> = costs
            .filter_map(|cost| Some((f64::from(cost.routes), Spread::of(&cost.values)?)))
            .collect();
        let color = color(way).stroke_width(2);
        let line = points
            .iter()
            .map(|(routes, spread)| (*routes, spread.median));
        chart
            .draw_series(LineSeries::new(line, color))
            .map_err(owned)?
            .label(way.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
        let errors = points.iter().map(|(routes, spread)| {
            let Spread { low, median, high } = *spread;
            ErrorBar::new_vertical(*routes, low, median, high, color.filled(), 8)
        });
        chart.draw_series(errors).map_err(owned)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .label_font(style(13))
        .draw()
        .map_err(owned)
}

/// What the kernel does is grey, the floor red, what underpass does has a colour for each encapsulation, lighter
/// where only established flows are accelerated.
fn color(way: Way) -> RGBColor {
    use Acceleration::{All, Established};
    use Carriage::{Direct, Ipip, Vxlan};
    match way {
        Way::Bare => BLACK,
        Way::Kernel(Direct) => RGBColor(120, 120, 120),
        Way::Kernel(Ipip) => RGBColor(160, 160, 160),
        Way::Kernel(Vxlan) => RGBColor(190, 190, 190),
        Way::Floor(Direct) => RGBColor(200, 40, 60),
        Way::Floor(Ipip) => RGBColor(215, 95, 110),
        Way::Floor(Vxlan) => RGBColor(230, 150, 160),
        Way::Underpass(Direct, All) => RGBColor(40, 100, 180),
        Way::Underpass(Direct, Established) => RGBColor(130, 175, 225),
        Way::Underpass(Ipip, All) => RGBColor(30, 130, 80),
        Way::Underpass(Ipip, Established) => RGBColor(120, 195, 150),
        Way::Underpass(Vxlan, All) => RGBColor(190, 95, 20),
        Way::Underpass(Vxlan, Established) => RGBColor(235, 165, 100),
    }
}

/// Pixels of a line: what all are compared with is thicker.
fn width(way: Way) -> u32 {
    match way {
        Way::Bare => 3,
        Way::Kernel(_) | Way::Floor(_) | Way::Underpass(..) => 2,
    }
}

fn style(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&BLACK)
}

/// An error of drawing, which may borrow what was drawn on.
fn owned(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
