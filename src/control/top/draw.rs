//! Draws the screen of `shardgate top`. Pure: the choices and facts in, cells out. 80 columns and 24 lines are enough.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as Cells, Sparkline, Table, TableState};

use crate::control::top::sample::{GRAPH, Row, SPANS, STEPS, What};
use crate::control::top::screen::{Mode, Screen, Sort};

/// The table: heading, width (0: what is left), and what it is sorted by.
const COLUMNS: [(&str, u16, Option<Sort>); 10] = [
    ("NAME", 0, None),
    ("STATUS", 8, None),
    ("SESS", 6, Some(Sort::Sessions)),
    ("QUEUE", 6, Some(Sort::Queue)),
    ("RATE/s", 7, Some(Sort::Rate)),
    ("ERR/s", 6, Some(Sort::Errors)),
    ("P50", 6, Some(Sort::P50)),
    ("P99", 6, Some(Sort::P99)),
    ("OUT/s", 6, Some(Sort::Out)),
    ("W", 3, None),
];

/// The least width of the name.
const NAME_MIN: u16 = 16;

const HELP: &str = " Up Down PgUp PgDn Home End   select a row
 s S        sort by the next or the previous column
 /          filter by a part of name or status; Esc forgets it
 f b v      only frontends, backends, servers; again: all
 !          only what is not as it should be
 d e m      drain, enable (ready), maintenance of the server
 w          weight of the server: 10, or 50% of the configured
 x          end all sessions of the server
 t          time of the graph: 1 min, 10 min, 2 h, 24 h
 Esc        show everything again        q   leave

 Each change asks before it is made. Latencies are those of
 the last minute, rates those of the last second.";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let tall = frame.area().height >= 16;
    let parts = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(if tall { 3 } else { 0 }),
        Constraint::Length(1),
    ];
    let [head, cores, table, detail, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(title(screen, head.width), head);
    frame.render_widget(loads(screen, cores.width), cores);
    let rows = screen.rows();
    let selected = screen.position(&rows);
    list(frame, table, screen, &rows, selected);
    if tall && let Some(row) = rows.get(selected) {
        details(frame, detail, screen, row);
    }
    frame.render_widget(bottom(screen), foot);
    if screen.mode == Mode::Help {
        let area = frame.area();
        let (width, height) = (64.min(area.width), 15.min(area.height));
        let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
        frame.render_widget(Clear, at);
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), at);
    }
}

/// Where there is no room for all of it, the time since the start is left out.
fn title(screen: &Screen, width: u16) -> Line<'_> {
    let facts = &screen.facts;
    let uptime = format!("  up {}", facts.uptime);
    let numbers = format!(
        "  conn {} ({}/s)  {} req/s  out {}B/s",
        facts.connections,
        number(facts.connection_rate),
        number(facts.request_rate),
        bytes(facts.bytes_out)
    );
    let all =
        [facts.title.as_str(), &uptime, &numbers].iter().map(|text| text.chars().count()).sum::<usize>();
    let uptime = if all <= usize::from(width) { uptime } else { String::new() };
    Line::from(vec![Span::from(facts.title.as_str()).bold(), Span::from(uptime), Span::from(numbers)])
}

/// One bar for each core as far as they fit, and the busiest of all.
fn loads(screen: &Screen, width: u16) -> Line<'static> {
    let Some((control, data)) = screen.facts.cores.split_last() else { return Line::default() };
    let mut text = String::from("cores ");
    let most = data.iter().copied().max().unwrap_or(0);
    let tail = format!("  busiest {most} %  control {control} %");
    let room = usize::from(width).saturating_sub(text.len() + tail.len());
    if data.len() * 7 <= room {
        for (core, load) in data.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{core}:{}{load:>3}% ", bar(*load));
        }
    } else {
        text.extend(data.iter().take(room).map(|load| bar(*load)));
    }
    let line = Line::from(vec![Span::from(text), Span::from(tail)]);
    if most >= 90 { line.yellow() } else { line }
}

fn bar(percent: u64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[usize::try_from((percent * 7).div_ceil(100)).unwrap_or(7).min(7)]
}

