-- one row per event (view); the file is sorted by user, event_time, place
-- user, item, behavior, event_time, place   as in 40_dense.sql
-- hbi_0 .. hbi_3   how often the user had done behavior 0 .. 3 with this item, this event included
-- 42_hbi_packed.sql for up to four behaviors: a sum of 64 bits is faster than one of 128.
with running as (
    select
        user,
        item,
        behavior,
        event_time,
        place,
        sum(cast(1 as bigint) << cast(16 * cast(behavior as integer) as bigint)) over (
            partition by user, item
            order by event_time, behavior
            rows between unbounded preceding and current row
        ) as packed
    from dense
),

final as (
    select
        user,
        item,
        behavior,
        event_time,
        place,
        cast(packed & 65535 as usmallint) as hbi_0,
        cast((packed >> 16) & 65535 as usmallint) as hbi_1,
        cast((packed >> 32) & 65535 as usmallint) as hbi_2,
        cast((packed >> 48) & 65535 as usmallint) as hbi_3
    from running
)

select * from final
