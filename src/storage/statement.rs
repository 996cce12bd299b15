//! Statements whose text never changes, prepared once per connection.
//!
//! Diesel caches a plain insert by its type, but prepares every upsert and every update anew, which costs twenty times
//! what SQLite needs to run it. A [`statement!`] is a struct that lists its own text and values and says that its type
//! alone identifies it.

/// Defines a struct of values and the statement that takes them: each value after the text that stands before it.
macro_rules! statement {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident<$life:lifetime> {
            $($before:literal $field:ident: $type:ty => $sql_type:ty,)+
        }
        $end:literal
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name<$life> {
            $(pub(super) $field: $type,)+
        }

        impl ::diesel::query_builder::QueryId for $name<'_> {
            type QueryId = $name<'static>;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl ::diesel::query_builder::QueryFragment<::diesel::sqlite::Sqlite> for $name<'_> {
            fn walk_ast<'b>(
                &'b self,
                mut out: ::diesel::query_builder::AstPass<'_, 'b, ::diesel::sqlite::Sqlite>,
            ) -> ::diesel::QueryResult<()> {
                $(
                    out.push_sql($before);
                    out.push_bind_param::<$sql_type, _>(&self.$field)?;
                )+
                out.push_sql($end);
                Ok(())
            }
        }

        impl<Connection> ::diesel::RunQueryDsl<Connection> for $name<'_> {}
    };
}

pub(super) use statement;
