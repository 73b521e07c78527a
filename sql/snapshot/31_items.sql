-- one row per item
-- item          dense id, 0-based, by (first_seen, item_id): the catalog at a time is the first n ids
-- item_id       as the source has it
-- category_id   category of the item when it was first seen (the lowest, if several)
-- first_seen    time of the item's first event by anyone
-- events        number of the item's events
with summary as (
    select
        item_id,
        min(event_time) as first_seen,
        count(*) as events
    from kept
    group by item_id
),

first_categories as (
    select
        kept.item_id,
        min(kept.category_id) as category_id
    from kept
    inner join summary
        on kept.item_id = summary.item_id and kept.event_time = summary.first_seen
    group by kept.item_id
),

final as (
    select
        cast(row_number() over (order by summary.first_seen, summary.item_id) - 1 as integer) as item,
        summary.item_id,
        first_categories.category_id,
        summary.first_seen,
        summary.events
    from summary
    inner join first_categories on summary.item_id = first_categories.item_id
)

select * from final
