-- one row per line of the delivery that is no header; columns as in 30_candidates
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
)
