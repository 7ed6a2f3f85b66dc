//! The tables of the file, and what it says of itself.

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, TableError,
    WriteTransaction,
};

use super::{StoreError, Table};

pub(super) type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Facts => "facts",
        Table::Objects => "objects",
        Table::Collections => "collections",
        Table::Members => "members",
        Table::Grants => "grants",
        Table::Responses => "responses",
        Table::Bodies => "bodies",
        Table::Meta => "meta",
    })
}

/// `None`: nothing was ever written to it.
pub(super) fn rows(
    table: Table,
    transaction: &ReadTransaction,
) -> Result<Option<Rows>, StoreError> {
    match transaction.open_table(definition(table)) {
        Ok(rows) => Ok(Some(rows)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the file says of itself.
const STORE: TableDefinition<'static, &str, u64> = TableDefinition::new("store");
/// How tables and journal are laid out, and what is in them.
const VERSION: &str = "version";
/// The last commit that is in the tables; those after it are in the journal.
const FOLDED: &str = "folded";

/// The layout that is written here. Raise it with any change to it, as `record::VERSION` with any change to a record.
const CURRENT: u64 = 5;
/// That of every store which does not say.
const UNTOLD: u64 = 4;

/// Makes sure that the file can be read here. A new one becomes so.
pub(super) fn check_version(database: &Database) -> Result<(), StoreError> {
    let found = {
        let transaction = database.begin_read()?;
        let is_new = transaction.list_tables()?.next().is_none();
        match told(&transaction, VERSION)? {
            None if is_new => None,
            found => Some(found.unwrap_or(UNTOLD)),
        }
    };
    match found {
        Some(CURRENT) => Ok(()),
        None => {
            let transaction = begin_write(database)?;
            transaction.open_table(STORE)?.insert(VERSION, CURRENT)?;
            transaction.commit()?;
            Ok(())
        }
        // Here is the place for a migration. There is none from version 4: that store is set aside, and what it held is learnt anew.
        Some(other) => Err(StoreError::Version {
            found: other,
            read: CURRENT,
        }),
    }
}

pub(super) fn folded(transaction: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(told(transaction, FOLDED)?.unwrap_or(0))
}

pub(super) fn set_folded(transaction: &WriteTransaction, commit: u64) -> Result<(), StoreError> {
    transaction.open_table(STORE)?.insert(FOLDED, commit)?;
    Ok(())
}

fn told(transaction: &ReadTransaction, name: &str) -> Result<Option<u64>, StoreError> {
    match transaction.open_table(STORE) {
        Ok(store) => Ok(store.get(name)?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Every write goes through here.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    // It costs 13 KB and a sync for each commit. Without it all of a file that was not closed is read before it can be used: 0.5 s for
    // 256 MB in memory, and as long as the disk takes where it is not.
    transaction.set_quick_repair(true);
    Ok(transaction)
}
