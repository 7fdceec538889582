//! The language as the specification has it, section by section: expression, value, and the error's kind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cesql::{Expression, Value, evaluate};
use event::{Event, ValueKind};

const MIN: i32 = i32::MIN;
const MAX: i32 = i32::MAX;

/// `aninteger` and `aboolean` have those types, everything else is text.
fn event() -> Event {
    let typed = |text, kind| event::Value { text, kind };
    Event::builder("myId", "localhost.localdomain", "myType")
        .set("firstname", "Francesco")
        .set("sequence", "10")
        .set("hop", "3")
        .set("ttl", "20")
        .set("flag", "TRUE")
        .set("word", "Grüße")
        .set("123abc", "digits first")
        .set_value("aninteger", typed("42", ValueKind::Integer))
        .set_value("aboolean", typed("true", ValueKind::Boolean))
        .finish()
        .unwrap()
}

/// The value as a literal, with the error's kind after it: `FALSE missingAttribute`. Of what is no expression: `parse`.
fn result(text: &str) -> String {
    let event = event();
    let expression = match text.parse::<Expression>() {
        Ok(expression) => expression,
        Err(error) => {
            assert!(
                error.at.start <= error.at.end && text.get(error.at.start..error.at.end).is_some(),
                "{text}"
            );
            return "parse".to_owned();
        }
    };
    let evaluation = evaluate(&expression, &event);
    match evaluation.error {
        Some(error) => format!("{} {}", evaluation.value, error.kind),
        None => evaluation.value.to_string(),
    }
}

#[track_caller]
fn each(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(result(text), *expected, "{text}");
    }
}

#[test]
fn the_examples_of_the_specification() {
    each(&[
        ("EXISTS subject", "FALSE"),
        ("firstname = 'Francesco'", "TRUE"),
        ("firstname = 'Francesco' OR subject = 'Francesco'", "TRUE"),
        (
            "(firstname = 'Francesco' AND lastname = 'Guardiani') OR subject = 'x'",
            "FALSE missingAttribute",
        ),
        ("sequence = 10", "TRUE"),
        ("hop < ttl", "TRUE"),
        ("int(hop) < int(ttl) and int(hop) < 1000", "TRUE"),
        ("INT(hop) < INT(ttl) AND INT(hop) < 1000", "TRUE"),
        ("true AND (missingAttribute = \"\")", "FALSE missingAttribute"),
        ("missingattribute * 5", "0 missingAttribute"),
        ("1 / missingAttribute", "0 missingAttribute"),
        ("TRUE = \"true\" AND FALSE = \"false\"", "TRUE"),
        ("TRUE = \"TRUE\" OR FALSE = \"FALSE\"", "FALSE"),
        ("LENGTH(sequence + 10)", "2"),
        (r"'abc%' LIKE 'abc\%'", "TRUE"),
        (r"'abcd' LIKE 'abc\%'", "FALSE"),
    ]);
}

