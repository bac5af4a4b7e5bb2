//! Rules that input must keep before the database is asked.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use email_address::{EmailAddress, Options};
use entity::Secret;
use unicode_normalization::UnicodeNormalization;

use crate::clock::to_microseconds;
use crate::error::{Invalid, Rule};

type Checked<T> = Result<T, Invalid>;

fn broken<T>(field: &'static str, rule: Rule) -> Checked<T> {
    Err(Invalid { field, rule })
}

/// One line of text: trimmed, not empty, no control characters, at most `max` characters.
pub(crate) fn line(field: &'static str, text: &str, max: usize) -> Checked<String> {
    let text = text.trim();
    if text.is_empty() {
        return broken(field, Rule::NotEmpty);
    }
    if text.chars().any(char::is_control) {
        return broken(field, Rule::NoControlCharacters);
    }
    within(field, text, max)?;
    Ok(text.to_owned())
}

/// Text that may be absent. Nothing but white space counts as absent.
pub(crate) fn optional_line(field: &'static str, text: Option<&str>, max: usize) -> Checked<Option<String>> {
    text.filter(|text| !text.trim().is_empty())
        .map(|text| line(field, text, max))
        .transpose()
}

/// Text of several lines: line breaks and tabs are allowed.
pub(crate) fn optional_text(field: &'static str, text: Option<&str>, max: usize) -> Checked<Option<String>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return broken(field, Rule::NoControlCharacters);
    }
    within(field, text, max)?;
    Ok(Some(text.to_owned()))
}

/// Text of several lines that must be there.
pub(crate) fn text(field: &'static str, text: &str, max: usize) -> Checked<String> {
    optional_text(field, Some(text), max)?.map_or_else(|| broken(field, Rule::NotEmpty), Ok)
}

/// An id or a key of somebody else's making: kept as it is, to the last character.
pub(crate) fn opaque(field: &'static str, text: &str, max: usize) -> Checked<()> {
    if text.is_empty() {
        return broken(field, Rule::NotEmpty);
    }
    if text.chars().any(char::is_control) {
        return broken(field, Rule::NoControlCharacters);
    }
    within(field, text, max)
}

/// A name to sign in with. White space would be invisible in it, and `@` would let one user's name be another's e-mail
/// address, so neither may be in it.
pub(crate) fn username(text: &str) -> Checked<String> {
    let name = line("username", text, 100)?;
    if let Some(c) = name.chars().find(|c| c.is_whitespace() || *c == '@') {
        return broken("username", Rule::Without(c));
    }
    let name = fold_beyond_ascii(&name);
    within("username", &name, 100)?;
    // Erased users are called so; nobody may stand in the way of that.
    if name.to_ascii_lowercase().starts_with(ERASED_USERNAME) {
        return broken("username", Rule::Reserved(ERASED_USERNAME));
    }
    Ok(name)
}

/// What the usernames of erased users begin with.
pub(crate) const ERASED_USERNAME: &str = "deleted-";

/// What the storage keys of files begin with that are purged and whose owner is erased.
pub(crate) const PURGED_KEY: &str = "purged:";

/// What the files of erased users' recordings are called.
pub(crate) const ERASED_FILENAME: &str = "Deleted recording";

/// The key of a file that is yet to be written, kept as it is.
pub(crate) fn storage_key(key: &str) -> Checked<()> {
    opaque("storage_key", key, 500)?;
    // Nobody may stand in the way of a purge's confirmation.
    if key.starts_with(PURGED_KEY) {
        return broken("storage_key", Rule::Reserved(PURGED_KEY));
    }
    Ok(())
}

/// What somebody typed to sign in, for the audit log: without control characters, at most 255 characters.
pub(crate) fn typed_login(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(255).collect()
}

/// `name@domain` as RFC 5321 has it, 254 characters at most.
pub(crate) fn email(field: &'static str, text: &str) -> Checked<String> {
    let address = fold_beyond_ascii(&line(field, text, 254)?);
    let options = Options::default().without_display_text().without_domain_literal();
    if EmailAddress::parse_with_options(&address, options).is_err() {
        return broken(field, Rule::EmailAddress);
    }
    within(field, &address, 254)?;
    Ok(address)
}

