-- one row per row of one's own Parquet file (view)
-- fault   null: a row of Parquet is whole; the fields are texts, null where the file has none of the kind
-- line    the row as JSON
-- A field that the log does not have is picked from the user's column, so that there is one, and left empty.
with picked as (
    select
        source_row,
        to_json(rows) as line,
        cast(columns(lambda c: c = getvariable('table_user')) as varchar) as user_text,
        cast(columns(lambda c: c = getvariable('table_item')) as varchar) as item_text,
        cast(
            columns(lambda c: c = coalesce(getvariable('table_behavior'), getvariable('table_user'))) as varchar
        ) as behavior_text,
        cast(columns(lambda c: c = getvariable('table_time')) as varchar) as time_text,
        cast(
            columns(lambda c: c = coalesce(getvariable('table_category'), getvariable('table_user'))) as varchar
        ) as category_text,
        cast(
            columns(lambda c: c = coalesce(getvariable('table_value'), getvariable('table_user'))) as varchar
        ) as value_text
    from rows
),

final as (
    select
        source_row,
        line,
        cast(null as varchar) as fault,
        user_text,
        item_text,
        if(getvariable('table_behavior') is null, null, behavior_text) as behavior_text,
        time_text,
        if(getvariable('table_category') is null, null, category_text) as category_text,
        if(getvariable('table_value') is null, null, value_text) as value_text
    from picked
)

select * from final
