//! The screen: rates as they come, until the user quits.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::Result;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row as TableRow, Table as TableWidget};
use thousands::Separable;

use super::{Key, Rates, Sort, Top, press};
use crate::live::Connection;
use crate::signals;

/// Maximum time that keys and signals wait.
const TICK: Duration = Duration::from_millis(100);

/// A message of the connection's thread.
type News = Result<Rates>;

/// Shows the rates of a machine whose subscription has begun, until the user quits.
///
/// The terminal is restored in any case.
///
/// # Errors
///
/// Fails if the terminal cannot be used.
pub fn run(connection: Connection, top: Top, socket: &Path) -> Result<()> {
    let stop = signals::watch(signals::ENDS_ON_A_TERMINAL)?;
    let news = listen(connection);
    // Also restores the terminal if the program panics.
    let mut terminal = ratatui::try_init()?;
    let mut top = top;
    let result = (|| {
        while !stop.load(Ordering::Relaxed) {
            take_news(&mut top, &news, socket);
            terminal.draw(|frame| draw(frame, &mut top))?;
            if event::poll(TICK)? && !handle(&mut top, &event::read()?) {
                break;
            }
        }
        Ok(())
    })();
    ratatui::restore();
    result
}

/// Starts a thread that reads events.
fn listen(mut connection: Connection) -> Receiver<News> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        loop {
            let news = match connection.next_event() {
                Ok((name, data)) if name == "rates" => Ok(Rates::of(&data)),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let is_over = news.is_err();
            if sender.send(news).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}

fn take_news(top: &mut Top, news: &Receiver<News>, socket: &Path) {
    loop {
        match news.try_recv() {
            Ok(Ok(rates)) => top.update(rates),
            Ok(Err(error)) => top.end = Some(format!("{}: {error:#}", socket.display())),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
        }
    }
}

/// Returns false if the program is to end.
fn handle(top: &mut Top, event: &Event) -> bool {
    let Event::Key(pressed) = event else { return true };
    if pressed.kind == KeyEventKind::Release {
        return true;
    }
    let key = match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(character) => Key::Character(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        _ => return true,
    };
    press(top, key)
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let [title, state, table, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let rates = &top.rates;
    let per_second = |change| rates.per_second(change).separate_with_commas();
    let heading = format!(
        "{}   {} accesses   {}/s",
        top.title,
        rates.total.separate_with_commas(),
        per_second(rates.change)
    );
    frame.render_widget(Paragraph::new(heading), title);
    frame.render_widget(Paragraph::new(Line::styled(status(top), Modifier::BOLD)), state);
    let rows = top.rows();
    let shown = rows.iter().skip(top.first).take(table.height.into()).map(|row| {
        let (rate, total) = (per_second(row.change), row.total.separate_with_commas());
        TableRow::new([format!("{rate:>12}"), format!("{total:>16}"), row.name.clone()])
    });
    let widths = [Constraint::Length(12), Constraint::Length(16), Constraint::Fill(1)];
    let heading = |sort: Sort, text: &str, width: usize| {
        let mark = match (sort == top.sort, top.is_reversed) {
            (false, _) => "",
            (true, false) => "▼",
            (true, true) => "▲",
        };
        let text = format!("{text}{mark}");
        format!("{text:>width$}")
    };
    let header = TableRow::new([
        heading(Sort::Rate, "RATE/s", 12),
        heading(Sort::Total, "TOTAL", 16),
        heading(Sort::Name, top.table.heading(), 0),
    ]);
    let header = header.style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(TableWidget::new(shown, widths).header(header), table);
    let keys = match top.is_typing {
        true => "type a text; enter: done  esc: no filter",
        false => "q quit  tab table  s sort  r reverse  / filter  p pause  ↑↓ scroll",
    };
    frame.render_widget(Paragraph::new(Line::styled(keys, Modifier::DIM)), help);
}

/// The line of what the user has chosen.
fn status(top: &Top) -> String {
    let mut parts = vec![format!("{} rows", top.rows().len())];
    if top.is_typing || !top.filter.is_empty() {
        let cursor = if top.is_typing { "_" } else { "" };
        parts.push(format!("filter: {}{cursor}", top.filter));
    }
    if top.is_paused {
        parts.push("PAUSED".to_owned());
    }
    if top.table == super::Table::Process && top.rates.table(top.table).is_empty() {
        parts.push("QEMU counts by process with processes=on".to_owned());
    }
    if let Some(end) = &top.end {
        parts.push(end.clone());
    }
    parts.join("   ")
}