/// A hash, as its function prints it. What does not look like one may be a password.
pub(crate) fn password_hash(hash: Secret) -> Checked<Secret> {
    let text = hash.expose();
    if !text.starts_with('$') || text.len() < 8 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return broken("password_hash", Rule::PasswordHash);
    }
    within("password_hash", text, 255)?;
    Ok(hash)
}

/// A number within limits.
pub(crate) fn number(field: &'static str, value: i32, at_least: i32, at_most: i32) -> Checked<i32> {
    if value < at_least {
        return broken(field, Rule::AtLeast(at_least.into()));
    }
    if value > at_most {
        return broken(field, Rule::AtMost(at_most.into()));
    }
    Ok(value)
}

/// The most rows that one sweep may take.
pub const MAX_SWEEP: u16 = 500;

/// How many rows a sweep may take.
pub(crate) fn sweep_limit(limit: u16) -> Checked<u16> {
    number("limit", limit.into(), 1, MAX_SWEEP.into()).map(|_| limit)
}

/// An age or a silence from which on something is swept: less than a second would take what is well.
pub(crate) fn age(field: &'static str, age: Duration) -> Checked<Duration> {
    duration(field, age, Duration::from_secs(1)..=Duration::MAX)
}

/// A length of time within limits, which are whole seconds.
pub(crate) fn duration(field: &'static str, length: Duration, within: RangeInclusive<Duration>) -> Checked<Duration> {
    let seconds = |limit: &Duration| i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    if length < *within.start() {
        return broken(field, Rule::AtLeast(seconds(within.start())));
    }
    if length > *within.end() {
        return broken(field, Rule::AtMost(seconds(within.end())));
    }
    Ok(length)
}

/// A number that may be absent and has no upper limit but its type's.
pub(crate) fn optional_at_least<N: Copy + Into<i64>>(
    field: &'static str,
    value: Option<N>,
    least: i64,
) -> Checked<Option<N>> {
    match value {
        Some(value) if value.into() < least => broken(field, Rule::AtLeast(least)),
        _ => Ok(value),
    }
}

/// A planned time: an end only with a start, and after it.
#[expect(clippy::type_complexity, reason = "the two times, as they were given")]
pub(crate) fn schedule(
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
) -> Checked<(Option<DateTime<Utc>>, Option<DateTime<Utc>>)> {
    let start = start.map(|at| time("scheduled_start", at)).transpose()?;
    let end = end.map(|at| time("scheduled_end", at)).transpose()?;
    match (start, end) {
        (None, Some(_)) => broken("scheduled_end", Rule::Needs("scheduled_start")),
        (Some(start), Some(end)) if end <= start => broken("scheduled_end", Rule::After("scheduled_start")),
        _ => Ok((start, end)),
    }
}

/// A time that both backends can keep and compare as text.
pub(crate) fn time(field: &'static str, at: DateTime<Utc>) -> Checked<DateTime<Utc>> {
    if !in_range(at) {
        return broken(field, Rule::Year);
    }
    Ok(to_microseconds(at))
}

/// A span of time that ends after it begins.
pub(crate) fn span(span: Range<DateTime<Utc>>) -> Checked<Range<DateTime<Utc>>> {
    let (since, until) = (time("since", span.start)?, time("until", span.end)?);
    if until <= since {
        return broken("until", Rule::After("since"));
    }
    Ok(since..until)
}

/// Times that both databases keep, and whose text on SQLite sorts as they do.
pub(crate) fn in_range(at: DateTime<Utc>) -> bool {
    (1970..=9999).contains(&at.year())
}

/// What names and addresses are compared by. See [`fold_beyond_ascii`]. U+0000, which PostgreSQL cannot even be asked about,
/// becomes another control character, which no name has either.
pub(crate) fn login_key(text: &str) -> String {
    fold_beyond_ascii(text.trim())
        .to_ascii_lowercase()
        .replace('\0', "\u{1}")
}