#[test]
fn literals_are_integers_booleans_and_texts_in_either_quotes() {
    each(&[
        ("0", "0"),
        ("007", "7"),
        ("+5", "5"),
        ("-5", "-5"),
        ("2147483647", "2147483647"),
        ("-2147483648", "-2147483648"),
        ("2147483648", "parse"),
        ("-2147483649", "parse"),
        ("1.5", "parse"),
        ("true", "TRUE"),
        ("False", "FALSE"),
        ("'a \"b\" c'", "'a \"b\" c'"),
        ("\"it's\"", r"'it\'s'"),
        (r#"'it\'s' = "it's""#, "TRUE"),
        (r#""a \"b\"" = 'a "b"'"#, "TRUE"),
        (r#"LENGTH('a\b')"#, "3"),
        (r#"LENGTH("a\'b")"#, "4"),
        ("''", "''"),
        ("'", "parse"),
        (r"'a\'", "parse"),
        ("'a\"", "parse"),
        ("'a''b'", "parse"),
        ("'日本'", "'日本'"),
    ]);
}

#[test]
fn attributes_are_addressed_by_name_and_keep_their_type() {
    each(&[
        ("id", "'myId'"),
        ("ID", "'myId'"),
        ("specversion", "'1.0'"),
        ("123abc", "'digits first'"),
        ("aninteger", "42"),
        ("aninteger + 1", "43"),
        ("aboolean", "TRUE"),
        ("sequence", "'10'"),
        ("absent", "FALSE missingAttribute"),
        ("data", "FALSE missingAttribute"),
        ("a_b", "parse"),
        ("a.b", "parse"),
        ("größe", "parse"),
        ("EXISTS id", "TRUE"),
        ("exists specversion", "TRUE"),
        ("EXISTS absent", "FALSE"),
        ("NOT EXISTS absent", "TRUE"),
        ("EXISTS 'id'", "parse"),
        ("EXISTS", "parse"),
        ("EXISTS (id)", "parse"),
        ("EXISTS true", "parse"),
    ]);
}

#[test]
fn whatever_addresses_a_missing_attribute_yields_the_zero_of_its_own_type() {
    each(&[
        ("NOT absent", "FALSE missingAttribute"),
        ("-absent", "0 missingAttribute"),
        ("absent != 'x'", "FALSE missingAttribute"),
        ("'x' = absent", "FALSE missingAttribute"),
        ("absent < 1", "FALSE missingAttribute"),
        ("absent OR TRUE", "FALSE missingAttribute"),
        ("absent LIKE '%'", "FALSE missingAttribute"),
        ("absent NOT LIKE '%'", "FALSE missingAttribute"),
        ("absent NOT IN ('x')", "FALSE missingAttribute"),
        ("'x' IN (absent)", "FALSE missingAttribute"),
        ("LENGTH(absent)", "0 missingAttribute"),
        ("CONCAT('a', absent)", "'' missingAttribute"),
        ("INT(absent)", "0 missingAttribute"),
        ("IS_INT(absent)", "FALSE missingAttribute"),
        ("LEFT(absent, -1)", "'' missingAttribute"),
        ("ABS(-2147483648) + absent", "0 math"),
    ]);
}

#[test]
fn arithmetic_is_that_of_signed_32_bits_and_truncates() {
    each(&[
        ("4 * 2", "8"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / -2", "-3"),
        ("-7 / -2", "3"),
        ("7 % 3", "1"),
        ("-7 % 3", "-1"),
        ("7 % -3", "1"),
        ("1 / 0", "0 math"),
        ("1 % 0", "0 math"),
        ("2147483647 + 1", "0 math"),
        ("-2147483648 - 1", "0 math"),
        ("65536 * 65536", "0 math"),
        ("-2147483648 / -1", "0 math"),
        ("-2147483648 % -1", "0"),
        ("-(-2147483648)", "0 math"),
        ("'4' * '2'", "8"),
        ("TRUE + TRUE", "2"),
        ("'a' * 2", "0 cast"),
        ("'4.0' + 1", "0 cast"),
        ("3 -5", "-2"),
        ("3-5", "-2"),
        ("3 - -5", "8"),
        ("3--5", "8"),
        ("--5", "5"),
        ("- 5", "-5"),
        ("-hop", "-3"),
        ("-'a'", "0 cast"),
        ("-TRUE", "-1"),
        ("+hop", "parse"),
        ("5abc", "FALSE missingAttribute"),
    ]);
}

#[test]
fn comparisons_take_their_type_from_the_right() {
    each(&[
        ("'10' = 10", "TRUE"),
        ("10 = '10'", "TRUE"),
        ("10 = '010'", "FALSE"),
        ("'010' = 10", "TRUE"),
        ("'abc' = 10", "FALSE cast"),
        ("'abc' != 10", "FALSE cast"),
        ("'abc' = TRUE", "FALSE cast"),
        ("flag = TRUE", "TRUE"),
        ("TRUE = flag", "FALSE"),
        ("1 = TRUE", "TRUE"),
        ("TRUE = 1", "TRUE"),
        ("TRUE = 2", "FALSE"),
        ("2 = TRUE", "TRUE"),
        ("'a' = 'A'", "FALSE"),
        ("'a' != 'A'", "TRUE"),
        ("'a' <> 'A'", "TRUE"),
        ("1 < 2", "TRUE"),
        ("2 <= 2", "TRUE"),
        ("'9' < '10'", "TRUE"),
        ("2 > 2", "FALSE"),
        ("2 >= 2", "TRUE"),
        ("'a' < 'b'", "FALSE cast"),
        ("aninteger = '42'", "TRUE"),
        ("1 == 1", "parse"),
    ]);
}

#[test]
fn logic_is_evaluated_from_the_left_as_far_as_needed() {
    each(&[
        ("FALSE AND absent", "FALSE"),
        ("TRUE OR absent", "TRUE"),
        ("TRUE AND absent", "FALSE missingAttribute"),
        ("FALSE OR 1 / 0 = 1", "FALSE math"),
        ("FALSE AND UNKNOWN()", "FALSE"),
        ("TRUE XOR TRUE", "FALSE"),
        ("TRUE XOR FALSE", "TRUE"),
        ("TRUE XOR absent", "FALSE missingAttribute"),
        ("TRUE OR FALSE AND FALSE", "FALSE"),
        ("TRUE OR (FALSE AND FALSE)", "TRUE"),
        ("FALSE AND FALSE OR TRUE", "TRUE"),
        ("TRUE XOR TRUE OR TRUE", "TRUE"),
        ("TRUE OR absent XOR TRUE", "FALSE"),
        ("'true' AND 'TRUE'", "TRUE"),
        ("1 AND 5", "TRUE"),
        ("'yes' AND TRUE", "FALSE cast"),
        ("'yes' OR TRUE", "FALSE cast"),
        ("NOT TRUE", "FALSE"),
        ("NOT 'false'", "TRUE"),
        ("NOT 0", "TRUE"),
        ("NOT 'abc'", "FALSE cast"),
        ("NOT NOT TRUE", "TRUE"),
    ]);
}

#[test]
fn operators_hold_as_tight_as_the_specification_says() {
    each(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 2 - 3", "5"),
        ("20 / 2 / 5", "2"),
        ("2 * 3 % 4", "2"),
        ("1 + 1 = 2", "TRUE"),
        ("1 = 1 = TRUE", "TRUE"),
        ("3 > 2 AND 2 > 1", "TRUE"),
        ("NOT FALSE = FALSE", "FALSE"),
        ("NOT TRUE LIKE 'fal%'", "TRUE"),
        ("1 + 1 LIKE '1'", "2"),
        ("-5 LIKE '-_'", "TRUE"),
        ("1 + 1 IN (1)", "2"),
        ("2 * 3 = 6 XOR TRUE", "FALSE"),
        ("TRUE AND NOT FALSE", "TRUE"),
        ("'a' LIKE 'a' = TRUE", "TRUE"),
        ("'a' LIKE 'a' LIKE 'true'", "TRUE"),
        ("hop IN ('3') IN (TRUE)", "TRUE"),
        ("- hop * - hop", "9"),
    ]);
}

#[test]
fn like_matches_text_with_a_pattern_that_is_a_literal() {
    each(&[
        ("firstname LIKE 'Fran%'", "TRUE"),
        ("firstname LIKE 'fran%'", "FALSE"),
        ("firstname NOT LIKE '%esc_'", "FALSE"),
        ("word LIKE 'Gr__e'", "TRUE"),
        ("10 LIKE '1_'", "TRUE"),
        ("TRUE LIKE 'true'", "TRUE"),
        ("'a_b' LIKE 'a\\_b'", "TRUE"),
        ("'it\\'s' LIKE 'it\\'s'", "TRUE"),
        ("'a' LIKE a", "parse"),
        ("'1' LIKE 1", "parse"),
        ("'a' LIKE ('a')", "parse"),
        ("'a' LIKE CONCAT('a')", "parse"),
        ("'a' NOT 'a'", "parse"),
    ]);
}

#[test]
fn in_casts_its_list_to_the_type_on_the_left() {
    each(&[
        ("hop IN ('1', '3')", "TRUE"),
        ("hop IN (1, 3)", "TRUE"),
        ("3 IN ('1', '03')", "TRUE"),
        ("hop IN ('03')", "FALSE"),
        ("hop NOT IN (1, 2)", "TRUE"),
        ("3 IN ('a', '3')", "FALSE cast"),
        ("3 IN ('3', 'a')", "TRUE"),
        ("3 NOT IN ('a')", "FALSE cast"),
        ("TRUE IN ('FALSE', 'TRUE')", "TRUE"),
        ("TRUE IN (0, 7)", "TRUE"),
        ("'a' IN (CONCAT('', 'a'))", "TRUE"),
        ("firstname IN (id, type, firstname)", "TRUE"),
        ("hop IN ()", "parse"),
        ("hop IN (1,)", "parse"),
        ("hop IN 1", "parse"),
    ]);
}

#[test]
fn casts_are_functions_too() {
    each(&[
        ("INT('0042')", "42"),
        ("INT('x')", "0 cast"),
        ("INT(TRUE)", "1"),
        ("INT('2147483648')", "0 cast"),
        ("BOOL('TrUe')", "TRUE"),
        ("BOOL('x')", "FALSE cast"),
        ("BOOL(-1)", "TRUE"),
        ("STRING(007)", "'7'"),
        ("STRING(-1)", "'-1'"),
        ("STRING(TRUE)", "'true'"),
        ("IS_INT('+7')", "TRUE"),
        ("IS_INT('7.0')", "FALSE"),
        ("IS_INT(TRUE)", "TRUE"),
        ("IS_BOOL('false')", "TRUE"),
        ("IS_BOOL('no')", "FALSE"),
        ("is_bool(10)", "TRUE"),
    ]);
}

#[test]
fn text_functions_count_characters_from_one() {
    each(&[
        ("LENGTH(word)", "5"),
        ("length ( '' )", "0"),
        ("LENGTH(1234)", "4"),
        ("CONCAT()", "''"),
        ("CONCAT('a', 1, TRUE)", "'a1true'"),
        ("CONCAT_WS(',')", "''"),
        ("CONCAT_WS(', ', 'a')", "'a'"),
        ("CONCAT_WS(', ', 'a', '', 'b')", "'a, , b'"),
        ("LOWER('ÄBc')", "'äbc'"),
        ("UPPER(word)", "'GRÜSSE'"),
        ("TRIM('\u{3000} a b\t\n')", "'a b'"),
        ("LENGTH(TRIM('\u{1}'))", "1"),
        ("TRIM('  ')", "''"),
        ("LEFT(word, 3)", "'Grü'"),
        ("LEFT(word, 5)", "'Grüße'"),
        ("LEFT(word, 99)", "'Grüße'"),
        ("LEFT(word, 0)", "''"),
        ("LEFT(word, -1)", "'Grüße' functionEvaluation"),
        ("RIGHT(word, 2)", "'ße'"),
        ("RIGHT(word, 99)", "'Grüße'"),
        ("RIGHT(word, 0)", "''"),
        ("RIGHT(word, -2147483648)", "'Grüße' functionEvaluation"),
        ("SUBSTRING(word, 1)", "'Grüße'"),
        ("SUBSTRING(word, 3)", "'üße'"),
        ("SUBSTRING(word, 5)", "'e'"),
        ("SUBSTRING(word, 6)", "'' functionEvaluation"),
        ("SUBSTRING(word, 0)", "''"),
        ("SUBSTRING(word, -2)", "'ße'"),
        ("SUBSTRING(word, -5)", "'Grüße'"),
        ("SUBSTRING(word, -6)", "'' functionEvaluation"),
        ("SUBSTRING(word, -2147483648)", "'' functionEvaluation"),
        ("SUBSTRING('', 1)", "'' functionEvaluation"),
        ("SUBSTRING(word, 2, 3)", "'rüß'"),
        ("SUBSTRING(word, -3, 2)", "'üß'"),
        ("SUBSTRING(word, 2, 99)", "'rüße'"),
        ("SUBSTRING(word, 2, 0)", "''"),
        ("SUBSTRING(word, 0, 2)", "''"),
        ("SUBSTRING(word, 2, -1)", "'' functionEvaluation"),
        ("SUBSTRING(word, 'x')", "'' cast"),
        ("ABS(-5)", "5"),
        ("ABS('-5')", "5"),
        ("ABS(-2147483648)", "2147483647 math"),
    ]);
}

#[test]
fn a_function_that_is_not_there_is_an_error_when_it_is_called() {
    each(&[
        ("UNKNOWN()", "FALSE missingFunction"),
        ("UNKNOWN(absent)", "FALSE missingFunction"),
        ("ABS()", "FALSE missingFunction"),
        ("ABS(1, 2)", "FALSE missingFunction"),
        ("CONCAT_WS()", "FALSE missingFunction"),
        ("SUBSTRING('a', 1, 1, 1)", "FALSE missingFunction"),
        ("LENGTH(UNKNOWN())", "0 missingFunction"),
        ("ABS1(1)", "parse"),
        ("_ABS(1)", "parse"),
        ("ABS(1", "parse"),
        ("ABS(1,)", "parse"),
        ("ABS(,)", "parse"),
        ("not(TRUE)", "FALSE"),
    ]);
}

#[test]
fn an_error_inside_leaves_the_zero_value_of_the_whole() {
    each(&[
        ("LENGTH(LEFT('abc', -1))", "0 functionEvaluation"),
        ("(LEFT('abc', -1))", "'abc' functionEvaluation"),
        ("1 / 0 + 5", "0 math"),
        ("1 / 0 = 0", "FALSE math"),
        ("NOT (absent = 'x')", "FALSE missingAttribute"),
    ]);
    assert_eq!(result("ABS(-2147483648)"), format!("{MAX} math"));
    assert_eq!(result(&format!("{MIN}")), format!("{}", Value::Integer(MIN)));
}

#[test]
fn text_that_is_no_expression_is_refused_where_it_stops_making_sense() {
    for (text, column, message) in [
        ("", 0, "the expression is empty"),
        (" \n", 0, "the expression is empty"),
        (
            "type =",
            6,
            "expected a value, an attribute or a function, found the end",
        ),
        (
            "type = = 'a'",
            7,
            "expected a value, an attribute or a function, found `=`",
        ),
        ("type 'a'", 5, "expected an operator or the end, found `'`"),
        ("(type = 'a'", 11, "expected `)`, found the end"),
        ("type = 'a')", 10, "expected an operator or the end, found `)`"),
        ("type = 'a", 7, "the text that begins here has no ' at its end"),
        (
            "id AND OR id",
            7,
            "expected a value, an attribute or a function, found `OR`",
        ),
        ("id LIKE type", 8, "expected a pattern in quotes, found `type`"),
        ("id IN ()", 7, "expected a value, an attribute or a function, found `)`"),
        ("id IN x", 6, "expected a list: (a, b), found `x`"),
        ("ABS(1 2)", 6, "expected `,` or `)`, found `2`"),
        ("EXISTS 'a'", 7, "expected the name of an attribute, found `'`"),
        ("1 + 4294967296", 4, "4294967296 has more than 32 bits"),
        (
            "a_b = 1",
            0,
            "`a_b` cannot be an attribute: those have letters and digits in their names",
        ),
        ("id = 'ä' ; x", 9, "expected an operator or the end, found `;`"),
        ("id NOT = 'a'", 3, "expected an operator or the end, found `NOT`"),
    ] {
        let error = text.parse::<Expression>().unwrap_err();
        let before = text[..error.at.start].chars().count();
        assert_eq!((before, &*error.message), (column, message), "{text:?}");
    }
    let error = "id = 'ä'\n  AND id ! 'b'".parse::<Expression>().unwrap_err();
    assert_eq!(error.caret("id = 'ä'\n  AND id ! 'b'"), "  AND id ! 'b'\n         ^");
}
