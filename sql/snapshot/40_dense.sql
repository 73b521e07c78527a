-- one row per event (view)
-- user, item   dense ids
-- behavior     code
-- event_time
-- tie          neutral order of events of one behavior at one time: a hash of user, item and behavior
with final as (
    select
        users.user,
        items.item,
        kept.behavior,
        kept.event_time,
        hash(hash(kept.user_id, kept.item_id, kept.behavior)) as tie
    from kept
    inner join users on kept.user_id = users.user_id
    inner join items on kept.item_id = items.item_id
)

select * from final
