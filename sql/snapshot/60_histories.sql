-- one row per target of one split
-- part, user, item, event, event_time   as chosen
-- history_end   first row of the user at the target's time: everything before it is strictly earlier
with first_rows as (
    select
        events.user,
        events.event_time,
        min(events.event) as history_end
    from events
    semi join chosen using (user, event_time)
    group by events.user, events.event_time
),

final as (
    select
        chosen.*,
        first_rows.history_end
    from chosen
    inner join first_rows using (user, event_time)
)

select * from final
