-- one row per event (view); the file is sorted by user, event_time, place
-- user, item, behavior, event_time, place   as in 40_dense.sql
-- hbi_0 .. hbi_7   how often the user had done behavior 0 .. 7 with this item, this event included
-- One running sum counts all behaviors: 16 bits for each. Right while no user has more than 32,767 events with one
-- item (41_heaviest.sql tells), else 43_hbi_counted.sql. Up to four behaviors fit into 64 bits: 42_hbi_narrow.sql.
with running as (
    select
        user,
        item,
        behavior,
        event_time,
        place,
        sum(cast(1 as hugeint) << cast(16 * cast(behavior as integer) as hugeint)) over (
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
        cast((packed >> 48) & 65535 as usmallint) as hbi_3,
        cast((packed >> 64) & 65535 as usmallint) as hbi_4,
        cast((packed >> 80) & 65535 as usmallint) as hbi_5,
        cast((packed >> 96) & 65535 as usmallint) as hbi_6,
        cast((packed >> 112) & 65535 as usmallint) as hbi_7
    from running
)

select * from final
