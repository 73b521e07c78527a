-- one row per event (view); columns of 42_hbi_packed.sql
-- One window count per behavior: slower than the packed sum, right up to 65,535 events of a behavior.
with running as (
    select
        *,
        count(*) filter (where behavior = 0) over so_far as hbi_0,
        count(*) filter (where behavior = 1) over so_far as hbi_1,
        count(*) filter (where behavior = 2) over so_far as hbi_2,
        count(*) filter (where behavior = 3) over so_far as hbi_3,
        count(*) filter (where behavior = 4) over so_far as hbi_4,
        count(*) filter (where behavior = 5) over so_far as hbi_5,
        count(*) filter (where behavior = 6) over so_far as hbi_6,
        count(*) filter (where behavior = 7) over so_far as hbi_7
    from dense
    window so_far as (
        partition by user, item
        order by event_time, behavior
        rows between unbounded preceding and current row
    )
),

final as (
    select
        user,
        item,
        behavior,
        event_time,
        place,
        cast(hbi_0 as usmallint) as hbi_0,
        cast(hbi_1 as usmallint) as hbi_1,
        cast(hbi_2 as usmallint) as hbi_2,
        cast(hbi_3 as usmallint) as hbi_3,
        cast(hbi_4 as usmallint) as hbi_4,
        cast(hbi_5 as usmallint) as hbi_5,
        cast(hbi_6 as usmallint) as hbi_6,
        cast(hbi_7 as usmallint) as hbi_7
    from running
)

select * from final
