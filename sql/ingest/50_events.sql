-- one row per row that may be an event of the partitions at hand, partition by partition, in a total order
-- Rows of equal user, item, behavior and time stand together, first the one that is the event; the others are its
-- duplicates. The order is that of the published files: equal content, equal file.
-- event_date   first day of the partition
with final as (
    select
        partition_of(event_time) as event_date,
        user_id,
        item_id,
        behavior,
        event_time,
        category_id,
        value,
        source_file,
        source_row
    from pooled
)

select * from final
order by
    event_date,
    user_id,
    event_time,
    item_id,
    behavior,
    value nulls last,
    category_id nulls last,
    source_file,
    source_row
