-- one row: what Great Expectations judges, over the events that would be published
with final as (
    select
        count(*) as events,
        count(distinct user_id) as users,
        count(distinct item_id) as items,
        count(*) - count(user_id) as null_user_id,
        count(*) - count(item_id) as null_item_id,
        count(*) - count(behavior) as null_behavior,
        count(*) - count(event_time) as null_event_time,
        min(value) as min_value,
        max(value) as max_value,
        count(*) filter (
            where epoch_us(event_time) < getvariable('since') or epoch_us(event_time) >= getvariable('until')
        ) as events_outside_window,
        strftime(to_timestamp(epoch(min(event_time))), '%Y-%m-%dT%H:%M:%SZ') as first_event,
        strftime(to_timestamp(epoch(max(event_time))), '%Y-%m-%dT%H:%M:%SZ') as last_event
    from read_parquet(getvariable('events'), hive_partitioning = false)
)

select * from final
