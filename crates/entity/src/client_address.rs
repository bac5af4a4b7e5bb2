//! The network address of a client: `inet` on PostgreSQL, text on SQLite.

use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, Value, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, DbErr, QueryResult, TryGetError, TryGetable};

/// Where a request came from. Always a single host, never a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ClientAddress(pub IpAddr);

impl FromStr for ClientAddress {
    type Err = AddrParseError;

    /// PostgreSQL prints an `inet` that was cast to text with its prefix length (`10.1.2.3/32`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.split_once('/').map_or(text, |(host, _)| host);
        host.parse().map(Self)
    }
}

impl std::fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ClientAddress> for Value {
    fn from(address: ClientAddress) -> Self {
        address.0.to_string().into()
    }
}

impl TryGetable for ClientAddress {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let text = String::try_get_by(row, index)?;
        text.parse()
            .map_err(|_| TryGetError::DbErr(DbErr::Type(format!("not a network address: {text}"))))
    }
}

impl ValueType for ClientAddress {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let text = <String as ValueType>::try_from(value)?;
        text.parse().map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        "ClientAddress".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::String
    }

    /// Declared as an enum, which makes SeaORM write the casts from and to text that PostgreSQL asks for.
    fn column_type() -> ColumnType {
        ColumnType::Enum {
            name: "inet".into(),
            variants: Vec::new(),
        }
    }
}

impl Nullable for ClientAddress {
    fn null() -> Value {
        Value::String(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_host_are_read() {
        for text in ["10.1.2.3", "10.1.2.3/32"] {
            assert_eq!(text.parse(), Ok(ClientAddress([10, 1, 2, 3].into())));
        }
        assert_eq!(
            "2001:db8::1/128".parse::<ClientAddress>().unwrap().to_string(),
            "2001:db8::1"
        );
        assert!("elsewhere".parse::<ClientAddress>().is_err());
    }
}
