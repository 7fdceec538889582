//! Words, numbers, texts and signs (2.2, 2.4). Space before them counts for nothing.

use winnow::{
    Parser,
    combinator::{alt, cut_err, opt, peek, preceded, repeat},
    error::ErrMode,
    stream::Location,
    token::{any, none_of, one_of, take_while},
};

use super::{Input, Parsed, Stopped, stop};

pub(super) enum Word<'s> {
    True,
    False,
    Not,
    Exists,
    /// Lower case, as attributes are.
    Attribute(String),
    /// A name with a parenthesis after it.
    Function(&'s str),
    /// A keyword that stands between operands.
    Operator,
}

pub(super) fn blank(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., [' ', '\t', '\r', '\n']).void().parse_next(input)
}

/// Letters, digits and `_`, as many as there are.
fn characters<'s>(input: &mut Input<'s>) -> Parsed<&'s str> {
    take_while(1.., |character: char| {
        character.is_ascii_alphanumeric() || character == '_'
    })
    .parse_next(input)
}

pub(super) fn sign<'s>(expected: &'static str) -> impl Parser<Input<'s>, (), ErrMode<Stopped>> {
    preceded(blank, expected).void()
}

/// A keyword in any case, and no word that merely begins like it.
pub(super) fn keyword<'s>(expected: &'static str) -> impl Parser<Input<'s>, (), ErrMode<Stopped>> {
    preceded(blank, characters)
        .verify(move |found: &str| found.eq_ignore_ascii_case(expected))
        .void()
}

pub(super) fn word<'s>(input: &mut Input<'s>) -> Parsed<Word<'s>> {
    let start = input.current_token_start();
    let found = characters(input)?;
    let is = |keyword: &str| found.eq_ignore_ascii_case(keyword);
    Ok(match found {
        _ if is("TRUE") => Word::True,
        _ if is("FALSE") => Word::False,
        _ if is("NOT") => Word::Not,
        _ if is("EXISTS") => Word::Exists,
        _ if ["AND", "OR", "XOR", "LIKE", "IN"].into_iter().any(is) => Word::Operator,
        _ if opt(peek(sign("("))).parse_next(input)?.is_some() => {
            let fits = found.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            if !fits || found.starts_with('_') {
                return stop(
                    start,
                    format!("`{found}` cannot be a function: those have letters and `_` in their names"),
                );
            }
            Word::Function(found)
        }
        _ if found.contains('_') => {
            return stop(
                start,
                format!("`{found}` cannot be an attribute: those have letters and digits in their names"),
            );
        }
        _ => Word::Attribute(found.to_ascii_lowercase()),
    })
}

/// Digits, with a sign right before them or without.
pub(super) fn integer(input: &mut Input<'_>) -> Parsed<i32> {
    let start = input.current_token_start();
    let digits = (
        opt(one_of(['+', '-'])),
        characters.verify(|word: &str| word.bytes().all(|byte| byte.is_ascii_digit())),
    );
    let text = digits.take().parse_next(input)?;
    text.parse()
        .or_else(|_| stop(start, format!("{text} has more than 32 bits")))
}

/// A text in either kind of quotes. `\` keeps a quote from ending it; before any other character it is one like any other.
pub(super) fn text(input: &mut Input<'_>) -> Parsed<String> {
    blank(input)?;
    let start = input.current_token_start();
    let quote = one_of(['\'', '"']).parse_next(input)?;
    let piece = alt((
        none_of(['\\', quote]).map(|plain| (None, plain)),
        preceded('\\', any).map(|kept| ((kept != quote).then_some('\\'), kept)),
    ));
    let text = repeat(0.., piece).fold(String::new, |mut text, (before, character)| {
        text.extend(before);
        text.push(character);
        text
    });
    let closed: Parsed<_> = (text, cut_err(quote)).parse_next(input);
    match closed {
        Ok((text, _)) => Ok(text),
        Err(_) => stop(start, format!("the text that begins here has no {quote} at its end")),
    }
}
