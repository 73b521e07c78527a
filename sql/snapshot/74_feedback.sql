-- one row per user, time and item that the user said yes or no to at that time
-- user, item, event_time
-- label   1 if anything said of the item at that time was a yes
-- Where items do not recur, only the time of a user's first use of an item counts, as for targets
-- (50_target_events.sql).
with said as (
    select
        user,
        item,
        event_time,
        list_contains(getvariable('positive'), behavior) as yes,
        used_up - cast(list_contains(getvariable('consuming'), behavior) as integer) as used_before
    from events
    where list_contains(getvariable('positive'), behavior) or list_contains(getvariable('negative'), behavior)
),

final as (
    select
        user,
        item,
        event_time,
        cast(bool_or(yes) as utinyint) as label
    from said
    group by user, item, event_time
    having min(used_before) = 0
)

select * from final
