-- one row per event of the k-core (view); columns of 10_log.sql
with final as (
    select log.* from log
    semi join core_users using (user_id)
    semi join core_items using (item_id)
)

select * from final
