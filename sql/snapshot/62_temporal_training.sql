-- one row per user: the training range of the split temporal
-- user, first_event
-- train_end   training ends before validation_from, for everyone
with before as (
    select
        events.user,
        count(*) as events
    from events
    cross join temporal_bounds
    where events.event_time < temporal_bounds.validation_from
    group by events.user
),

final as (
    select
        offsets.user,
        offsets.first_event,
        offsets.first_event + coalesce(before.events, 0) as train_end
    from offsets
    left join before using (user)
)

select * from final
