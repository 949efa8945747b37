//! TODO

use chrono::SecondsFormat;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().expect("a test's time reads")
}

/// The ticks in Berlin after the first time and up to the second.
fn berlin(cron: &str, after: &str, until: &str) -> Vec<String> {
    let ticks = Ticks::of(cron, "Europe/Berlin").expect("it reads");
    let mut at = utc(after);
    let mut all = Vec::new();
    while let Some(tick) = ticks.after(at).filter(|tick| *tick <= utc(until)) {
        all.push(tick.to_rfc3339_opts(SecondsFormat::Secs, true));
        at = tick;
    }
    all
}

#[test]
fn a_fixed_time_that_does_not_exist_that_day_ticks_at_the_first_moment_that_does() {
    // 29 March 2026: 02:00 CET is 03:00 CEST, at 01:00 UTC.
    assert_eq!(
        berlin("30 2 * * *", "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z"),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn an_interval_leaves_out_what_does_not_exist() {
    assert_eq!(
        berlin("*/30 * * * *", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
    );
}

#[test]
fn a_fixed_time_that_comes_twice_ticks_once_at_its_first_occurrence() {
    // 25 October 2026: 03:00 CEST is 02:00 CET, at 01:00 UTC.
    assert_eq!(
        berlin("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
}

#[test]
fn an_interval_goes_on_through_both_hours() {
    assert_eq!(
        berlin("0 * * * *", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z"),
        ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
    );
}

#[test]
fn what_is_due_after_an_outage_over_a_change_of_the_clocks_is_what_would_have_ticked() {
    for (cron, from, to) in [
        ("30 2 * * *", "2026-03-27T00:00:00Z", "2026-03-31T00:00:00Z"),
        ("30 2 * * *", "2026-10-23T00:00:00Z", "2026-10-27T00:00:00Z"),
        ("*/20 * * * *", "2026-03-29T00:00:00Z", "2026-03-29T04:00:00Z"),
        ("*/20 * * * *", "2026-10-25T00:00:00Z", "2026-10-25T04:00:00Z"),
    ] {
        let ticks = Ticks::of(cron, "Europe/Berlin").expect("it reads");
        let (due, left_out) = ticks.due(utc(from), utc(to), CatchUp::All(1_000));
        assert_eq!(left_out, None);
        let due = due.iter().map(|tick| tick.to_rfc3339_opts(SecondsFormat::Secs, true));
        let before = (utc(from) - Duration::seconds(1)).to_rfc3339();
        assert_eq!(due.collect::<Vec<_>>(), berlin(cron, &before, to), "{cron} from {from}");
    }
}

#[test]
fn what_was_missed_is_made_up_for_by_policy_and_what_is_on_time_always_ticks() {
    let ticks = Ticks::of("0 * * * *", "UTC").expect("it reads");
    let (next, now) = (utc("2026-01-01T01:00:00Z"), utc("2026-01-01T05:00:10Z"));
    let hours = |catch_up| {
        let (due, left_out) = ticks.due(next, now, catch_up);
        let hour = |tick: &DateTime<Utc>| tick.format("%H").to_string();
        (due.iter().map(hour).collect::<Vec<_>>(), left_out.as_ref().map(hour))
    };
    let is = |due: &[&str], left_out: Option<&str>| {
        let due = due.iter().map(|hour| (*hour).to_owned()).collect::<Vec<_>>();
        (due, left_out.map(str::to_owned))
    };
    assert_eq!(hours(CatchUp::Skip), is(&["05"], Some("04")));
    assert_eq!(hours(CatchUp::One), is(&["04", "05"], Some("03")));
    assert_eq!(hours(CatchUp::All(2)), is(&["03", "04", "05"], Some("02")));
    assert_eq!(hours(CatchUp::All(100)), is(&["01", "02", "03", "04", "05"], None));
}
