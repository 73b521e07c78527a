-- one row: how much of the known numbering the events no longer bear out
-- users_gone    known users without events
-- items_gone    known items without events
-- items_later   known items whose first event is now a later one: earlier events were taken away
with gone as (
    select
        (select count(*) from known_users anti join users using (user_id)) as users_gone,
        (select count(*) from known_items anti join items using (item_id)) as items_gone
),

later as (
    select count(*) as items_later from known_items
    inner join items on known_items.item = items.item
    where items.first_seen > known_items.first_seen
),

final as (
    select
        gone.users_gone,
        gone.items_gone,
        later.items_later
    from gone
    cross join later
)

select * from final
