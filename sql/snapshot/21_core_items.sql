-- one row per item with enough events by the users that remain (one round of the k-core)
-- item_id
with remaining as (
    select log.item_id from log
    semi join core_users using (user_id)
),

final as (
    select item_id from remaining
    group by item_id
    having count(*) >= getvariable('core_item')
)

select * from final
