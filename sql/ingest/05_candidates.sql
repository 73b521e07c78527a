-- one row per line of the delivery that is no header; columns as in 30_candidates
-- and one row of nulls, file 0: DuckDB writes a column differently where a table's statistics say it holds no null, and
-- an event file must not depend on the rows that are not in it
create table candidates (
    file_number usmallint,
    source_row bigint,
    reason reason,
    outside_window boolean,
    user_id bigint,
    item_id bigint,
    behavior behavior,
    event_time timestamptz,
    category_id bigint,
    value double,
    event_date date,
    raw varchar
);

insert into candidates (file_number, reason) values (0, 'blank');
