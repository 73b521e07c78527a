-- one row per user, item and behavior that may not fit its HBI slot: its user has more than 32,767 events
-- user_id, item_id, behavior
-- events    number of the user's events of this behavior with this item
-- of_pair   number of the user's events with this item
with heavy_users as (
    select user_id from users
    where events > 32767
),

counted as (
    select
        user_id,
        item_id,
        behavior,
        count(*) as events
    from kept
    semi join heavy_users using (user_id)
    group by all
),

final as (
    select
        *,
        sum(events) over (partition by user_id, item_id) as of_pair
    from counted
)

select * from final
