-- one row per event of one partition, in the published columns and in a total order: equal content, equal file
with final as (
    select
        user_id,
        item_id,
        behavior,
        event_time,
        category_id,
        value,
        cast(source_file as varchar) as source_file,
        source_row
    from pooled
    anti join duplicates using (source_file, source_row)
    where
        event_time >= make_timestamptz(getvariable('first_us'))
        and event_time < make_timestamptz(getvariable('end_us'))
)

select * from final
order by
    user_id,
    event_time,
    item_id,
    behavior,
    value nulls last,
    category_id nulls last,
    source_file,
    source_row
