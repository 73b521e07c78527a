-- one row per user and time with feedback
-- moment, user, event_time
-- history_end   first row of the user at that time: everything before it is strictly earlier
-- catalog       items 0 up to it were known strictly before that time
-- seed          what the draws follow from; nothing at or after that time is in it
-- wanted        how many sampled negatives there should be
-- draws         how many items are drawn to find them, twice as many as it should take, and a few
with given as (
    select
        user,
        event_time,
        count(*) as items,
        sum(label) as positives
    from feedback
    group by user, event_time
),

first_rows as (
    select
        events.user,
        events.event_time,
        min(events.event) as history_end
    from events
    semi join feedback using (user, event_time)
    group by events.user, events.event_time
),

known as (
    select
        given.user,
        given.event_time,
        first_rows.history_end,
        coalesce(catalogs.items, 0) as catalog,
        hash(getvariable('seed'), 'impressions', users.user_id, epoch_us(given.event_time)) as seed,
        cast(getvariable('sampled') * given.positives as bigint) as wanted,
        given.items + case
            when getvariable('excluding') then first_rows.history_end - offsets.first_event
            else 0
        end as excluded
    from given
    inner join first_rows using (user, event_time)
    inner join users on given.user = users.user
    inner join offsets on given.user = offsets.user
    asof left join catalogs on given.event_time > catalogs.first_seen
),

final as (
    select
        row_number() over (order by history_end) - 1 as moment,
        user,
        event_time,
        history_end,
        catalog,
        seed,
        wanted,
        case
            when wanted = 0 or catalog = 0 then 0
            else 10 + cast(ceil(2 * wanted * catalog / greatest(catalog - excluded, catalog / 20)) as bigint)
        end as draws
    from known
)

select * from final
