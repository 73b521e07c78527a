-- one row per target of one split; columns and their meaning: TARGET_COLUMNS of hmar/data/snapshot.py
with first_meetings as (
    select
        user,
        item,
        event as first_event
    from events
    semi join histories using (user, item)
    where met = 1
),

final as (
    select
        row_number() over (order by histories.part, histories.user, histories.event) - 1 as target,
        histories.part,
        histories.user,
        histories.item,
        histories.event,
        histories.event_time,
        histories.history_end,
        coalesce(catalogs.items, 0) as catalog,
        first_meetings.first_event < histories.history_end as repeat,
        histories.history_end = offsets.first_event as cold_user,
        trained_items.item is null as cold_item
    from histories
    inner join offsets on histories.user = offsets.user
    inner join first_meetings on histories.user = first_meetings.user and histories.item = first_meetings.item
    left join trained_items on histories.item = trained_items.item
    asof left join catalogs on histories.event_time > catalogs.first_seen
)

select * from final
