-- one row per event of one partition, in the published columns and in a total order: equal content, equal file
with final as (
    select
        user_id,
        item_id,
        cast(behavior as varchar) as behavior,
        event_time,
        category_id,
        value,
        getvariable('files')[file_number] as source_file,
        source_row
    from batch
    where event_date = getvariable('event_date')
)

select * from final
order by user_id, event_time, item_id, behavior
