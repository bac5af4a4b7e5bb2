//! The network address of a client: `inet` on PostgreSQL, text on SQLite.

use std::net::IpAddr;

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, Value, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, DbErr, QueryResult, TryGetError, TryGetable};

/// Where a request came from. Always a single host, never a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// PostgreSQL prints an `inet` that was cast to text with its prefix length (`10.1.2.3/32`).
    fn parse(text: &str) -> Option<Self> {
        let host = text.split_once('/').map_or(text, |(host, _)| host);
        host.parse().ok().map(Self)
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
        Self::parse(&text).ok_or_else(|| TryGetError::DbErr(DbErr::Type(format!("not a network address: {text}"))))
    }
}

impl ValueType for ClientAddress {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        Self::parse(&<String as ValueType>::try_from(value)?).ok_or(ValueTypeErr)
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
            assert_eq!(ClientAddress::parse(text), Some(ClientAddress([10, 1, 2, 3].into())));
        }
        assert_eq!(
            ClientAddress::parse("2001:db8::1/128").unwrap().to_string(),
            "2001:db8::1"
        );
        assert_eq!(ClientAddress::parse("elsewhere"), None);
    }
}
