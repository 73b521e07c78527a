-- one row per user that the best epoch is chosen on in the split published
-- user, item, event, event_time   as in 50_target_events.sql
-- The published code has no validation item and chooses on the held-out event. Where validation is wanted, it is the
-- user's target event before that; a user without one, or with nothing before it, has none.
with as_published as (
    select
        user,
        item,
        event,
        event_time
    from held_out
    where not getvariable('own_validation')
),

earlier as (
    select
        target_events.user,
        target_events.item,
        target_events.event,
        target_events.event_time
    from target_events
    inner join held_out on target_events.user = held_out.user
    inner join offsets on target_events.user = offsets.user
    where
        getvariable('own_validation')
        and target_events.event < held_out.event
        and target_events.event > offsets.first_event
    qualify row_number() over (partition by target_events.user order by target_events.event desc) = 1
),

final as (
    select * from as_published
    union all
    select * from earlier
)

select * from final
