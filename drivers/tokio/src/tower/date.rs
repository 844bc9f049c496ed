//! In: the time. Out: the value of a Date field (RFC 9110 §5.6.7).

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use vestibule::Instant;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The Date field that was said last, and until when it is to be said: it changes once a second. In between nobody asks the system what time it
/// is, for that costs more than all else that is done with a Date; if its clock is set, the field follows within a second.
#[derive(Debug, Default)]
pub(super) struct Date {
    until: Instant,
    text: String,
}

impl Date {
    /// Now, as `Thu, 01 Jan 1970 00:00:00 GMT`. `now` is what the connection's clock says.
    pub(super) fn at(&mut self, now: Instant) -> &str {
        if now >= self.until || self.text.is_empty() {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.until = now.after(Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into()));
            self.text = format(since.as_secs());
        }
        &self.text
    }
}

fn format(second: u64) -> String {
    let (days, time) = (second / 86_400, second % 86_400);
    // The calendar of 400 years that begins on 1 March of a year that 400 divides: leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 2 } else { from_march - 10 };
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let name = |names: &[&'static str], at: u64| names.get(at as usize).copied().unwrap_or_default();
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days % 7),
        name(&MONTHS, month),
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // the example of RFC 9110 §5.6.7
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), // no leap year
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        ] {
            assert_eq!(format(second), text);
        }
    }
}
