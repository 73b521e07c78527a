-- one row per target of the split temporal
-- part                            'validation' or 'test'
-- user, item, event, event_time   as in 50_target_events.sql
with final as (
    select
        case
            when target_events.event_time < temporal_bounds.test_from then 'validation'
            else 'test'
        end as part,
        target_events.user,
        target_events.item,
        target_events.event,
        target_events.event_time
    from target_events
    cross join temporal_bounds
    where target_events.event_time >= temporal_bounds.validation_from
)

select * from final
