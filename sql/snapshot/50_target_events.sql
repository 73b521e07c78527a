-- one row per event that may be a target: of the target behavior, and where items do not recur the user's first
-- use of the item
-- user, item, event_time
-- event   row of events
with final as (
    select
        user,
        item,
        event,
        event_time
    from events
    where
        behavior = getvariable('target')
        and used_up = cast(list_contains(getvariable('consuming'), behavior) as integer)
)

select * from final
