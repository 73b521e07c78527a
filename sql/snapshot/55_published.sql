-- one row per target of the split published
-- part                            'validation' or 'test'
-- user, item, event, event_time   as in 50_target_events.sql
-- history_end                     the target itself: all that stands before it, even at the same time
-- There is no validation item: the published code chooses the best epoch on the test item, so both parts are the same.
-- A user without a history is not judged.
with parts as (
    select unnest(['validation', 'test']) as part
),

final as (
    select
        parts.part,
        held_out.*,
        held_out.event as history_end
    from held_out
    inner join offsets on held_out.user = offsets.user
    cross join parts
    where held_out.event > offsets.first_event
)

select * from final