fn list(frame: &mut Frame<'_>, area: Rect, screen: &Screen, rows: &[&Row], selected: usize) {
    let heading = COLUMNS.map(|(name, _, sort)| {
        let is_it = sort.is_some_and(|sort| sort == screen.sort);
        let text = if is_it { format!("{name}▼") } else { name.to_owned() };
        let line = if name == "NAME" || name == "STATUS" {
            Line::from(text)
        } else {
            Line::from(text).right_aligned()
        };
        Cell::from(if is_it { line.bold().underlined() } else { line.bold() })
    });
    let height = usize::from(area.height.saturating_sub(1));
    // Only what is seen becomes cells: thousands of servers cost nothing.
    let top = selected.saturating_sub(height.saturating_sub(1));
    let others: u16 = COLUMNS.iter().map(|(_, width, _)| width + u16::from(*width > 0)).sum();
    let room = usize::from(area.width.saturating_sub(others).max(NAME_MIN));
    let shown = rows.iter().skip(top).take(height).map(|row| line(row, screen.sort == Sort::Order, room));
    let widths = COLUMNS.map(|(_, width, _)| match width {
        0 => Constraint::Min(NAME_MIN),
        width => Constraint::Length(width),
    });
    let table = Table::new(shown, widths)
        .header(Cells::new(heading))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((!rows.is_empty()).then_some(selected - top));
    frame.render_stateful_widget(table, area, &mut state);
}

/// A row with a name in so many columns.
fn line(row: &Row, in_order: bool, room: usize) -> Cells<'static> {
    let name = match row.what {
        // Its status tells a frontend from a backend too.
        What::Frontend if row.name.chars().count() + FRONTEND.len() <= room => {
            format!("{}{FRONTEND}", row.name)
        }
        What::Server if in_order => {
            format!("  {}", fit(row.name.split_once('/').map_or("", |(_, s)| s), room.saturating_sub(2)))
        }
        What::Frontend | What::Backend | What::Server => fit(&row.name, room),
    };
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let alarm = |n: u64, style: Style| {
        let text = if n == 0 { "-".to_owned() } else { number(n) };
        Cell::from(Line::from(text).right_aligned()).style(if n == 0 { Style::new() } else { style })
    };
    let time = |us: Option<u64>| right(us.map_or_else(|| "-".to_owned(), micros));
    let total = row.steps[3];
    let cells = [
        Cell::from(name),
        Cell::from(row.status.clone()).style(color(&row.status)),
        right(number(row.sessions)),
        alarm(row.queue, Style::new().yellow()),
        right(number(row.rate)),
        alarm(row.errors, Style::new().red()),
        time(total.map(|(p50, _)| p50)),
        time(total.map(|(_, p99)| p99)),
        right(bytes(row.bytes_out)),
        right(row.weight.clone()),
    ];
    let cells = Cells::new(cells);
    if row.what == What::Server { cells } else { cells.bold() }
}

const FRONTEND: &str = " (frontend)";

/// A name in so many columns: what is in the middle of a long one is left out, for names of servers differ at the end.
fn fit(name: &str, room: usize) -> String {
    let len = name.chars().count();
    if len <= room {
        return name.to_owned();
    }
    let kept = room.saturating_sub(1);
    let head = kept / 2;
    name.chars().take(head).chain(['…']).chain(name.chars().skip(len - (kept - head))).collect()
}

/// The words say it too: colours only help.
fn color(status: &str) -> Style {
    match status {
        s if s.starts_with("MAINT") => Style::new().fg(Color::Blue),
        s if s.starts_with("DOWN") || s == "STOP" => Style::new().fg(Color::Red),
        s if s.starts_with("DRAIN")
            || s.starts_with("NOLB")
            || s.contains('/')
            || matches!(s, "FULL" | "PAUSED") =>
        {
            Style::new().fg(Color::Yellow)
        }
        "no check" => Style::new(),
        _ => Style::new().fg(Color::Green),
    }
}

/// Three lines about the selected row.
fn details(frame: &mut Frame<'_>, area: Rect, screen: &Screen, row: &Row) {
    let width = (area.width / 3).min(u16::try_from(GRAPH).unwrap_or(u16::MAX));
    let parts = [Constraint::Min(20), Constraint::Length(width)];
    let [left, right] = Layout::horizontal(parts).spacing(1).areas(area);
    let mut steps = String::new();
    for ((name, _), step) in STEPS.iter().zip(row.steps).take(3) {
        if let Some((p50, p99)) = step {
            let _ = write!(steps, "{name} {}/{}  ", micros(p50), micros(p99));
        }
    }
    let kind = match row.what {
        What::Frontend => "frontend",
        What::Backend => "backend",
        What::Server => "server",
    };
    let lines = vec![
        Line::from(vec![
            Span::from(format!("{kind} {} ", row.name)).bold(),
            Span::from(row.address.clone()),
            Span::from(format!("  graph {}", SPANS[screen.span].0)).dim(),
        ]),
        Line::from(format!("{} {}", row.status, row.check)),
        Line::from(if steps.is_empty() {
            format!("in {}/s out {}/s", bytes(row.bytes_in), bytes(row.bytes_out))
        } else {
            steps
        }),
    ];
    frame.render_widget(Paragraph::new(lines), left);
    let graph = screen.graph(row);
    let values: Vec<u64> = if screen.span == 0 {
        graph[graph.len().saturating_sub(usize::from(width))..].to_vec()
    } else {
        // All of the time, in as many parts as there is room for.
        let parts = usize::from(width).clamp(1, GRAPH);
        graph
            .rchunks(GRAPH.div_ceil(parts))
            .rev()
            .map(|part| part.iter().sum::<u64>() / part.len() as u64)
            .collect()
    };
    frame.render_widget(Sparkline::default().data(&values), right);
}

