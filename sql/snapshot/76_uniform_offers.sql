-- one row per moment and item drawn for it (view)
-- moment, user, event_time, history_end, wanted   as in 75_moments.sql
-- position    order of the draws
-- candidate   drawn from the catalog of the moment, all items alike
with drawn as (
    select
        moment,
        user,
        event_time,
        history_end,
        wanted,
        catalog,
        seed,
        unnest(range(draws)) as position
    from moments
),

final as (
    select
        moment,
        user,
        event_time,
        history_end,
        wanted,
        position,
        cast(hash(hash(seed, position)) % cast(catalog as ubigint) as integer) as candidate
    from drawn
)

select * from final