/// Composed (NFC), and in lower case but for A-Z. Stored names have this form, so that the databases' `lower()`, which
/// folds A-Z alone, compares all of Unicode without regard to case, on both backends alike.
fn fold_beyond_ascii(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.nfc() {
        if c.is_ascii() {
            folded.push(c);
        } else {
            folded.extend(c.to_lowercase().map(fold_variant));
        }
    }
    folded.nfc().collect()
}

/// One small letter for all that share a capital, such as the two sigmas. The dotless i stays apart from `i`, and what has a
/// capital of two letters stays as it is.
fn fold_variant(small: char) -> char {
    let single = |mut letters: std::char::ToUppercase| letters.next().filter(|_| letters.next().is_none());
    let folded = single(small.to_uppercase()).and_then(|capital| {
        let mut letters = capital.to_lowercase();
        letters.next().filter(|_| letters.next().is_none())
    });
    folded.filter(|letter| *letter != 'i').unwrap_or(small)
}

fn within(field: &'static str, text: &str, max: usize) -> Checked<()> {
    match text.chars().count() {
        actual if actual > max => broken(field, Rule::MaxLength { max, actual }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule<T: std::fmt::Debug>(checked: Checked<T>) -> Rule {
        checked.unwrap_err().rule
    }

    #[test]
    fn lines_are_trimmed_counted_in_characters_and_free_of_controls() {
        assert_eq!(line("title", "  Stand-up ", 255).unwrap(), "Stand-up");
        assert_eq!(rule(line("title", " \u{a0}\t", 255)), Rule::NotEmpty);
        assert_eq!(rule(line("title", "a\u{0}b", 255)), Rule::NoControlCharacters);
        assert_eq!(line("title", &"é".repeat(255), 255).unwrap().chars().count(), 255);
        assert_eq!(
            rule(line("title", &"é".repeat(256), 255)),
            Rule::MaxLength { max: 255, actual: 256 }
        );
    }

    #[test]
    fn usernames_cannot_pass_for_addresses() {
        assert_eq!(rule(username("ada@example.org")), Rule::Without('@'));
        assert_eq!(rule(username("ada lovelace")), Rule::Without(' '));
        assert_eq!(rule(username("Deleted-1")), Rule::Reserved("deleted-"));
    }

    #[test]
    fn what_was_typed_is_cut_at_a_character() {
        assert_eq!(typed_login(&"é\u{0}\n".repeat(300)), "é".repeat(255));
    }

    #[test]
    fn case_and_composition_do_not_tell_names_apart() {
        assert_eq!(username("ÄDA").unwrap(), "äDA");
        assert_eq!(login_key("A\u{308}da"), login_key("ÄDA"));
        assert_eq!(username("ΟΔΟΣ").unwrap(), username("οδος").unwrap());
        assert_ne!(login_key("ılk"), login_key("ilk"));
        assert_eq!(username("Weiß").unwrap(), "Weiß");
    }

    #[test]
    fn addresses_have_a_shape() {
        assert_eq!(email("email", " ada@example.org ").unwrap(), "ada@example.org");
        for bad in [
            "ada",
            "ada@",
            "@example.org",
            "a b@example.org",
            "ada@@example.org",
            "Ada <ada@example.org>",
        ] {
            assert_eq!(rule(email("email", bad)), Rule::EmailAddress, "{bad}");
        }
    }

    #[test]
    fn a_password_is_no_hash() {
        assert_eq!(rule(password_hash(Secret::new("correct horse"))), Rule::PasswordHash);
        assert!(password_hash(Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA")).is_ok());
    }

    #[test]
    fn a_schedule_ends_after_it_starts() {
        let t = DateTime::from_timestamp_micros;
        assert_eq!(rule(schedule(None, t(5))), Rule::Needs("scheduled_start"));
        assert_eq!(rule(schedule(t(5), t(5))), Rule::After("scheduled_start"));
        assert!(schedule(t(5), t(6)).is_ok() && schedule(t(5), None).is_ok());
    }
}
