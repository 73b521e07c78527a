-- one row per partition: rows, first and last time in microseconds since 1970, and two sums over hashes of its events
-- The sums do not depend on order and add up over partitions: together they are the digest of the content.
with final as (
    select
        event_date,
        count(*) as row_count,
        epoch_us(min(event_time)) as first_time,
        epoch_us(max(event_time)) as last_time,
        sum(hash(user_id, item_id, cast(behavior as varchar), event_time, category_id, value)) as first_sum,
        sum(hash('second', user_id, item_id, cast(behavior as varchar), event_time, category_id, value)) as second_sum
    from candidates
    where reason is null
    group by event_date
)

select * from final
order by event_date
