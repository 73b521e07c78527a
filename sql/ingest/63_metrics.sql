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
        count(*) filter (where value not between 0.5 and 5) as value_out_of_range,
        count(*) filter (where outside_window) as events_outside_window,
        strftime(to_timestamp(min(epoch(event_time))), '%Y-%m-%dT%H:%M:%SZ') as first_event,
        strftime(to_timestamp(max(epoch(event_time))), '%Y-%m-%dT%H:%M:%SZ') as last_event
    from candidates
    where reason is null
)

select * from final
