//! Look-ups with HAProxy's counting, and edits.

use super::*;
use crate::proto::h1::head::{HeadOptions, parse_request};

const REQUEST: &[u8] = b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\nX-A: 1, 2\r\nAccept: a;q=\"x,y\" , b,,c\r\n\
      x-a: 3\r\nCookie: a=b\r\nX-Empty:\r\n\r\n";

fn parsed() -> Head {
    let mut head = Head::new();
    parse_request(REQUEST, &HeadOptions::default(), &mut head)
        .expect("a head")
        .complete()
        .expect("a whole head");
    head
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    value.map(|v| std::str::from_utf8(v).expect("text"))
}

#[test]
fn values_are_split_at_commas_and_lines_are_not() {
    let head = parsed();
    let view = head.view(REQUEST);
    let x_a = Name::of(b"X-a");
    let values: Vec<_> = view.values(x_a).collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
    let lines: Vec<_> = view.lines(x_a).collect();
    assert_eq!(lines, [&b"1, 2"[..], b"3"]);
    let accept: Vec<_> = view.values(Known::Accept).collect();
    assert_eq!(accept, [&b"a;q=\"x,y\""[..], b"b", b"", b"c"]);
    assert_eq!((view.value_count(x_a), view.line_count(x_a)), (3, 2));
    assert_eq!(view.value_count(Name::of(b"x-empty")), 1);
    assert_eq!(view.value_count(Known::Referer), 0);
    assert!(view.has(Known::Cookie) && !view.has(Known::Date) && !view.has(Name::of(b"x-b")));
    assert!(view.has_token(Known::Accept, b"B"));
}

#[test]
fn occurrences_count_from_both_ends() {
    let head = parsed();
    let view = head.view(REQUEST);
    let x_a = Name::of(b"x-a");
    for (occurrence, value, line) in [
        (1, Some("1"), Some("1, 2")),
        (2, Some("2"), Some("3")),
        (3, Some("3"), None),
        (4, None, None),
        (0, Some("3"), Some("3")),
        (-1, Some("3"), Some("3")),
        (-2, Some("2"), Some("1, 2")),
        (-3, Some("1"), None),
        (-4, None, None),
        (i32::MIN, None, None),
        (i32::MAX, None, None),
    ] {
        assert_eq!(text(view.value_at(x_a, occurrence)), value, "{occurrence}");
        assert_eq!(text(view.line_at(x_a, occurrence)), line, "{occurrence}");
    }
}

#[test]
fn edits_are_seen_at_once() {
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    let x_a = Name::of(b"X-A");
    edit.add(x_a, b" 4 ").expect("room");
    assert_eq!(text(edit.view().value_at(x_a, -1)), Some("4"));
    edit.set(x_a, b"5").expect("room");
    assert_eq!(edit.view().lines(x_a).collect::<Vec<_>>(), [b"5"]);
    edit.set(Known::Referer, b"r").expect("room");
    assert_eq!(text(edit.view().line(Known::Referer)), Some("r"));
    assert_eq!((edit.delete(Known::Referer), edit.delete(Known::Referer)), (1, 0));
    assert!(!edit.view().has(Known::Referer));
    assert_eq!(edit.delete_where(|name| name.starts_with(b"X-")), 2);
    let names: Vec<_> = edit.view().fields().map(|(n, _)| n.to_vec()).collect();
    assert_eq!(names, [b"Host".to_vec(), b"Accept".to_vec(), b"Cookie".to_vec()]);
}

#[test]
fn values_are_rewritten_one_by_one() {
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    let x_a = Name::of(b"x-a");
    let count = edit.rewrite_values(x_a, |old, new| {
        new.extend_from_slice(b"v");
        new.extend_from_slice(old);
        old != b"2"
    });
    assert_eq!(count, Ok(2));
    assert_eq!(edit.view().lines(x_a).collect::<Vec<_>>(), [&b"v1, 2"[..], b"v3"]);
    assert_eq!(edit.rewrite_lines(x_a, |_, _| false), Ok(0));
    assert_eq!(
        edit.rewrite_lines(x_a, |_, new| {
            new.push(b'\n');
            new.push(b'x');
            true
        }),
        Ok(2)
    );
}

