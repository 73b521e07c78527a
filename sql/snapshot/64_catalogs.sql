-- one row per time at which items were first seen
-- first_seen
-- items   number of items first seen up to that time, so ids below it
with arrivals as (
    select
        first_seen,
        count(*) as arrived
    from items
    group by first_seen
),

final as (
    select
        first_seen,
        cast(sum(arrived) over (order by first_seen) as integer) as items
    from arrivals
)

select * from final