fn bottom(screen: &Screen) -> Line<'_> {
    match &screen.mode {
        Mode::Filter => {
            Line::from(format!("filter: {}_   Enter keeps it, Esc forgets it", screen.filter)).reversed()
        }
        Mode::Weight { server, text } => Line::from(format!("weight of {server}: {text}_")).reversed(),
        Mode::Confirm { question, .. } => Line::from(format!("{question}? y: yes, else no")).reversed(),
        Mode::Look | Mode::Help if !screen.message.is_empty() => Line::from(screen.message.as_str()).yellow(),
        Mode::Look | Mode::Help => {
            let mut text =
                String::from("?:help q:quit s:sort /:filter !:problems d:drain e:enable m:maint w:weight");
            let mut only = Vec::new();
            if !screen.filter.is_empty() {
                only.push(format!("/{}", screen.filter));
            }
            if screen.bad {
                only.push("problems".to_owned());
            }
            only.extend(screen.what.map(|what| format!("{what:?}s").to_lowercase()));
            if !only.is_empty() {
                text = format!("only {} (Esc: all)   {text}", only.join(", "));
            }
            Line::from(text).dim()
        }
    }
}

/// Up to five characters.
pub(super) fn number(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..10_000_000 => format!("{}k", n / 1000),
        10_000_000..10_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{}G", n / 1_000_000_000),
    }
}

