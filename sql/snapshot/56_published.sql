-- one row per target of the split published
-- part                            'validation' or 'test'
-- user, item, event, event_time   as in 50_target_events.sql
-- history_end                     the target itself: all that stands before it, even at the same time
-- A user without a history is not judged.
with parts as (
    select
        'test' as part,
        user,
        item,
        event,
        event_time
    from held_out
    union all
    select
        'validation' as part,
        user,
        item,
        event,
        event_time
    from epoch_choice
),

final as (
    select
        parts.*,
        parts.event as history_end
    from parts
    inner join offsets on parts.user = offsets.user
    where parts.event > offsets.first_event
)

select * from final
