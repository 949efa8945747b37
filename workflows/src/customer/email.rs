//! Email addresses as the shop accepts them: plain ASCII, at most 254 characters, lower-cased.

/// Not an address the shop can send mail to. Never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an email address such as name@example.org")]
pub struct InvalidEmail;

/// Checks and lower-cases an address.
pub fn accept(raw: &str) -> Result<String, InvalidEmail> {
    let address = raw.trim();
    let (local, domain) = address.rsplit_once('@').ok_or(InvalidEmail)?;
    let is_local = (1..=64).contains(&local.len())
        && local.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
                })
        });
    let labels: Vec<&str> = domain.split('.').collect();
    let is_domain = labels.len() >= 2
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
        && labels
            .last()
            .is_some_and(|top| top.len() >= 2 && !top.bytes().all(|b| b.is_ascii_digit()));
    if address.len() <= 254 && is_local && is_domain {
        Ok(address.to_ascii_lowercase())
    } else {
        Err(InvalidEmail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_cased_and_impossible_ones_refused() {
        assert_eq!(
            accept(" Ada.Lovelace+shop@Example.ORG "),
            Ok("ada.lovelace+shop@example.org".into())
        );
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@example",
            "ada@-example.org",
            "a..b@example.org",
            ".a@example.org",
            "ada@example.org\r\nBcc: x@example.org",
            "ada lovelace@example.org",
            "ada@exam\u{0}ple.org",
            "ada@127.0.0.1",
            "a@b@c d.org",
        ] {
            assert_eq!(accept(bad), Err(InvalidEmail), "{bad:?}");
        }
        assert_eq!(accept(&format!("{}@example.org", "a".repeat(65))), Err(InvalidEmail));
    }
}
