-- one row per user whose last target event the published code holds out: three or more events of any behavior
-- user, item, event, event_time   as in 50_target_events.sql
-- The published code reads a file without times: "last" and "before" are places in a user's sequence, so events of one
-- time are kept apart by their order (there the file's, here the neutral one). From the held-out event on nothing of
-- the user is kept: what follows it is neither trained on nor in the history. Users with fewer events are trained on
-- whole, their target events included.
with final as (
    select
        target_events.user,
        target_events.item,
        target_events.event,
        target_events.event_time
    from target_events
    inner join users on target_events.user = users.user
    where users.events >= 3
    qualify row_number() over (partition by target_events.user order by target_events.event desc) = 1
)

select * from final
