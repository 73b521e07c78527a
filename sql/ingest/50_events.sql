-- one row per row that may be an event of the partitions at hand, partition by partition, in a total order
-- Rows of equal user, item, behavior and time stand together, first the one that is the event; the others are its
-- duplicates. The order is that of the published files: equal content, equal file.
-- event_date                first day of the partition; null where there is only one partition
-- first_hash, second_hash   of the event's content; their sums over any set of events make its digest
with hashed as (
    select
        *,
        case when getvariable('several') then partition_of(event_time) end as event_date,
        hash(user_id, item_id, cast(behavior as varchar), event_time, category_id, value) as first_hash
    from pooled
),

final as (
    select
        event_date,
        user_id,
        item_id,
        behavior,
        event_time,
        category_id,
        value,
        source_file,
        source_row,
        first_hash,
        hash(first_hash, user_id) as second_hash
    from hashed
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
