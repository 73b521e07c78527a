-- one row of nulls in the columns of an event
-- DuckDB writes a column differently where it knows that it holds no null, and an event file must not depend on what
-- else is known: with this row among those to choose from, nothing is.
create table nothing (
    user_id bigint,
    item_id bigint,
    behavior behavior,
    event_time timestamptz,
    category_id bigint,
    value double,
    source_file source_file,
    source_row bigint
);

insert into nothing (value) values (null);
