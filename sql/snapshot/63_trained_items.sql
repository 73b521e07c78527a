-- one row per item that occurs in anyone's training range
-- item
-- Counting what is outside the ranges is less work: it is little, and most items are inside.
with held_out as (
    select
        events.item,
        count(*) as events
    from events
    inner join training on events.user = training.user
    where events.event >= training.train_end
    group by events.item
),

final as (
    select items.item from items
    left join held_out on items.item = held_out.item
    where items.events > coalesce(held_out.events, 0)
)

select * from final
