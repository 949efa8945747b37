//! A value of each type of field, for tests that need one of every event.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Sealed;
use crate::money::{Currency, Money};

pub(super) trait Sample {
    fn sample() -> Self;
}

impl Sample for Money {
    fn sample() -> Self {
        Self::zero(Currency::USD)
    }
}

impl Sample for Sealed {
    fn sample() -> Self {
        Self::from_text("v1".to_owned())
    }
}

macro_rules! defaults {
    ($($type:ty),+) => {
        $(impl Sample for $type {
            fn sample() -> Self {
                Self::default()
            }
        })+
    };
}

defaults!(Uuid, i32, String, &'static str, DateTime<Utc>);

impl<T> Sample for Option<T> {
    fn sample() -> Self {
        None
    }
}

impl<T> Sample for Vec<T> {
    fn sample() -> Self {
        Self::new()
    }
}

impl<K, V> Sample for BTreeMap<K, V> {
    fn sample() -> Self {
        Self::new()
    }
}
