//! Positions of what is read, and documents that are refused.

use super::*;

fn read(text: &str) -> Node {
    match parse(text, 0, 1) {
        Ok(Some(node)) => node,
        Ok(None) => panic!("no document"),
        Err(syntax) => panic!("{}", syntax.message),
    }
}

fn position(node: &Node, path: &str) -> (usize, usize) {
    let mark = node.mark(path);
    (mark.line, mark.column)
}

#[test]
fn a_path_leads_to_the_scalar_or_to_the_key_of_what_is_larger() {
    let node = read("a:\n  b: 5\n  list:\n    - x: one\n    - \"é\": {y: 'two'}\n");
    assert_eq!(position(&node, "a.b"), (2, 6));
    assert_eq!(position(&node, "a.list"), (3, 3));
    assert_eq!(position(&node, "a.list[0].x"), (4, 10));
    assert_eq!(position(&node, "a.list[1].é.y"), (5, 16));
    assert_eq!(position(&node, "a.absent.more"), (1, 1), "the nearest that is there");
    let text = "a:\n  b: 'été' \n";
    let mark = read(text).mark("a.b");
    assert_eq!(&text[mark.start..mark.end], "'été'");
}

#[test]
fn json_is_read_as_well_and_numbers_stay_numbers() {
    let node = read("{\"a\": [1, -2, 3.5, true, null, \"5\"]}");
    assert_eq!(
        node.to_json(),
        serde_json::json!({ "a": [1, -2, 3.5, true, null, "5"] })
    );
}

#[test]
fn a_key_written_twice_is_there_twice() {
    let node = read("a: 1\na: 2\n");
    assert!(matches!(&node.value, Value::Map(entries) if entries.len() == 2));
}

#[test]
fn what_expands_without_end_is_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = level - 1;
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{before}"); 10].join(",")
        ));
    }
    assert!(parse(&bomb, 0, 1).is_err());
    assert!(parse(&"[".repeat(100_000), 0, 1).is_err());
}
