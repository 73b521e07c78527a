-- one row per item
-- item          dense id, 0-based: known items keep theirs, new ones follow by (first_seen, item_id)
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

matched as (
    select
        summary.*,
        first_categories.category_id,
        known_items.item as known
    from summary
    inner join first_categories on summary.item_id = first_categories.item_id
    left join known_items on summary.item_id = known_items.item_id
),

numbered as (
    select
        *,
        row_number() over (partition by known is null order by first_seen, item_id) - 1 as arrival
    from matched
),

final as (
    select
        cast(coalesce(known, getvariable('items_known') + arrival) as integer) as item,
        item_id,
        category_id,
        first_seen,
        events
    from numbered
)

select * from final
