-- one row per moment and item drawn for it (view)
-- moment, user, event_time, history_end, wanted   as in 75_moments.sql
-- position    order of the draws
-- candidate   the item of a yes of anyone strictly before the moment, each yes alike: popular as it was then
with said as (
    select
        item,
        event_time,
        row_number() over (order by event_time, user, item) - 1 as place
    from feedback
    where label = 1
),

so_far as (
    select
        event_time,
        max(place) + 1 as places
    from said
    group by event_time
),

known as (
    select
        moments.moment,
        moments.user,
        moments.event_time,
        moments.history_end,
        moments.wanted,
        moments.seed,
        moments.draws,
        so_far.places
    from moments
    asof inner join so_far on moments.event_time > so_far.event_time
),

drawn as (
    select
        *,
        unnest(range(draws)) as position
    from known
),

pointed as (
    select
        *,
        cast(hash(hash(seed, position)) % cast(places as ubigint) as bigint) as place
    from drawn
),

final as (
    select
        pointed.moment,
        pointed.user,
        pointed.event_time,
        pointed.history_end,
        pointed.wanted,
        pointed.position,
        said.item as candidate
    from pointed
    inner join said using (place)
)

select * from final
