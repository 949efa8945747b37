//! Words: enums that are stored, logged and sent as text.

/// Makes an enum of words. Each variant stands beside its word, which is the same in SQL, JSON, logs and the API.
///
/// A word that a CHECK constraint bounds is decided by the schema: a release reads a new word before a later release's migration lets it be
/// written. If no constraint bounds the words, `.. Other` adds a variant for the words of newer builds, so that none of them hides a row.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word, as in SQL, JSON, logs and the API.
            #[must_use]
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::base::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::base::words::UnknownWord {
                        word: word.to_owned(),
                        known: &[$($word),+],
                    }),
                }
            }
        }

        $crate::base::words::words! { @text $name }
    };
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident = $word:literal,)+
            .. $(#[$other_doc:meta])* $other:ident
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$doc])* $variant,)+
            $(#[$other_doc])* $other(String),
        }

        impl $name {
            /// The word, as in SQL, JSON, logs and the API.
            #[must_use]
            $vis fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::$other(word) => word,
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Ok(match word {
                    $($word => Self::$variant,)+
                    _ => Self::$other(word.to_owned()),
                })
            }
        }

        $crate::base::words::words! { @text $name }
    };
    (@text $name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        impl sqlx::Type<sqlx::Postgres> for $name {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <str as sqlx::Type<sqlx::Postgres>>::type_info()
            }

            fn compatible(found: &sqlx::postgres::PgTypeInfo) -> bool {
                <str as sqlx::Type<sqlx::Postgres>>::compatible(found)
            }
        }

        impl<'r> sqlx::Decode<'r, sqlx::Postgres> for $name {
            fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<'r, sqlx::Postgres>>::decode(value)?.parse()?)
            }
        }
    };
}

pub(crate) use words;

/// A word that this build does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is none of {}", .known.join(", "))]
pub struct UnknownWord {
    pub(crate) word: String,
    pub(crate) known: &'static [&'static str],
}

#[cfg(test)]
mod tests {
    words! {
        /// A colour.
        enum Colour {
            /// As blood.
            Red = "red",
            /// As grass.
            Green = "light green",
            ..
            /// One of a newer build.
            Other
        }
    }

    words! {
        /// A size.
        enum Size {
            /// Not large.
            Small = "small",
            /// Not small.
            Large = "large",
        }
    }

    #[test]
    fn a_word_is_read_as_it_was_written_and_an_unknown_one_is_kept_or_refused() {
        assert_eq!(serde_json::to_string(&Colour::Green).ok().as_deref(), Some("\"light green\""));
        for colour in [Colour::Red, Colour::Green, Colour::Other("blue".to_owned())] {
            assert_eq!(colour.as_str().parse(), Ok(colour.clone()));
        }
        assert_eq!(format!("{:<6}|", Size::Small), "small |");
        let refused = "huge".parse::<Size>().map_err(|error| error.to_string());
        assert_eq!(refused, Err("\"huge\" is none of small, large".to_owned()));
    }
}
