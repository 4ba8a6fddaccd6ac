//! `shardgate top`: a live screen in a terminal over the admin socket. `sample` knows the numbers, `screen` the choices, `draw`
//! the cells; here are the terminal, and the thread that asks, so that a process that does not answer stops nobody.

mod draw;
mod sample;
mod screen;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::control::ctl;
use crate::control::hangup;
use crate::control::top::sample::{Sample, Series, Watch};
use crate::control::top::screen::{Effect, Screen};
use crate::rt::machine::clock;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between a choice of a row and the question about its history: others may follow.
const CHOICE: Duration = Duration::from_millis(150);
/// Questions between two about a history that moves slowly.
const SLOW: u32 = 10;
/// Between two looks at the keyboard and at what was answered.
const LOOK: Duration = Duration::from_millis(50);

/// What the asking thread is told.
enum Order {
    /// Send this command.
    Command(String),
    /// Ask for the history of this row too.
    Watch(Option<Watch>),
}

/// What the asking thread found.
enum Found {
    Sample(Result<Sample, String>, Instant),
    Answer { command: String, answer: String },
}

/// Shows the screen until the user leaves it.
///
/// # Errors
/// There is no terminal, or nobody answers at the start.
pub fn run(socket: &Path) -> Result<(), String> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("top needs a terminal; for scripts there is `shardgate ctl 'show stat'`".to_owned());
    }
    let first = sample::fetch(socket, None)?;
    // Nobody sees whether that works. Where nothing is changed yet, nothing is put right.
    let restore = || drop(ratatui::try_restore());
    hangup::end_with_terminal_or_signal(restore).map_err(|e| format!("signals: {e}"))?;
    let (orders, ordered) = channel();
    let (found, finds) = channel();
    let path = socket.to_owned();
    // It ends with the process, however long an answer takes.
    thread::spawn(move || ask(&path, &ordered, &found));
    // Restores the terminal also when something panics.
    let mut terminal = ratatui::try_init().map_err(|e| format!("the terminal: {e}"))?;
    let result = show(&mut terminal, first, &orders, &finds);
    ratatui::restore();
    result.map_err(|e| format!("the terminal: {e}"))
}

/// Asks again and again, and sends commands in between.
fn ask(socket: &Path, orders: &Receiver<Order>, found: &Sender<Found>) {
    let (mut watch, mut until_history, mut wait) = (None::<Watch>, 0, INTERVAL);
    loop {
        match orders.recv_timeout(wait) {
            Ok(Order::Command(command)) => {
                let mut out = Vec::new();
                let answer = match ctl::run(socket, std::slice::from_ref(&command), &mut out) {
                    Ok(()) => String::from_utf8_lossy(&out).into_owned(),
                    Err(error) => error.to_string(),
                };
                if found.send(Found::Answer { command, answer }).is_err() {
                    return;
                }
                // What it changed is seen at once.
            }
            Ok(Order::Watch(next)) => {
                (watch, until_history, wait) = (next, 0, CHOICE);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let wanted = watch.as_ref().filter(|watch| watch.span == 0 || until_history == 0);
        until_history = if wanted.is_some() { SLOW } else { until_history.saturating_sub(1) };
        wait = INTERVAL;
        if found.send(Found::Sample(sample::fetch(socket, wanted), clock())).is_err() {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    first: Sample,
    orders: &Sender<Order>,
    finds: &Receiver<Found>,
) -> io::Result<()> {
    let (mut screen, mut series, mut before) = (Screen::default(), Series::default(), clock());
    screen.facts = series.push(first, INTERVAL);
    let (mut lost, mut stale, mut watched) = (false, true, None);
    loop {
        let watch = screen.watch();
        if watch != watched {
            drop(orders.send(Order::Watch(watch.clone())));
            watched = watch;
        }
        // Over a slow line nothing is sent but what changed, when it changed.
        if std::mem::take(&mut stale) {
            terminal.draw(|frame| draw::draw(frame, &screen))?;
        }
        // Keys first, many at once when they were pasted; then what was found.
        let mut wait = LOOK;
        while event::poll(wait)? {
            (wait, stale) = (Duration::ZERO, true);
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match screen.on_key(key) {
                Effect::None => {}
                Effect::Quit => return Ok(()),
                // The thread runs as long as this loop.
                Effect::Send(command) => drop(orders.send(Order::Command(command))),
            }
        }
        for found in finds.try_iter() {
            stale = true;
            match found {
                Found::Answer { command, answer } => screen.on_answer(&command, &answer),
                Found::Sample(Ok(sample), at) => {
                    screen.facts = series.push(sample, at.duration_since(before));
                    before = at;
                    if std::mem::take(&mut lost) {
                        screen.message.clear();
                    }
                }
                Found::Sample(Err(error), _) => {
                    lost = true;
                    screen.message = format!("{error} (trying again)");
                }
            }
        }
    }
}