#[test]
fn no_edit_puts_a_line_break_into_a_message() {
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    let name = Name::of(b"x-new");
    for value in [&b"a\r\nEvil: 1"[..], b"a\nb", b"a\0", b"a\x7f"] {
        assert_eq!(edit.add(name, value), Err(EditError::Value));
        assert_eq!(edit.set(Known::Host, value), Err(EditError::Value));
        let put = |_: &[u8], new: &mut Vec<u8>| {
            new.extend_from_slice(value);
            true
        };
        assert_eq!(edit.rewrite_lines(Known::Host, put), Err(EditError::Value));
    }
    for bad in [&b""[..], b"a b", b"a:", b"a\r\n", b"\xff"] {
        assert_eq!(edit.add_as(bad, b"v"), Err(EditError::Name));
        assert_eq!(edit.set_method(bad), Err(EditError::Method));
    }
    for bad in [&b""[..], b"/a b", b"/a\r\n", b"/a#b", b"/\xff"] {
        assert_eq!(edit.set_target(bad), Err(EditError::Target));
        assert_eq!(edit.set_path(bad), Err(EditError::Target));
    }
    assert_eq!(edit.set_path(b"x"), Err(EditError::Target));
    assert_eq!(edit.set_query(b"a b"), Err(EditError::Target));
    assert_eq!(edit.view().target(), b"http://h/a?b");
    assert_eq!(text(edit.view().line(Known::Host)), Some("h"), "a failed set leaves the header");
}

#[test]
fn no_edit_changes_how_the_body_ends() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let mut head = Head::new();
    parse_request(bytes, &HeadOptions::default(), &mut head).expect("a head");
    let mut edit = head.edit(bytes);
    for name in [&b"content-LENGTH"[..], b"Transfer-Encoding"] {
        assert_eq!(edit.add_as(name, b"1"), Err(EditError::Framing));
        assert_eq!(edit.set(Name::of(name), b"1"), Err(EditError::Framing));
        assert_eq!(edit.set_as(name, b"1"), Err(EditError::Framing));
        assert_eq!(edit.delete(Name::of(name)), 0);
        assert_eq!(edit.rewrite_lines(Name::of(name), |_, _| true), Err(EditError::Framing));
    }
    assert_eq!(edit.delete_where(|_| true), 1);
    assert_eq!(edit.view().fields().collect::<Vec<_>>(), [(&b"Content-Length"[..], &b"5"[..])]);
}

#[test]
fn targets_are_edited_in_their_parts() {
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    edit.set_path(b"/new/path").expect("a path");
    assert_eq!(edit.view().target(), b"http://h/new/path?b");
    edit.set_query(b"").expect("no query");
    assert_eq!((edit.view().target(), edit.view().query()), (&b"http://h/new/path"[..], &b""[..]));
    edit.set_query(b"q=1").expect("a query");
    assert_eq!((edit.view().path(), edit.view().query()), (&b"/new/path"[..], &b"q=1"[..]));
    edit.set_target(b"/x?y").expect("a target");
    assert_eq!((edit.view().target(), edit.view().path()), (&b"/x?y"[..], &b"/x"[..]));
    for wrong in [&b"*"[..], b"x", b"http://", b"", b"/a b"] {
        assert_eq!(edit.set_target(wrong), Err(EditError::Target), "{}", wrong.escape_ascii());
    }
    assert_eq!(edit.change_method(b"CONNECT"), Err(EditError::Method));
}

#[test]
fn targets_without_a_path_stay() {
    for (method, target) in [(&b"OPTIONS"[..], &b"*"[..]), (b"CONNECT", b"h:443")] {
        let mut head = Head::new();
        head.start_request(method, target).expect("a request");
        let mut edit = head.edit(b"");
        edit.set_path(b"/x").expect("nothing to do");
        edit.set_query(b"q").expect("nothing to do");
        assert_eq!(edit.change_method(b"GET"), Err(EditError::Method));
        assert_eq!((edit.view().method_text(), edit.view().target()), (method, target));
    }
}

#[test]
fn edits_have_bounds() {
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    let large = vec![b'v'; crate::base::limits::HEAD_EDIT_BYTES_MAX / 2];
    assert_eq!(edit.add(Known::Referer, &large), Ok(()));
    assert_eq!(edit.set(Known::Referer, &large), Err(EditError::Full));
    assert_eq!(edit.view().line_count(Known::Referer), 1);
    let mut head = parsed();
    let mut edit = head.edit(REQUEST);
    for _ in 0..crate::base::limits::HEAD_EDIT_FIELDS_MAX {
        edit.add(Known::Referer, b"r").expect("room");
    }
    assert_eq!(edit.add(Known::Referer, b"r"), Err(EditError::Full));
}

#[test]
fn other_bytes_than_those_parsed_do_no_harm() {
    let head = parsed();
    let view = head.view(b"GET");
    assert_eq!(view.fields().count(), 6);
    assert!(view.fields().all(|(name, value)| name.is_empty() && value.is_empty()));
    assert!(view.pieces().count() > 0);
}

#[test]
fn a_used_head_keeps_its_memory() {
    let mut head = parsed();
    head.edit(REQUEST).add(Known::Referer, b"r").expect("room");
    let before = (head.fields.capacity(), head.arena.capacity());
    for _ in 0..100 {
        parse_request(REQUEST, &HeadOptions::default(), &mut head).expect("a head");
        head.edit(REQUEST).add(Known::Referer, b"r").expect("room");
    }
    assert_eq!((head.fields.capacity(), head.arena.capacity()), before);
}
