-- one row per user with enough events with the items that remain (one round of the k-core)
-- user_id
with remaining as (
    select log.user_id from log
    semi join core_items using (item_id)
),

final as (
    select user_id from remaining
    group by user_id
    having count(*) >= getvariable('core_user')
)

select * from final
