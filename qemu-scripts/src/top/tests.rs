use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;

fn top() -> Top {
    let data = json!({
        "seconds": 2.0, "accesses": 1_234_567, "change": 3000,
        "ports": [
            { "port": 0x3f8, "dir": "out", "size": 1, "name": "COM1", "accesses": 1_000_000, "change": 1000 },
            { "port": 0x61, "dir": "in", "size": 1, "accesses": 34_567, "change": 2000 },
        ],
        "sites": [
            { "pc": "0xffffffff81000010", "form": "out dx,al", "symbol": "io_serial_out+0x1b",
              "accesses": 1_000_000, "change": 1000 },
            { "pc": "0x401000", "form": "rep outsb", "file": "/bin/\u{1b}[31mx", "offset": "0x1000", "accesses": 1 },
        ],
    });
    let mut top = Top { title: "pvio top".to_owned(), ..Top::default() };
    top.update(Rates::of(&data));
    top
}

/// The lines of a screen of this size.
fn screen(top: &mut Top, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, top)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn names(top: &Top) -> Vec<&str> {
    top.rows().into_iter().map(|row| row.name.split(' ').next().unwrap()).collect()
}

#[test]
fn a_screen_of_80_by_24_has_all_that_is_needed() {
    let lines = screen(&mut top(), 80, 24);
    assert_eq!(lines[0], "pvio top   1,234,567 accesses   1,500/s");
    assert_eq!(lines[1], "2 rows");
    assert_eq!(lines[2], "     RATE/s▼            TOTAL PORT");
    assert_eq!(lines[3], "       1,000           34,567 0x0061 in  1");
    assert_eq!(lines[4], "         500        1,000,000 0x03f8 out 1  COM1");
    assert!(lines[23].starts_with("q quit"));
}

#[test]
fn any_size_can_be_drawn() {
    for (width, height) in [(1, 1), (10, 2), (80, 3), (300, 100)] {
        screen(&mut top(), width, height);
    }
}

#[test]
fn keys_sort_filter_pause_switch_and_quit() {
    let mut top = top();
    assert_eq!(names(&top), ["0x0061", "0x03f8"]);
    assert!(press(&mut top, Key::Character('s')));
    assert_eq!(names(&top), ["0x03f8", "0x0061"]);
    press(&mut top, Key::Character('r'));
    assert_eq!(names(&top), ["0x0061", "0x03f8"]);
    for key in
        [Key::Character('/'), Key::Character('c'), Key::Character('q'), Key::Backspace, Key::Enter]
    {
        assert!(press(&mut top, key), "q is a letter of the filter");
    }
    assert_eq!((names(&top), &*top.filter), (vec!["0x03f8"], "c"));
    press(&mut top, Key::Escape);
    assert_eq!(names(&top).len(), 2);
    press(&mut top, Key::Character('p'));
    top.update(Rates::default());
    assert_eq!(names(&top).len(), 2, "it is paused");
    press(&mut top, Key::Character('p'));
    top.update(Rates::default());
    assert!(names(&top).is_empty());
    press(&mut top, Key::Tab);
    assert_eq!(top.table, Table::Site);
    assert!(!press(&mut top, Key::Character('q')) && !press(&mut top, Key::Interrupt));
}

#[test]
fn scrolling_keeps_a_row_on_the_screen() {
    let mut top = top();
    press(&mut top, Key::PageDown);
    assert_eq!(top.first, 1);
    let lines = screen(&mut top, 80, 24);
    assert!(lines[3].contains("0x03f8") && lines[4].is_empty());
    press(&mut top, Key::Home);
    assert_eq!(top.first, 0);
}

#[test]
fn control_characters_of_the_guest_do_not_reach_the_terminal() {
    let top = Top { table: Table::Site, ..top() };
    let text = batch(&top, 10);
    assert!(text.contains("/bin/?[31mx+0x1000") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("0xffffffff81000010  out dx,al     io_serial_out+0x1b"), "{text}");
}

#[test]
fn batch_says_what_it_leaves_out() {
    assert_eq!(
        batch(&top(), 1),
        "1,234,567 accesses, 1,500 per second\n          RATE            TOTAL  PORT\n         1,000           \
         34,567  0x0061 in  1\n... and 1 more\n\n"
    );
}
