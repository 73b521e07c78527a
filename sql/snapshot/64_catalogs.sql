-- one row per time at which the catalog grew
-- first_seen
-- items   number of ids n such that all items below n were first seen up to that time
-- Ids follow first_seen but for late rows: an item that a late row brought has its id after the items known by then.
-- The catalog is a range of ids, so it counts such an item from the time on at which the range reaches its id: never
-- before it was seen, and perhaps later.
with reached as (
    select max(first_seen) over (order by item rows between unbounded preceding and current row) as first_seen
    from items
),

arrivals as (
    select
        first_seen,
        count(*) as arrived
    from reached
    group by first_seen
),

final as (
    select
        first_seen,
        cast(sum(arrived) over (order by first_seen) as integer) as items
    from arrivals
)

select * from final
