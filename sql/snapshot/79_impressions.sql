-- one row per moment and item that stands for choice there; columns and their meaning: IMPRESSION_COLUMNS of
-- hmar/data/snapshot.py
with said as (
    select
        moments.moment,
        moments.user,
        moments.event_time,
        moments.history_end,
        feedback.item,
        feedback.label,
        false as sampled
    from feedback
    inner join moments using (user, event_time)
),

drawn as (
    select
        moments.moment,
        moments.user,
        moments.event_time,
        moments.history_end,
        sampled.item,
        cast(0 as utinyint) as label,
        true as sampled
    from sampled
    inner join moments using (moment)
),

final as (
    select * from said
    union all
    select * from drawn
)

select * from final