/// Up to five characters.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["", "k", "M", "G", "T"] {
        if value < 999.5 {
            return match unit {
                "" => n.to_string(),
                unit if value < 10.0 => format!("{value:.1}{unit}"),
                unit => format!("{value:.0}{unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.0}P")
}

/// Up to six characters.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..10_000 => format!("{:.1}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::control::top::sample::Facts;
    use crate::control::top::screen::Effect;
    use crate::stats::render::tests::assert_golden;

    fn row(what: What, name: &str, status: &str, n: u64) -> Row {
        let steps = [Some((0, n)), Some((n, 2 * n)), Some((10 * n, 90 * n)), Some((12 * n, 3000 * n))];
        Row {
            what,
            proxy: name.split('/').next().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            status: status.to_owned(),
            sessions: n,
            queue: n / 1000,
            rate: 10 * n,
            errors: n / 500,
            bytes_in: 1500 * n,
            bytes_out: 15_000 * n,
            weight: "100".to_owned(),
            steps: if what == What::Frontend { [None; 4] } else { steps },
            address: if what == What::Server { "10.0.0.1:8080".to_owned() } else { String::new() },
            check: if what == What::Server { "L7OK HTTP 200".to_owned() } else { String::new() },
            graph: (0..60).map(|x| x * x % 37).collect(),
        }
    }

    fn screen() -> Screen {
        let mut rows = vec![
            row(What::Frontend, "public", "OPEN", 1500),
            row(What::Backend, "web", "UP", 1200),
            row(What::Server, "web/app-01", "UP", 700),
            row(What::Server, "web/app-02", "UP 1/3", 500),
            row(What::Server, "web/app-03", "DOWN", 0),
            row(What::Server, "web/app-04", "DRAIN", 3),
            row(What::Server, "web/app-05-with-a-long-name", "no check", 2),
        ];
        rows.extend((0..30).map(|n| row(What::Server, &format!("batch/worker-{n}"), "MAINT", n)));
        Screen {
            facts: Facts {
                title: "Shardgate 1.2.3 on lb1".to_owned(),
                uptime: "1d 2h".to_owned(),
                connections: "1500/20000".to_owned(),
                connection_rate: 1234,
                request_rate: 123_456,
                bytes_out: 1_234_567_890,
                cores: vec![12, 55, 100, 3, 2],
                rows,
                past: None,
            },
            ..Screen::default()
        }
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| draw(frame, screen)).expect("drawn");
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, keys: &str) -> Effect {
        let mut last = Effect::None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            last = screen.on_key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        last
    }

    #[test]
    fn the_screen_fits_80_by_24() {
        let mut screen = screen();
        press(&mut screen, "jj");
        let mut text = drawn(&screen, 80, 24);
        press(&mut screen, "sssss");
        text += &drawn(&screen, 80, 24);
        press(&mut screen, "G!d");
        text += &drawn(&screen, 80, 24);
        press(&mut screen, "n?");
        text += &drawn(&screen, 80, 24);
        text += &drawn(&screen, 120, 16);
        assert_golden("tests/golden/top.txt", &text);
    }

    #[test]
    fn no_size_is_too_small() {
        let mut screen = screen();
        screen.facts.cores = vec![50; 200];
        for mode in ["", "?", "\x1b/abc"] {
            press(&mut screen, mode);
            for (width, height) in [(1, 1), (3, 2), (20, 5), (80, 3), (300, 100)] {
                drawn(&screen, width, height);
            }
        }
        drawn(&Screen::default(), 80, 24);
    }

    #[test]
    fn changes_are_confirmed_and_go_to_the_selected_server() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, "d"), Effect::None);
        assert_eq!((screen.message.as_str(), screen.mode.clone()), ("select a server first", Mode::Look));
        for (keys, sent) in [
            ("jjdy", "set server web/app-01 state drain"),
            ("ey", "set server web/app-01 state ready"),
            ("jmy", "set server web/app-02 state maint"),
            ("w2x5%\ny", "set weight web/app-02 25%"),
            ("xY", "shutdown sessions server web/app-02"),
            ("/worker-7\ndy", "set server batch/worker-7 state drain"),
        ] {
            assert_eq!(press(&mut screen, keys), Effect::Send(sent.to_owned()), "{keys:?}");
        }
        for keys in ["dn", "d\n", "w\n", "w5\x1b", "w5\nx"] {
            assert_eq!(press(&mut screen, keys), Effect::None, "{keys:?}");
            assert_eq!(screen.mode, Mode::Look, "{keys:?}");
        }
        screen.on_answer("set weight web/app-02 25%", "Permission denied\n\n");
        assert_eq!(screen.message, "Permission denied");
        assert_eq!(press(&mut screen, "q"), Effect::Quit);
    }

    #[test]
    fn the_graph_shows_the_time_that_is_chosen() {
        let mut screen = screen();
        press(&mut screen, "tt");
        let watch = screen.watch().expect("the first row");
        assert_eq!((watch.name.as_str(), watch.span), ("public", 2));
        assert!(!drawn(&screen, 80, 24).contains("███"), "nothing is known of it yet");
        screen.facts.past = Some((watch, vec![9; GRAPH]));
        let text = drawn(&screen, 80, 24);
        assert!(text.contains("graph 2 h") && text.contains("████"), "{text}");
        press(&mut screen, "tt");
        assert_eq!(screen.watch().map(|watch| watch.span), Some(0));
    }

    #[test]
    fn the_selected_row_stays_selected_when_the_order_changes() {
        let mut screen = screen();
        press(&mut screen, "jjjj");
        press(&mut screen, "s");
        let rows = screen.rows();
        assert_eq!(rows[screen.position(&rows)].name, "web/app-03");
        assert_eq!(rows[0].name, "public", "most sessions first");
    }

    #[test]
    fn long_names_keep_both_ends() {
        for (name, room, shown) in [
            ("web", 3, "web"),
            ("api-v2-internal/a1", 17, "api-v2-i…ernal/a1"),
            ("späte-bäcker", 7, "spä…ker"),
            ("web", 1, "…"),
            ("web", 0, "…"),
        ] {
            assert_eq!(fit(name, room), shown);
        }
    }

    #[test]
    fn numbers_fit_their_columns() {
        for n in [0, 9, 999, 1000, 99_999, 999_949, 9_999_999, u64::MAX / 1_000_000_000] {
            assert!(number(n).len() <= 6 && bytes(n).len() <= 6, "{n}: {} {}", number(n), bytes(n));
        }
        for us in [0, 999, 9_999, 99_999, 999_999, 3_600_000_000] {
            assert!(micros(us).chars().count() <= 7, "{us}: {}", micros(us));
        }
    }
}
