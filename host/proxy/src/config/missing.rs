//! All keys that are missing in a table. serde names the first one and stops, so that is given
//! something that it takes, and the next one is found.

use std::ops::Range;

use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::Spanned;
use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue, Error};

/// Where no file has a value.
const NOWHERE: Range<usize> = usize::MAX - 1..usize::MAX;

/// The key that is missing, if that is what is wrong.
pub(super) fn missing_key(error: &Error) -> Option<&str> {
    error.message().strip_prefix("missing field `")?.strip_suffix('`')
}

/// The keys of a `T` that are missing beside the one that `error` is about. `value` is all that was
/// read.
pub(super) fn also_missing<T: DeserializeOwned>(
    value: &Spanned<DeValue<'_>>,
    error: &Error,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut value = value.clone();
    let mut key = missing_key(error).map(str::to_owned);
    while let (Some(missing), Some(place)) = (key, error.span()) {
        let others = stand_ins().into_iter().filter_map(|stand_in| {
            let mut value = value.clone();
            insert(&mut value, &place, &missing, stand_in);
            let error = T::deserialize(value.clone().into_deserializer()).err()?;
            // Elsewhere it is about something else, if only the stand-in.
            let is_here = error.span() == Some(place.clone());
            Some((missing_key(&error).filter(|_| is_here)?.to_owned(), value))
        });
        let other = others.into_iter().next();
        key = other.map(|(other, with_stand_in)| {
            value = with_stand_in;
            all.push(other.clone());
            other
        });
    }
    all
}

/// A value of each type that a key may have.
fn stand_ins() -> [DeValue<'static>; 6] {
    [
        DeValue::String("1s".into()),
        DeValue::Integer(DeInteger::default()),
        DeValue::Float(DeFloat::default()),
        DeValue::Boolean(true),
        DeValue::Array(DeArray::new()),
        DeValue::Table(DeTable::new()),
    ]
}

/// Puts a value under a key of the table that is at this place.
fn insert<'t>(
    value: &mut Spanned<DeValue<'t>>,
    place: &Range<usize>,
    key: &str,
    inserted: DeValue<'t>,
) {
    let is_here = value.span() == *place;
    match value.get_mut() {
        DeValue::Table(table) if is_here => {
            let key = Spanned::new(NOWHERE, key.to_owned().into());
            table.insert(key, Spanned::new(NOWHERE, inserted));
        }
        DeValue::Table(table) => {
            table.iter_mut().for_each(|(_, value)| insert(value, place, key, inserted.clone()));
        }
        DeValue::Array(array) => {
            array.iter_mut().for_each(|value| insert(value, place, key, inserted.clone()));
        }
        _ => {}
    }
}
