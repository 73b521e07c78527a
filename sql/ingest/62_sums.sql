-- one row: two sums over hashes of events
-- The sums do not depend on order and add up over disjoint sets of events: together they are the digest of the content.
with final as (
    select
        sum(hash(user_id, item_id, cast(behavior as varchar), event_time, category_id, value)) as first_sum,
        sum(hash('second', user_id, item_id, cast(behavior as varchar), event_time, category_id, value)) as second_sum
    from events
)

select * from final
