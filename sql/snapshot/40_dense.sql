-- one row per event (view)
-- user, item   dense ids
-- behavior     code
-- event_time
-- place        neutral order of a user's events of one time: funnel rank of the behavior (3 bits), then a hash of user,
--              item and behavior (61 bits, so two items fall together once in 10^18 times). One number, because a sort
--              key of more than 24 bytes takes twice as long where memory is short.
with final as (
    select
        users.user,
        items.item,
        kept.behavior,
        kept.event_time,
        (cast(kept.behavior as ubigint) << 61) | (hash(hash(kept.user_id, kept.item_id, kept.behavior)) >> 3) as place
    from kept
    inner join users on kept.user_id = users.user_id
    inner join items on kept.item_id = items.item_id
)

select * from final
